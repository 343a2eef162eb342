"""xenon-pack: from a folder of radiographs to a packed folder.

Owns the order of the work, the order of the records, and the content of pack.json. Must
not know the command line or nets.
"""

from __future__ import annotations

import hashlib
import itertools
import logging
from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any, Callable, Iterable, Iterator

from xenon_mx import __version__
from xenon_mx.commands import recognition
from xenon_mx.config import PackConfig
from xenon_mx.data import (
    datasets,
    images,
    manifest,
    mura,
    pack_meta,
    pack_writer,
    packed_folder,
    single_classes,
    sources,
)
from xenon_mx.errors import FileError, XenonError
from xenon_mx.runtime import disk_space, progress, text, threads

_log = logging.getLogger(__name__)

_PROBES = 16  # images encoded to estimate the disk space for all
_DISK_MARGIN = 1.1  # chosen here: the estimate is off by a few per cent


@dataclass(frozen=True)
class _Encoded:
    """An encoded image, or the error of one that cannot be read."""

    image: mura.Image
    data: bytes
    source_sha256: str
    error: FileError | None


@dataclass(frozen=True)
class _Written:
    """The outcome of one split: images written, and images left out."""

    summary: pack_meta.SplitMeta
    good: list[mura.Image]
    bad: list[tuple[mura.Image, FileError]]


def pack(
    config: PackConfig, bar: progress.Bar = progress.silent
) -> packed_folder.PackedFolder:
    """Write the packed folder of a data set.

    Args:
        config: The settings of `xenon-pack`.
        bar: Shows the images done.

    Raises:
        XenonError: The data set is incomplete or contradictory, or the disk is too
            small. OUT is left unchanged.
    """
    if config.out.resolve() == config.source.resolve():
        name = text.folder_name(config.out)
        raise XenonError(f"{name}: is the data set itself; name another folder")
    recognition.check_pack(config.source, config.out)
    data = sources.read_source(config)
    splits = data.splits
    _check_patients(splits)
    all_images = [image for listed in splits.values() for image in listed]
    types = sorted({image.study_type for image in all_images})
    fingerprint, oddities = hashlib.sha256(), images.Oddities()
    with pack_writer.PackTransaction(config.out, config.overwrite) as out:
        _check_disk(config, all_images)
        written = {}
        with bar(total=len(all_images), unit="img", desc="packing") as progress_bar:
            for name, listed in splits.items():
                encode = _encoder(config, oddities)
                encoded = threads.map_in_order(encode, listed, config.threads)
                encoded = _track(encoded, progress_bar, fingerprint)
                with pack_writer.SplitWriter(out.folder, name) as writer:
                    written[name] = _write_split(writer, types, listed, encoded)
        _check_bad(written, config.skip_bad)
        oddities.log()
        meta = _describe(config, types, written, fingerprint.hexdigest(), data)
        _warn_of_single_classes(meta)
        return out.commit(meta)


def _check_patients(splits: dict[str, list[mura.Image]]) -> None:
    """Log a warning if a data set's own folders or CSVs have a patient in two splits.

    A manifest and the labels of an archive cannot: see `contradictions.check`.

    Raises:
        XenonError: A patient to calibrate on is also in another split.
    """
    patients = {
        name: {image.patient_or_study for image in listed}
        for name, listed in splits.items()
    }
    for one, other in itertools.combinations(patients, 2):
        shared = sorted(patients[one] & patients[other])
        if not shared:
            continue
        counted = text.counted(len(shared), "patient is", "patients are")
        where = f"{counted} in both {one} and {other}, such as {shared[0]}"
        if "calibration" in (one, other):
            raise XenonError(
                f"{where}: a split for calibration shares no patient: correct the data "
                f"set's own splits, or pack without --calibration"
            )
        _log.warning("%s: metrics on %s will be too good", where, other)


