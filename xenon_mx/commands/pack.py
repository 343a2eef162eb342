"""xenon-pack: from a folder of radiographs to a packed folder.

Puts `mura`, `images` and `records` together. Knows no command line and no net.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Callable, Iterable, Iterator

from xenon_mx import __version__
from xenon_mx.config import PackConfig
from xenon_mx.data import datasets, images, mura, pack_meta, pack_writer, packed_folder
from xenon_mx.errors import XenonError
from xenon_mx.runtime import progress, threads

_log = logging.getLogger(__name__)

_SAMPLE = 16  # images encoded to estimate the disk that all will need
_DISK_MARGIN = 1.1  # chosen here: the estimate is off by a few per cent


@dataclass(frozen=True)
class _Encoded:
    """An image ready to be written, or the reason why it cannot be."""

    image: mura.Image
    data: bytes
    source_sha256: str
    error: str | None


@dataclass(frozen=True)
class _Written:
    """What became of one split."""

    summary: pack_meta.SplitMeta
    good: list[mura.Image]
    bad: list[_Encoded]


def pack(
    config: PackConfig, bar: progress.Bar = progress.silent
) -> packed_folder.PackedFolder:
    """Write the packed folder of a data set.

    Args:
        config: What `xenon-pack` was told.
        bar: Shows the images done.

    Raises:
        XenonError: The data set is incomplete or contradictory, or the disk is too
            small. OUT is then as it was.
    """
    if config.out.resolve() == config.source.resolve():
        raise XenonError(f"{config.out}: is the data set itself; name another folder")
    splits = _read_splits(config)
    everything = [image for listed in splits.values() for image in listed]
    types = sorted({image.study_type for image in everything})
    fingerprint = hashlib.sha256()
    with pack_writer.PackTransaction(config.out, config.overwrite) as out:
        _check_disk(config, everything)
        written = {}
        with bar(total=len(everything), unit="img", desc="packing") as shown:
            for name, listed in splits.items():
                encoded = threads.map_in_order(_encoder(config), listed, config.threads)
                encoded = _watched(encoded, shown, fingerprint)
                written[name] = _write(out.folder, name, types, listed, encoded)
        _answer_for_bad(written, config.skip_bad)
        meta = _describe(config, types, written, fingerprint.hexdigest())
        _warn_of_lone_classes(meta)
        return out.commit(meta)


def _read_splits(config: PackConfig) -> dict[str, list[mura.Image]]:
    """List the images of each split in record order."""
    splits = datasets.read_dataset(config.source, config.root)
    _warn_of_leakage(splits)
    if config.holdout:
        if not splits.get("train"):
            raise XenonError(f"{config.source}: --holdout needs a train split")
        splits["train"], splits["holdout"] = mura.hold_out(
            splits["train"], config.holdout, config.seed
        )
        if not splits["train"] or not splits["holdout"]:
            raise XenonError(
                f"--holdout {config.holdout} of the patients in {config.source} "
                f"leaves a split empty; try another share or --seed"
            )
    if "train" in splits:
        # MURA's CSVs are grouped by study type, and workers read consecutive parts.
        splits["train"] = mura.shuffled(
            splits["train"], lambda image: image.path, config.seed
        )
    return {name: each for name, each in splits.items() if each}


def _warn_of_leakage(splits: dict[str, list[mura.Image]]) -> None:
    patients = [{i.patient for i in splits.get(name, [])} for name in mura.SPLITS]
    both = sorted(patients[0] & patients[1])
    if both:
        _log.warning(
            "%d patients, such as %s, are in both train and valid: figures on valid "
            "will look better than they are",
            len(both),
            both[0],
        )


def _check_disk(config: PackConfig, everything: list[mura.Image]) -> None:
    """Say what the packed folder will need, and stop if the disk has less."""
    sample = everything[:: max(1, len(everything) // _SAMPLE)]
    sizes = [len(e.data) for e in map(_encoder(config), sample) if e.error is None]
    if not sizes:
        return  # packing itself will say what is wrong with every one of them
    needed = round(sum(sizes) / len(sizes) * len(everything))
    free = shutil.disk_usage(config.out).free
    _log.info(
        "%d images, about %s of disk (%s free)",
        len(everything),
        _bytes(needed),
        _bytes(free),
    )
    if needed * _DISK_MARGIN > free:
        raise XenonError(
            f"{config.out}: the disk has {_bytes(free)} free, but about "
            f"{_bytes(needed)} are needed"
        )


def _bytes(number: float) -> str:
    for unit in ("B", "KB", "MB"):
        if number < 1000:
            return f"{number:.0f} {unit}"
        number /= 1000
    return f"{number:.1f} GB"


def _encoder(config: PackConfig) -> Callable[[mura.Image], _Encoded]:
    """Make the function that turns one image file into one record's image."""

    def encode(image: mura.Image) -> _Encoded:
        try:
            data = images.read(image.file)
            gray = images.decode(data, image.file)
        except XenonError as error:
            return _Encoded(image, b"", "", str(error))
        square = images.fit_square(gray, config.size, config.fit)
        encoded = images.encode(square, config.encoding, config.quality)
        return _Encoded(image, encoded, hashlib.sha256(data).hexdigest(), None)

    return encode


