"""Matching the arrays of a weights file to the parameters of a net, by name and shape.

Owns which naming and prefix a file has, and the message if it does not fit; must not
know how a file is laid out (`weight_files`), the namings (`weight_namings`), what
wrappers put before a name (`weight_prefixes`) or how the input of a net is converted
(`weight_input`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Collection, NamedTuple, Sequence

import numpy as np

from xenon_mx.errors import XenonError
from xenon_mx.models import (
    weight_files,
    weight_input,
    weight_names,
    weight_namings,
    weight_prefixes,
    weight_sequential,
)
from xenon_mx.runtime import text
from xenon_mx.runtime.mxnet import gluon, nn

_HEAD = weight_namings.HEAD
_FIRST = "features.0.weight"
_MAX_DETAILS = 20  # another net's weights differ in hundreds of ways
_MAX_NAMES = 3  # of a file of which no name is known


class MismatchError(XenonError):
    """The arrays of a file are not those of a net.

    Attributes:
        file: The file.
        name: The net.
        arrays: Name to array of the file.
    """

    def __init__(
        self,
        file: Path,
        name: str,
        arrays: dict[str, np.ndarray],
        message: str,
        details: Sequence[str] = (),
    ) -> None:
        super().__init__(f"{file}: {message}", details)
        self.file, self.name, self.arrays = file, name, arrays


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
    file: Path,
    name: str,
    net: gluon.Block,
    zoo: gluon.Block,
    sha256: str | None = None,
    pretrained_input: str | None = None,
) -> tuple[dict[str, np.ndarray], weight_input.Taken]:
    """Load the weights of a net from a file, with every array accounted for.

    Where all weights share the prefix of a wrapper, such as `module.`, arrays without
    it belong to the training script and are left out. The last layer may be missing.

    Args:
        file: As for `weight_files.read`.
        name: The net's name in `net_names.NAMES`.
        net: The net.
        zoo: The zoo's net that it was built from.
        sha256: As for `weight_files.read`.
        pretrained_input: The value of --pretrained-input.

    Returns:
        The net's key to float32 array, without `output` unless the file has one logit;
        and how they were taken.

    Raises:
        XenonError: The file cannot be read, does not fit the net, has two arrays for
            the same weight, or does not tell its input.
    """
    arrays = weight_files.read(file, sha256, weight_names.is_weight)
    splits = {each: weight_prefixes.split(each, zoo.prefix) for each in arrays}
    match = _best_match(splits, weight_namings.known_namings(name, net, zoo))
    _check_one_array_per_weight(file, splits, match)
    matched, layout, differences = _compared(arrays, match, net)
    if not matched:
        raise MismatchError(file, name, arrays, _no_weight_message(name, list(arrays)))
    classes = layout.classes
    if differences:
        raise MismatchError(
            *(file, name, arrays, _mismatch_message(name, differences)),
            differences[:_MAX_DETAILS],
        )
    _check_no_thresholds(file, layout)
    _check_variances(file, match, matched)
    chosen = weight_input.choose(file, pretrained_input, layout)
    dropped = () if classes == 1 else _HEAD
    weights = {k: a.astype(np.float32) for k, a in matched.items() if k not in dropped}
    scale_and_offset = weight_input.parse(chosen)
    if scale_and_offset:
        if not _can_fold(net):
            raise XenonError(
                f"{file}: --pretrained-input {chosen}: {name} does not begin with a "
                f"convolution, which alone can be converted to another input"
            )
        weights[_FIRST] = weight_input.fold(matched[_FIRST], *scale_and_offset)
    last_layer = weight_input.KEPT if classes == 1 else weight_input.DRAWN_ANEW
    return weights, weight_input.Taken(last_layer, chosen)


def fits(
    arrays: dict[str, np.ndarray], name: str, net: gluon.Block, zoo: gluon.Block
) -> bool:
    """Return whether the arrays of a file are the weights of a net, all and no others.

    Args:
        arrays: As `MismatchError.arrays`.
        name: The net's name in `net_names.NAMES`.
        net: The net.
        zoo: The zoo's net that it was built from.
    """
    splits = {each: weight_prefixes.split(each, zoo.prefix) for each in arrays}
    match = _best_match(splits, weight_namings.known_namings(name, net, zoo))
    matched, _, differences = _compared(arrays, match, net)
    return bool(matched) and not differences


def _compared(
    arrays: dict[str, np.ndarray], match: _Match, net: gluon.Block
) -> tuple[dict[str, np.ndarray], weight_input.Layout, list[str]]:
    """Return the net's key to array, and the file's layout and differences."""
    matched = _matched(arrays, match)
    layout = _layout(arrays, match, matched)
    return matched, layout, _differences(match, matched, _expected_shapes(net, layout))


def _matched(arrays: dict[str, np.ndarray], match: _Match) -> dict[str, np.ndarray]:
    """Return the net's key to the array of a file, for those that the file has."""
    matched = {
        key: arrays[match.files[n]]
        for key, n in match.naming.items()
        if n in match.files
    }
    head = {k: _as_linear(array) for k, array in matched.items() if k in _HEAD}
    return {**matched, **head}


