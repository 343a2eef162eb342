"""A data set on disk: its folders and its CSVs, read into images with labels.

Owns where the files of a data set are and what its CSVs say. Knows no pixels, no
records and no nets.
"""

from __future__ import annotations

import logging
import os
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Iterator, Sequence

import pandas as pd

from xenon_mx.data.mura import SPLITS, Image, parse, study_type_index
from xenon_mx.dicom import reader as dicom
from xenon_mx.errors import XenonError

_log = logging.getLogger(__name__)

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".dcm")
_START = 132  # bytes, of which `dicom` tells its own
# What would break a line of a .lst file; Python decodes stray bytes to surrogates.
_UNLISTABLE = re.compile("[\\t\\n\\r\\ud800-\\udfff]")
_PROBES = 64  # paths looked up to find a CSV's root: enough to meet every body part


def read_dataset(source: Path, root: Path | None = None) -> dict[str, list[Image]]:
    """List the images of each split of a data set, with a label for every one.

    Args:
        source: MURA's root: its CSVs rule, and a split without one is walked.
        root: Where the CSVs' paths start; None looks for it.

    Returns:
        Split name to images, in the order of the CSV or, walked, of the names.

    Raises:
        XenonError: No split is there, or labels are missing or contradictory.
    """
    if not source.is_dir():
        raise XenonError(f"{source}: no such folder; give the root of MURA-v1.1")
    splits = {}
    for split in SPLITS:
        listed = source / f"{split}_image_paths.csv"
        if listed.is_file():
            images = read_paths(listed, root)
        elif (source / split).is_dir():
            images = read_folder(source.resolve() / split)
        else:
            continue
        splits[split] = _labelled(images, source / f"{split}_labeled_studies.csv")
    if not any(splits.values()):
        raise XenonError(
            f"{source}: no images: expected train_image_paths.csv and "
            f"valid_image_paths.csv, or folders train/XR_*/ and valid/XR_*/"
        )
    return splits


def read_paths(csv: Path, root: Path | None = None) -> list[Image]:
    """Read a CSV of image paths, as MURA and its competition write it.

    Args:
        csv: One path a line, without a header.
        root: Where the paths start. None tries the working directory, the CSV's
            folder and its parent, each also with the leading `MURA-v1.1/` dropped,
            and takes the one under which most of the paths are found.

    Raises:
        XenonError: The CSV cannot be read, names an image twice, names a path that
            leaves the root, or none of its images is there.
    """
    paths = [row[0] for row in _rows(csv, columns=1)]
    twice = [path for path, n in Counter(paths).items() if n > 1]
    if twice:
        raise XenonError(f"{csv}: {len(twice)} images are listed twice", twice)
    outside = [path for path in paths if _leaves(path, root)]
    if outside:
        raise XenonError(
            f"{csv}: {len(outside)} paths leave the root; absolute paths need --root",
            outside,
        )
    return [parse(path, file) for path, file in zip(paths, _resolve(paths, csv, root))]


def read_folder(folder: Path) -> list[Image]:
    """List the images below a folder, in natural order, hidden files left out.

    What has the suffix of an image is one, and so is a DICOM file of any other name.
    """
    files = sorted(_walk(folder), key=natural_key)
    return [read_file(file) for file in files if _is_image(file, below=folder)]


def read_file(file: Path) -> Image:
    """Name one image file as MURA does, wherever in the data set it is asked for from.

    Such a name starts two folders above `XR_*` (`MURA-v1.1/valid/XR_WRIST/...`);
    outside MURA's layout it is the path as given.
    """
    parts = Path(os.path.abspath(file)).parts
    index = study_type_index(parts[:-3])
    if index is None:
        return parse(file.as_posix(), file)
    return parse("/".join(parts[max(1, index - 2) :]), file)


def natural_key(path: Path) -> list[tuple[bool, int | str]]:
    """A sort key that puts image2 before image10, and tells image01 from image1."""
    name = path.as_posix()
    pieces = re.split(r"([0-9]+)", name)
    keys = [(at % 2 == 1, int(p) if at % 2 else p) for at, p in enumerate(pieces)]
    return [*keys, (False, name)]


