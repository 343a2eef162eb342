"""The search for a net's first weights: a file, a run, Gluon's model store, the hub.

Owns the order of the search and its error messages. Must not know servers, or the
content of weights files.
"""

from __future__ import annotations

from pathlib import Path
from typing import Sequence

from xenon_mx.errors import ConfigError, XenonError
from xenon_mx.models import torch_config, weight_input
from xenon_mx.models.weight_input import IMAGENET
from xenon_mx.runs.run_folder import Run
from xenon_mx.runs.run_meta import RUN_JSON
from xenon_mx.runtime import progress
from xenon_mx.training.weight_places import (
    GLUON,
    HUB,
    MissingError,
    Place,
    Request,
    Weights,
    places_of,
)


def find(
    model: str,
    wanted: str | None = None,
    bar: progress.Bar = progress.silent,
    pretrained_input: str | None = None,
) -> Weights:
    """Find the first weights of a net.

    Args:
        model: The net's name in Gluon's zoo.
        wanted: A weights file; a run folder, for its best epoch; a folder of
            model.safetensors and config.json; `gluon` or `hub` for that source alone.
            None searches Gluon's cache on this disk, then the hub's, then Gluon's
            store, then the hub.
        bar: Shows the download from Gluon's store; the hub's library has its own bar.
        pretrained_input: The value of --pretrained-input.

    Raises:
        XenonError: There are none; the message lists what was tried and what to do. Or
            their input is another one than `pretrained_input`.
    """
    if wanted not in (None, GLUON, HUB):
        return _from_path(model, Path(str(wanted)), pretrained_input)
    _check_imagenet(pretrained_input, "ImageNet weights: name a file with --pretrained")
    places = [place for place in places_of(model) if wanted in (None, place.source)]
    if not places:
        raise XenonError(
            f"--pretrained {wanted or ''}: there are no ImageNet weights of {model} "
            f"there; xenon-train --list-models lists the sources of each net"
        )
    reasons: list[str] = []
    weights = _from_caches(places, reasons) or _from_servers(places, bar, reasons)
    if weights:
        return weights
    advice = ", or ".join(place.advice for place in reversed(places))
    raise XenonError(
        f"{model}: no ImageNet weights can be found or downloaded: {advice}, and name "
        f"the file with --pretrained; or start from random weights with "
        f"--no-pretrained",
        reasons,
    )


def _check_imagenet(pretrained_input: str | None, source: str) -> None:
    """Check that no other input was given for weights whose input is known."""
    if pretrained_input not in (None, IMAGENET):
        raise ConfigError(
            "--pretrained-input", f"{pretrained_input} contradicts {source}"
        )


def _from_caches(places: Sequence[Place], reasons: list[str]) -> Weights | None:
    """Return the first weights on this disk; append to `reasons` why there are none."""
    for place in places:
        try:
            return place.cached()
        except MissingError as reason:
            reasons.append(f"{place.source}, on this disk: {reason}")
    return None


def _from_servers(
    places: Sequence[Place], bar: progress.Bar, reasons: list[str]
) -> Weights | None:
    """Download from the first server that answers; append to `reasons` why none did."""
    checks = [Request(place.check_server) for place in places]
    for place, check in zip(places, checks):
        try:
            check.wait()
            return place.download(bar)
        except MissingError as reason:
            reasons.append(f"{place.source}: {reason}")
    return None


def sources(model: str) -> list[str]:
    """Return the sources of a net's ImageNet weights: `gluon`, `hub`, both or none."""
    return [place.source for place in places_of(model)]


def _from_path(model: str, path: Path, pretrained_input: str | None) -> Weights:
    """Return the file at a path, or in the folder or the run there."""
    if not (path / RUN_JSON).is_file() and torch_config.is_folder(path):
        torch_config.check_architecture(path, model)
        given = _input_of_folder(path, pretrained_input)
        return Weights(path / torch_config.WEIGHTS, "file", str(path), given)
    if path.is_dir():
        _check_imagenet(pretrained_input, f"--pretrained {path}, a run of xenon")
        members = Run.open(path).members()
        if not members:
            raise XenonError(f"{path}: the run has no finished epoch to start from")
        return _from_run(model, path, members[0].params)
    if not path.is_file():
        raise XenonError(
            f"--pretrained {path}: no such file or run; other values are {GLUON!r} and "
            f"{HUB!r}"
        )
    run = path.resolve().parent.parent
    if path.suffix == ".params" and (run / RUN_JSON).is_file():
        _check_imagenet(pretrained_input, f"--pretrained {path}, of a run of xenon")
        return _from_run(model, run, path)
    return Weights(path, "file", str(path), pretrained_input)


def _input_of_folder(folder: Path, given: str | None) -> str | None:
    """Return the input of a folder's net, by config.json or else as it is given."""
    told = torch_config.pretrained_input(folder)
    if given and told and weight_input.canonical(given) != told:
        raise ConfigError(
            "--pretrained-input",
            f"{given} contradicts {folder / torch_config.CONFIG_JSON}, whose mean and "
            f"std are those of {told}; if that is wrong, name the weights file alone, "
            f"{folder / torch_config.WEIGHTS}",
        )
    return told or given


def _from_run(model: str, folder: Path, params: Path) -> Weights:
    """Return a checkpoint of a run, checked against its SHA-256."""
    run = Run.open(folder)
    if run.meta.model != model:
        raise XenonError(
            f"--pretrained {params}: of a run of {run.meta.model}, not of {model}: use "
            f"--model {run.meta.model}, or name other weights"
        )
    for member in run.members():
        if member.params.resolve() == params.resolve():
            member.check()
    foreign = run.meta.may_have_seen_any
    return Weights(params, "run", str(params), began_elsewhere=foreign)
