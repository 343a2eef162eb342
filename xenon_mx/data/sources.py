"""SOURCE of `xenon-pack`: MURA's layout, a manifest, or an archive of DICOM files.

Owns which of them a path is, and how images get their splits; must not know pixels or
records.
"""

from __future__ import annotations

import logging
import os
from dataclasses import replace
from typing import Iterable

from xenon_mx.config import VALID_SHARE, PackConfig
from xenon_mx.data import (
    archive_films,
    contradictions,
    datasets,
    headed_csv,
    manifest,
    mura,
    roots,
)
from xenon_mx.data.datasets import DataSet
from xenon_mx.errors import ConfigError, XenonError
from xenon_mx.runtime import text

_log = logging.getLogger(__name__)


def read_source(config: PackConfig) -> DataSet:
    """List the images of each split, with a label for every one, in record order.

    Raises:
        XenonError: SOURCE is neither, or is incomplete or contradictory.
    """
    data = _read(config)
    if data.is_split and config.valid is not None:
        raise ConfigError("--valid", "has no effect: SOURCE tells the splits itself")
    splits, rules = dict(data.splits), dict(data.rules)
    if not data.is_split:
        share = VALID_SHARE if config.valid is None else config.valid
        _hold_out(config, splits, "valid", share)
        rules["valid"] = rules["train"]
    # In this order, so that --calibration changes neither of the two before it.
    for name in ("holdout", "calibration"):
        share = getattr(config, name)
        if share:
            _hold_out(config, splits, name, share)
            rules[name] = rules["train"]
    if "train" in splits:
        # MURA's CSVs are sorted by study type, and each worker reads a consecutive
        # part of the records.
        splits["train"] = mura.shuffled(
            splits["train"], lambda image: image.path, config.seed
        )
    listed = {name: splits[name] for name in manifest.SPLITS if splits.get(name)}
    return data._replace(splits=listed, rules={name: rules[name] for name in listed})


def _read(config: PackConfig) -> DataSet:
    """Read SOURCE as what it is."""
    if config.source.is_dir() and archive_films.is_archive(config.source):
        return _read_archive(config)
    archive_films.check_unused(config)
    if config.source.is_file():
        return _read_manifest(config)
    return datasets.read_dataset(config.source, config.root)


def _read_manifest(config: PackConfig) -> DataSet:
    """Read a manifest's images, by split."""
    file = config.source
    manifest.check_manifest(file)
    read = manifest.read_manifest(file, config.root)
    if "label" not in read.columns:
        raise XenonError(
            f"{file}: there is no column 'label', which training and validation need, "
            f"only {headed_csv.in_words(read.columns)}"
        )
    datasets.check_listable(read.images)
    names = read.splits or ["train"] * len(read.images)
    splits = _by_split(read.images, names)
    unlabelled = sorted({i.study for i in read.images if i.label is None})
    if unlabelled:
        raise XenonError(
            f"{file}: {text.counted(len(unlabelled), 'study has', 'studies have')} no "
            f"label, which training and validation need",
            unlabelled,
        )
    if not read.patients_known:
        _log.warning(
            "patients unknown: each study counts as a patient of its own, so that "
            "intervals over patients may be too narrow; add a column 'patient'"
        )
    _log.info("images from %s", os.path.abspath(read.folder))
    return DataSet(
        splits=splits,
        rules=dict.fromkeys(splits, read.rule),
        is_split=read.splits is not None,
        patients_known=read.patients_known,
    )


def _read_archive(config: PackConfig) -> DataSet:
    """Read the labelled images of an archive, by split if the labels tell it."""
    if config.labels is None:
        raise ConfigError(
            "--labels",
            "is missing: an archive's DICOM files have no labels; give a CSV with them",
        )
    images, bad = archive_films.read(config, [config.source])
    for each in bad:
        _log.warning("left out: %s: %s", each.name, each.reason)
    told = [image.extra.get("split", "") for image in images]
    names = told if any(told) else ["train"] * len(images)
    wrong = sorted({name for name in names if name not in manifest.SPLITS})
    if wrong:
        raise XenonError(
            f"--labels: the split must be {', '.join(manifest.SPLITS)} in every row, "
            f"not {wrong[0]!r}"
        )
    contradictions.check("--labels", images, names)
    splits = _by_split(map(_without_split, images), names)
    rules = dict.fromkeys(splits, roots.SOURCE)
    return DataSet(splits, rules, is_split=any(told))


def _without_split(image: mura.Image) -> mura.Image:
    extra = {key: cell for key, cell in image.extra.items() if key != "split"}
    return replace(image, extra=extra)


def _by_split(
    images: Iterable[mura.Image], names: Iterable[str]
) -> dict[str, list[mura.Image]]:
    """Return the images of each split, by the name of each image's split."""
    splits: dict[str, list[mura.Image]] = {}
    for image, name in zip(images, names):
        splits.setdefault(name, []).append(image)
    return splits


def _hold_out(
    config: PackConfig, splits: dict[str, list[mura.Image]], name: str, share: float
) -> None:
    """Move a share of the training patients into a split of their own.

    Raises:
        XenonError: There are no training images, or one of the two would be empty.
    """
    source = text.folder_name(config.source)
    if splits.get(name):
        raise ConfigError(
            f"--{name}", f"has no effect: SOURCE tells which images are its {name}"
        )
    if not splits.get("train"):
        raise XenonError(f"{source}: --{name} needs a train split")
    # The holdout's hash is that of 0.1.0, so that its patients stay the same.
    purpose = "" if name == "holdout" else f"{name}\0"
    splits["train"], splits[name] = mura.hold_out(
        splits["train"], share, config.seed, purpose
    )
    if not splits["train"] or not splits[name]:
        raise XenonError(
            f"--{name} {share} leaves a split empty: use another fraction or --seed"
        )
