"""Matching the arrays of a weights file to the parameters of a net, by name and shape.

Owns the namings that a file may use, and the message if it does not fit; must not know
how a file is laid out (`weight_files`), torchvision's layer names (`weight_names`) or
what wrappers put before a name (`weight_prefixes`).
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from xenon_mx.errors import XenonError
from xenon_mx.models import weight_files, weight_names, weight_prefixes
from xenon_mx.runtime import text
from xenon_mx.runtime.mxnet import gluon

_HEAD = {"output.weight", "output.bias"}
_MAX_DETAILS = 20  # another net's weights differ in hundreds of ways
_MAX_NAMES = 3  # of a file of which no name is known


class _Match(NamedTuple):
    """The naming that explains most of a file, and what it explains.

    Attributes:
        naming: The net's key to the name in files, current and without a prefix.
        prefix: What precedes the names in this file; may be empty.
        files: Name, current and without the prefix, to the name in this file, of each
            array with the prefix.
        outside: The names in this file of the arrays without the prefix.
    """

    naming: dict[str, str]
    prefix: str
    files: dict[str, str]
    outside: list[str]


def load_matching(
    file: Path, name: str, net: gluon.Block, zoo: gluon.Block, sha256: str | None = None
) -> dict[str, np.ndarray]:
    """Load the weights of a net from a file, with every array accounted for.

    Where all weights share the prefix of a wrapper, such as `module.`, arrays without
    it belong to the training script and are left out.

    Args:
        file: As for `weight_files.read`.
        name: The net's name in `network.NAMES`.
        net: The net.
        zoo: The zoo's net that it was built from.
        sha256: As for `weight_files.read`.

    Returns:
        The net's key to float32 array, without `output` unless the file has one logit.

    Raises:
        XenonError: The file cannot be read, does not fit the net, or has two arrays for
            the same weight.
    """
    arrays = weight_files.read(file, sha256)
    splits = {each: weight_prefixes.split(each, zoo.prefix) for each in arrays}
    match = _best_match(splits, known_namings(name, net, zoo))
    _check_one_array_per_weight(file, splits, match)
    matched = {
        key: arrays[match.files[n]]
        for key, n in match.naming.items()
        if n in match.files
    }
    head = {k: _as_linear(array) for k, array in matched.items() if k in _HEAD}
    matched.update(head)
    classes = max(map(len, head.values()), default=0)
    if not matched:
        raise XenonError(_no_weight_message(file, name, list(arrays)))
    differences = _differences(match, matched, weight_shapes(net, classes))
    if differences:
        raise XenonError(
            _mismatch_message(file, name, differences), differences[:_MAX_DETAILS]
        )
    dropped = () if classes == 1 else _HEAD
    return {k: a.astype(np.float32) for k, a in matched.items() if k not in dropped}


def _best_match(
    splits: dict[str, weight_prefixes.Split], namings: list[dict[str, str]]
) -> _Match:
    """Return the naming and the prefix that explain most of a file's names.

    The message about a file that does not fit can then name the rest.
    """
    by_prefix: dict[str, dict[str, str]] = {}
    for name, (prefix, rest) in splits.items():
        if weight_names.is_weight(rest):
            current = weight_names.current_name(rest)
            by_prefix.setdefault(prefix, {})[current] = name
    matches = [
        _Match(naming, prefix, files, _outside(prefix, by_prefix))
        for naming in namings
        for prefix, files in (by_prefix or {"": {}}).items()
    ]
    return max(matches, key=lambda m: len(m.files.keys() & set(m.naming.values())))


def _outside(prefix: str, by_prefix: dict[str, dict[str, str]]) -> list[str]:
    """Return the names in a file of the arrays that do not have a prefix."""
    others = [files for other, files in by_prefix.items() if other != prefix]
    return [name for files in others for name in files.values()]


def _check_one_array_per_weight(
    file: Path, splits: dict[str, weight_prefixes.Split], match: _Match
) -> None:
    """Check that no array of a file could be taken for a weight that another one is.

    Outside the prefix, a name that only ends in that of a weight counts: the average in
    `ema.conv1.weight` may be what the user wants instead of `model.conv1.weight`.
    """
    weights = set(match.naming.values())
    for name, (prefix, rest) in splits.items():
        current = weight_names.current_name(rest)
        ends = [current] if prefix == match.prefix else _ends(current)
        weight = next((end for end in ends if end in weights), None)
        chosen = match.files.get(weight, name) if weight else name
        if chosen != name:
            both = text.one_line(f"{chosen} and {name}")
            raise XenonError(
                f"{file}: two arrays for the same weight, {both}: write a file with "
                f"the arrays of one net only"
            )


def _ends(name: str) -> list[str]:
    """Return a name with dots and what it ends in, the longest first."""
    parts = name.split(".")
    return [".".join(parts[start:]) for start in range(len(parts))]


def _differences(
    match: _Match,
    matched: dict[str, np.ndarray],
    shapes: dict[str, tuple[int, ...]],
) -> list[str]:
    """List how a file differs from a net, with the names in the file first.

    Args:
        match: The names.
        matched: The net's key to array of the file.
        shapes: The net's key to its shape.
    """
    names = set(match.naming.values())
    unknown = [match.files[n] for n in match.files.keys() - names]
    if not weight_prefixes.is_wrapper(match.prefix):
        unknown += match.outside
    wrong = [f"{n} is unknown to the net" for n in unknown]
    for key, array in matched.items():
        own = match.files[match.naming[key]]
        if array.shape != shapes[key]:
            wrong.append(f"{own} is {array.shape}, not {shapes[key]}")
        elif array.dtype.kind != "f":  # quantized: their scale is not known
            wrong.append(f"{own} is of {array.dtype}, not of floating point")
    missing = [f"{match.prefix}{n} is missing" for n in names - match.files.keys()]
    return [text.one_line(line) for line in (*sorted(wrong), *sorted(missing))]


def _mismatch_message(file: Path, name: str, differences: list[str]) -> str:
    total = len(differences)
    shown = f", of which {_MAX_DETAILS} are above" if total > _MAX_DETAILS else ""
    return (
        f"{file}: does not fit {name}: {total} differences{shown}, such as: "
        f"{differences[0]}; are these the weights of another --model?"
    )


def _no_weight_message(file: Path, name: str, names: list[str]) -> str:
    first = text.one_line(", ".join(names[:_MAX_NAMES]))
    return (
        f"{file}: has no weight of {name}: the first names in it are {first}; are "
        f"these the weights of another --model?"
    )


def known_namings(
    name: str, net: gluon.Block, zoo: gluon.Block
) -> list[dict[str, str]]:
    """Return every way in which a file may name a net's weights.

    Args:
        name: The net's name in `network.NAMES`.
        net: The net.
        zoo: The zoo's net that it was built from.

    Returns:
        The net's key to the name in the file: our own, the zoo's, the zoo's before
        MXNet 1.2 and, if torchvision has the net, torchvision's.
    """
    params = zoo._collect_params_with_prefix()
    keys = _zoo_keys(net, zoo)
    namings = [
        {key: key for key in net._collect_params_with_prefix()},
        {keys[k]: k for k in params},
        # Before MXNet 1.2: names without dots, after the net's prefix.
        {keys[k]: param.name[len(zoo.prefix) :] for k, param in params.items()},
    ]
    torch_names = torchvision_names(name, net, zoo)
    return [*namings, torch_names] if torch_names else namings


def torchvision_names(
    name: str, net: gluon.Block, zoo: gluon.Block
) -> dict[str, str] | None:
    """Return the net's key to torchvision's name, or None, as `known_namings` does."""
    rename = weight_names.torchvision_naming(name)
    return rename and {own: rename(key) for key, own in _zoo_keys(net, zoo).items()}


def _zoo_keys(net: gluon.Block, zoo: gluon.Block) -> dict[str, str]:
    """Return the zoo's key of each weight to the net's key."""
    own = {param: key for key, param in net._collect_params_with_prefix().items()}
    # A parameter that the net did not take over belongs to the zoo's last layer.
    return {
        key: own.get(param, "output." + key.split(".")[-1])
        for key, param in zoo._collect_params_with_prefix().items()
    }


def _as_linear(array: np.ndarray) -> np.ndarray:
    """Return a 1x1 convolution's weights as those of the equivalent linear layer."""
    return array[:, :, 0, 0] if array.shape[2:] == (1, 1) else array


def weight_shapes(net: gluon.Block, classes: int) -> dict[str, tuple[int, ...]]:
    """Return the shape of each weight of a net if it had a number of classes."""
    shapes = {k: p.shape for k, p in net._collect_params_with_prefix().items()}
    return {k: (classes, *s[1:]) if k in _HEAD else s for k, s in shapes.items()}