def _check_variances(file: Path, match: _Match, matched: dict[str, np.ndarray]) -> None:
    """Check that BatchNorm's running variances are variances.

    Of a negative one, MXNet's layer is NaN, which the next ReLU makes 0: the net would
    give every image the same logit, without an error.
    """
    for key, array in matched.items():
        if key.endswith("running_var") and array.min() < 0:
            name = text.one_line(match.files[match.naming[key]])
            raise XenonError(
                f"{file}: {name} holds a negative variance, {array.min():g}: the file "
                f"is damaged, or of a net that was never trained"
            )


def _can_fold(net: gluon.Block) -> bool:
    """Check that a net begins with a convolution, whose weight then is `_FIRST`."""
    return isinstance(net.features[0], nn.Conv2D)


def _expected_shapes(
    net: gluon.Block, layout: weight_input.Layout
) -> dict[str, tuple[int, ...]]:
    """Return the shapes that the arrays of a file must have."""
    shapes = weight_namings.weight_shapes(net, layout.classes)
    if layout.channels == 1 and _can_fold(net):
        shapes[_FIRST] = (shapes[_FIRST][0], 1, *shapes[_FIRST][2:])
    return shapes


def _check_no_thresholds(file: Path, layout: weight_input.Layout) -> None:
    """Check that nothing follows a last layer that is kept."""
    if layout.has_thresholds and layout.classes == 1:
        raise XenonError(
            f"{file}: its {weight_names.THRESHOLDS} change the probability of its one "
            f"class: set net.{weight_names.THRESHOLDS} = None, and save the net again"
        )


def _layout(
    names: Collection[str],
    match: _Match,
    matched: dict[str, np.ndarray],
) -> weight_input.Layout:
    """Return what of a file tells its net's input."""
    first = matched.get(_FIRST)
    return weight_input.Layout(
        channels=first.shape[1] if first is not None and first.ndim == 4 else 3,
        classes=max((len(matched[key]) for key in _HEAD & matched.keys()), default=0),
        has_thresholds=any(map(weight_names.is_thresholds, names)),
        is_numbered=any(map(weight_sequential.is_numbered, match.naming.values())),
        is_backbone=match.prefix.endswith("backbone.") and not match.outside,
    )


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
    head = {match.naming[key] for key in _HEAD & match.naming.keys()}
    expected = names if head & match.files.keys() else names - head
    missing = [f"{match.prefix}{n} is missing" for n in expected - match.files.keys()]
    return [text.one_line(line) for line in (*sorted(wrong), *sorted(missing))]


def _mismatch_message(name: str, differences: list[str]) -> str:
    total = len(differences)
    shown = f", of which {_MAX_DETAILS} are above" if total > _MAX_DETAILS else ""
    return (
        f"does not fit {name}: {total} differences{shown}, such as: "
        f"{differences[0]}; are these the weights of another --model?"
    )


def _no_weight_message(name: str, names: list[str]) -> str:
    first = text.one_line(", ".join(names[:_MAX_NAMES]))
    return (
        f"has no weight of {name}: the first names in it are {first}; are "
        f"these the weights of another --model?"
    )


def _as_linear(array: np.ndarray) -> np.ndarray:
    """Return a 1x1 convolution's weights as those of the equivalent linear layer."""
    return array[:, :, 0, 0] if array.shape[2:] == (1, 1) else array