def _rows(csv: Path, columns: int) -> list[tuple[str, ...]]:
    """Read a headerless CSV of text with an exact number of columns."""
    try:
        table = pd.read_csv(
            csv, header=None, dtype=str, keep_default_na=False, encoding="utf-8-sig"
        )
    except pd.errors.EmptyDataError:
        raise XenonError(f"{csv}: the file is empty") from None
    except (OSError, UnicodeDecodeError, pd.errors.ParserError) as error:
        reason = str(error).strip()  # pandas ends some with a newline
        raise XenonError(f"{csv}: cannot be read as CSV: {reason}") from error
    if table.shape[1] != columns:
        raise XenonError(
            f"{csv}: expected {columns} column{'s' * (columns > 1)} without a header, "
            f"got {table.shape[1]}"
        )
    return list(table.itertuples(index=False, name=None))


def _leaves(path: str, root: Path | None) -> bool:
    """Tell whether a path of a CSV points outside its root."""
    pure = PurePosixPath(path)
    if ".." in pure.parts:
        return True
    return pure.is_absolute() and (
        root is None or root.resolve() not in Path(path).resolve().parents
    )


def candidate_roots(csv: Path, root: Path | None) -> list[tuple[Path, bool]]:
    """List where paths of a CSV may start: a folder, and what `join_root` is to drop.

    Args:
        csv: The file that names the paths.
        root: The folder, where it is known. None tries the working directory, the
            CSV's folder and its parent.
    """
    folder = csv.absolute().parent
    bases = [root] if root is not None else [Path(), folder, folder.parent]
    return [(base, drop) for base in bases for drop in (False, True)]


def join_root(base: Path, path: str, drop: bool) -> Path:
    """Put a root before a path; an absolute path stays as it is.

    Args:
        base: The root.
        path: As a CSV writes it.
        drop: Leave out its first folder: the data set's old name.
    """
    pure = PurePosixPath(path)
    drops = drop and len(pure.parts) > 1 and not pure.is_absolute()
    return base.joinpath(*pure.parts[drops:])