def _check_disk(config: PackConfig, all_images: list[mura.Image]) -> None:
    """Log the estimated size of the packed folder, and check that the disk has it."""
    probes = all_images[:: max(1, len(all_images) // _PROBES)]
    sizes = [
        len(e.data)
        for e in map(_encoder(config, images.Oddities()), probes)
        if e.error is None
    ]
    if not sizes:
        return  # none can be read: packing reports each with its reason
    needed = round(sum(sizes) / len(sizes) * len(all_images))
    _log.info(
        "%s, about %s of disk (%s free)",
        text.counted(len(all_images), "image"),
        text.format_bytes(needed),
        text.format_bytes(disk_space.free(config.out)),
    )
    disk_space.check(config.out, needed, _DISK_MARGIN)


def _encoder(
    config: PackConfig, oddities: images.Oddities
) -> Callable[[mura.Image], _Encoded]:
    """Return the function that reads an image file and encodes its packed square."""

    def encode(image: mura.Image) -> _Encoded:
        try:
            data = images.read(image.file, image.name)
            gray = images.decode(data, image.name)
        except FileError as error:
            return _Encoded(image, b"", "", error)
        oddities.add(data)
        square = images.fit_square(gray, config.size, config.fit)
        encoded = images.encode(square, config.encoding, config.quality)
        return _Encoded(image, encoded, hashlib.sha256(data).hexdigest(), None)

    return encode


def _track(
    encoded: Iterable[_Encoded], progress_bar: Any, fingerprint: Any
) -> Iterator[_Encoded]:
    """Yield images, advancing the bar and the SHA-256 of the source."""
    for item in encoded:
        line = f"{item.image.path}\t{item.image.label}\t{item.source_sha256}\n"
        fingerprint.update(line.encode())
        yield item
        progress_bar.update()


def _write_split(
    writer: pack_writer.SplitWriter,
    types: list[str],
    listed: list[mura.Image],
    encoded: Iterable[_Encoded],
) -> _Written:
    """Write the records of one split."""
    studies = {s: i for i, s in enumerate(dict.fromkeys(i.study for i in listed))}
    good, bad = [], []
    for item in encoded:
        image = item.image
        if item.error is not None:
            bad.append((image, item.error))
            continue
        labels = packed_folder.RecordLabels(
            abnormal=int(image.label or 0),
            study_type=types.index(image.study_type),
            study=studies[image.study],
            path=image.path,
        )
        writer.add(item.data, labels)
        good.append(image)
    if not all(map(mura.is_told_by_path, good)):
        writer.add_manifest(manifest.to_csv(good))
    return _Written(writer.summary(_counts(good, bad)), good, bad)


def _check_bad(written: dict[str, _Written], skip_bad: bool) -> None:
    """Raise an error for images that cannot be read, unless they may be left out."""
    bad = [each for split in written.values() for each in split.bad]
    if bad and not skip_bad:
        raise XenonError(
            f"{text.counted(len(bad), 'image')} cannot be read: repair what is listed "
            f"above, or leave it out with --skip-bad",
            text.summarised([(error.path, error.reason) for _, error in bad], "image"),
        )
    for _, error in bad:
        _log.warning("left out: %s", error)
    for study in _lost_studies(written):
        _log.warning("left out whole: %s: none of its images can be read", study)
    for name, split in written.items():
        if not split.good:
            raise XenonError(f"the {name} split has no readable image")


def _lost_studies(written: dict[str, _Written]) -> list[str]:
    """Return the studies of which no image can be read."""
    good = {image.study for split in written.values() for image in split.good}
    bad = (image.study for split in written.values() for image, _ in split.bad)
    return [study for study in dict.fromkeys(bad) if study not in good]


def _describe(
    config: PackConfig,
    types: list[str],
    written: dict[str, _Written],
    source: str,
    data: datasets.DataSet,
) -> pack_meta.PackMeta:
    """Return the content of pack.json, which depends only on data set and settings."""
    train = written["train"].good if "train" in written else []
    return pack_meta.PackMeta(
        xenon=__version__,
        size=config.size,
        fit=config.fit,
        encoding=config.encoding,
        quality=config.quality if config.encoding == "jpg" else None,
        seed=config.seed,
        holdout=config.holdout,
        calibration=config.calibration,
        source_sha256=source,
        study_types=tuple(types),
        weights={name: counts.weights for name, counts in mura.count(train).items()},
        pooled_weights=mura.count_all(train).weights if train else None,
        splits={name: split.summary for name, split in written.items()},
        skipped=tuple(
            pack_meta.SkippedImage(name, image.path, error.reason)
            for name, split in written.items()
            for image, error in split.bad
        ),
        images_from={name: data.rules[name] for name in written},
        patients_known=data.patients_known,
    )


def _counts(
    good: list[mura.Image], bad: list[tuple[mura.Image, FileError]]
) -> dict[str, pack_meta.TypeCounts]:
    """Count the packed and the missing images of each study type."""
    counts = mura.count(good)
    missing = Counter(image.study_type for image, _ in bad)
    zero = mura.Counts(0, 0, 0, 0)
    return {
        name: pack_meta.TypeCounts(
            **asdict(counts.get(name, zero)), missing=missing[name]
        )
        for name in sorted({*counts, *missing})
    }


def _warn_of_single_classes(meta: pack_meta.PackMeta) -> None:
    """Log what cannot be trained with the paper's weights, or evaluated."""
    pooled = meta.pooled_weights
    if pooled is not None:
        remedy = single_classes.remedy_of_weights(pooled)
        for name in mura.single_class_types(meta.study_types, meta.weights):
            _log.warning(
                "%s: the training images do not hold both classes, so that a weight is "
                "0 by the paper's formula; %s",
                name,
                remedy,
            )
    for name in meta.splits:
        warning = single_classes.warning_of_split(meta, name)
        if warning and name != "train":
            _log.warning("%s", warning)