def _watched(
    encoded: Iterable[_Encoded], shown: Any, fingerprint: Any
) -> Iterator[_Encoded]:
    """Pass images on, counting them on the bar and into the source's fingerprint."""
    for each in encoded:
        line = f"{each.image.path}\t{each.image.label}\t{each.source_sha256}\n"
        fingerprint.update(line.encode())
        yield each
        shown.update()


def _write(
    folder: Path,
    name: str,
    types: list[str],
    listed: list[mura.Image],
    encoded: Iterable[_Encoded],
) -> _Written:
    """Write one split."""
    studies = {s: i for i, s in enumerate(dict.fromkeys(i.study for i in listed))}
    good, bad = [], []
    with pack_writer.SplitWriter(folder, name) as writer:
        for each in encoded:
            if each.error is not None:
                bad.append(each)
                continue
            image = each.image
            kind, study = types.index(image.study_type), studies[image.study]
            row = packed_folder.RecordLabels(
                int(image.label or 0), kind, study, image.path
            )
            writer.add(each.data, row)
            good.append(image)
        return _Written(writer.summary(_counts(good, bad)), good, bad)


def _answer_for_bad(written: dict[str, _Written], skip_bad: bool) -> None:
    """Stop when images were unreadable, unless they may be left out."""
    errors = [each.error or "" for split in written.values() for each in split.bad]
    if errors and not skip_bad:
        raise XenonError(
            f"{len(errors)} images cannot be read; mend them, or leave them out with "
            f"--skip-bad",
            errors,
        )
    for error in errors:
        _log.warning("left out: %s", error)
    for name, split in written.items():
        if not split.good:
            raise XenonError(f"the {name} split has no image that can be read")


def _describe(
    config: PackConfig, types: list[str], written: dict[str, _Written], source: str
) -> pack_meta.PackMeta:
    """Build pack.json: nothing in it depends on when, where or how fast it was made."""
    train = written["train"].good if "train" in written else []
    return pack_meta.PackMeta(
        xenon=__version__,
        size=config.size,
        fit=config.fit,
        encoding=config.encoding,
        quality=config.quality if config.encoding == "jpg" else None,
        seed=config.seed,
        holdout=config.holdout,
        source_sha256=source,
        study_types=tuple(types),
        weights={name: counts.weights for name, counts in mura.count(train).items()},
        pooled_weights=mura.count_all(train).weights if train else None,
        splits={name: split.summary for name, split in written.items()},
        skipped=tuple(
            pack_meta.SkippedImage(name, image.image.path, _reason(image))
            for name, split in written.items()
            for image in split.bad
        ),
    )


def _counts(
    good: list[mura.Image], bad: list[_Encoded]
) -> dict[str, pack_meta.TypeCounts]:
    """Count what was packed, and what is missing, of each study type."""
    counts = mura.count(good)
    missing = Counter(each.image.study_type for each in bad)
    nothing = mura.Counts(0, 0, 0, 0)
    return {
        name: pack_meta.TypeCounts(
            **asdict(counts.get(name, nothing)), missing=missing[name]
        )
        for name in sorted({*counts, *missing})
    }


def _reason(bad: _Encoded) -> str:
    return (bad.error or "").replace(f"{bad.image.file}: ", "")


def _warn_of_lone_classes(meta: pack_meta.PackMeta) -> None:
    """Say which study types cannot be trained with the paper's weights."""
    for name in meta.study_types if meta.weights else ():
        if 0.0 in meta.weights.get(name, (0.0, 0.0)):
            _log.warning(
                "%s: the training images do not hold both classes: its weights are 0 "
                "by the paper's formula; train with --pooled-weights or --loss plain",
                name,
            )