def _resolve(paths: Sequence[str], csv: Path, root: Path | None) -> list[Path]:
    """Find the root that a CSV's paths start from, and put it before them."""
    possible = candidate_roots(csv, root)
    probes = paths[:: max(1, len(paths) // _PROBES)]
    best, found = possible[0], (0, 0)
    for base, drop in possible:
        hits = _hits([join_root(base, path, drop) for path in probes], base)
        if hits > found:
            best, found = (base, drop), hits
    if found == (0, 0):
        places = ", ".join(dict.fromkeys(str(base.resolve()) for base, _ in possible))
        raise XenonError(
            f"{csv}: none of its {len(paths)} images was found, such as {paths[0]}; "
            f"looked below {places}; name the right folder with --root"
        )
    base, drop = best
    files = [join_root(base, path, drop) for path in paths]
    inside = base.resolve()
    astray = [p for p, f in zip(paths, files) if inside not in f.resolve().parents]
    if astray:
        raise XenonError(
            f"{csv}: {len(astray)} links lead out of {inside}; name the folder that "
            f"holds links and files with --root",
            astray,
        )
    return files


def _hits(files: Sequence[Path], base: Path) -> tuple[int, int]:
    """Count the files that are there, and those of them that no link leads away."""
    there = [file for file in files if file.is_file()]
    inside = base.resolve()
    return len(there), sum(inside in file.resolve().parents for file in there)


def _walk(folder: Path) -> Iterator[Path]:
    """Yield every file below a folder, through links, each real folder once."""

    def stop(error: OSError) -> None:  # os.walk would leave the folder out
        reason = os.strerror(error.errno or 0)
        raise XenonError(f"{error.filename}: {reason}") from error

    seen = set()
    for place, folders, files in os.walk(folder, onerror=stop, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:  # a link back to where it came from
            folders.clear()
            continue
        seen.add(real)
        yield from (Path(place, file) for file in files)


def _is_image(file: Path, below: Path) -> bool:
    """Tell an image file from what macOS leaves beside one (`._image1.png`)."""
    parts = file.relative_to(below).parts
    hidden = any(part.startswith((".", "__MACOSX")) for part in parts)
    if hidden or file.name.upper() == "DICOMDIR":  # which lists the images of a medium
        return False
    return file.suffix.lower() in SUFFIXES or _is_dicom(file)


def _is_dicom(file: Path) -> bool:
    """Tell a DICOM file by its start: `IM000001`, `1.2.840.10008.A5` or `1.ima`.

    Where a suffix says another format, only the preamble counts; a first data element
    alone is looked for in files without a suffix, or with one of digits.
    """
    if not file.is_file():  # a pipe, say
        return False
    try:
        with file.open("rb", buffering=0) as opened:  # no more than is looked at
            start = opened.read(_START)
    except OSError:
        return True  # whoever reads it will say what is wrong with it
    named = file.suffix and not file.suffix[1:].isdigit()
    return dicom.has_preamble(start) if named else dicom.is_dicom(start)


def _labelled(images: Sequence[Image], csv: Path) -> list[Image]:
    """Give every image its study's label, from the CSV when there is one."""
    lost = [image.path for image in images if not image.study_type]
    if lost:
        raise XenonError(
            f"{len(lost)} images lie outside XR_*/patient*/study*/ and have no study",
            lost,
        )
    refuse_odd_names(images)
    if csv.is_file():
        images = _with_labels(images, _read_labels(csv), csv)
    unknown = sorted({image.study for image in images if image.label is None})
    if unknown:
        raise XenonError(
            f"{len(unknown)} studies have no label: neither in {csv.name} nor as "
            f"_positive or _negative in the folder's name",
            unknown,
        )
    return list(images)


def refuse_odd_names(images: Sequence[Image]) -> None:
    """Stop at paths that no list or CSV could hold."""
    odd = [ascii(image.path) for image in images if _UNLISTABLE.search(image.path)]
    if odd:
        raise XenonError(
            f"{len(odd)} images have a tab, a line break or bytes that are no UTF-8 in "
            f"their path; rename them",
            odd,
        )


def _with_labels(
    images: Sequence[Image], labels: dict[str, int], csv: Path
) -> list[Image]:
    """Apply the CSV's labels, refusing those that the folders' names contradict."""
    studies = {_tail(image.study): image.study for image in images}
    absent = sorted(study for tail, study in studies.items() if tail not in labels)
    if absent:
        raise XenonError(f"{csv}: {len(absent)} studies have no label in it", absent)
    alone = sorted(labels.keys() - studies.keys())
    if alone:
        _log.warning(
            "%s: %d labelled studies have no image, such as %s",
            csv,
            len(alone),
            alone[0],
        )
    result = [replace(image, label=labels[_tail(image.study)]) for image in images]
    against = sorted(
        {
            f"{old.study} is {new.label} in the CSV"
            for old, new in zip(images, result)
            if old.label is not None and old.label != new.label
        }
    )
    if against:
        raise XenonError(
            f"{csv}: {len(against)} labels contradict the folder's _positive or "
            f"_negative; correct the one that is wrong",
            against,
        )
    return result


def _read_labels(csv: Path) -> dict[str, int]:
    """Read `study/,label` rows into labels by the study's tail."""
    labels: dict[str, int] = {}
    for number, (study, label) in enumerate(_rows(csv, columns=2), 1):
        if label not in ("0", "1"):
            raise XenonError(f"{csv}:{number}: the label must be 0 or 1, not {label!r}")
        if labels.setdefault(_tail(study), int(label)) != int(label):
            raise XenonError(f"{csv}:{number}: {study} has both labels")
    return labels


def _tail(study: str) -> str:
    """Return a study's path from `XR_*` on, whatever the data set is called."""
    parts = PurePosixPath(study).parts
    return "/".join(parts[study_type_index(parts) or 0 :])
