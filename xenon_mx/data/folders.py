"""The image files of a folder, and what else lies in it.

Owns how image files are told from other files, by their names and first bytes; must not
know CSVs, labels or pixels.

An image that can be read when it is named is also found in a folder: a file whose
suffix says nothing is known by its first bytes. What is no image is counted by its
kind, so that a view in a format that is not read does not vanish without a word.
"""

from __future__ import annotations

import logging
import os
import re
from collections import Counter
from pathlib import Path
from typing import Iterator, NamedTuple

from xenon_mx.data.mura import is_data_set_file
from xenon_mx.dicom import reader as dicom
from xenon_mx.errors import os_error
from xenon_mx.runtime import text

_log = logging.getLogger(__name__)

# By these suffixes alone, or DICOM's, a file is an image: a damaged one is an error.
_SUFFIXES = frozenset(".png .jpg .jpeg .jpe .jfif .bmp .dib .tif .tiff".split())
_DICOM_SUFFIXES = (".dcm", ".dicom")
# The first bytes of PNG, JPEG, BMP (whose two letters say little: with the size of its
# second header), TIFF and BigTIFF.
_SIGNATURES = re.compile(
    rb"\x89PNG\r\n\x1a\n|\xff\xd8\xff|BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\0{3}"
    rb"|II[\x2a\x2b]\0|MM\0[\x2a\x2b]",
    re.DOTALL,
)
_HEAD = 132  # bytes: DICOM's preamble and `DICM`; more than the signatures need
_HIDDEN = (".", "__MACOSX")  # macOS's companions of images: ._image1.png
# A medium's list of images, and files that Windows hides.
_SYSTEM_FILES = ("dicomdir", "thumbs.db", "desktop.ini")
_SUFFIX_IN_WORDS = re.compile(r"\.(?!\d+$)\w{1,10}")  # not that of 1.2.840.10008.5
_MOST_KINDS = 8  # in one line


class FolderFiles(NamedTuple):
    """The files below a folder.

    Attributes:
        images: The images, in natural order.
        left_out: The number of other files by their kind, such as `.webp` or `DICOM
            CT`. Hidden files, lists of media and a data set's CSVs are not counted.
    """

    images: list[Path]
    left_out: Counter[str]


def find_images(folder: Path) -> FolderFiles:
    """Find the image files below a folder, and count the others by their kind.

    Links are followed, and each real folder is read once.

    Raises:
        XenonError: A folder cannot be read.
    """
    images: list[Path] = []
    left_out: Counter[str] = Counter()
    for file in _walk(folder):
        kind = _other_kind(file)
        if kind:
            left_out[kind] += 1
        else:
            images.append(file)
    return FolderFiles(sorted(images, key=natural_key), left_out)


def images_in(folder: Path) -> Iterator[Path]:
    """Yield the image files below a folder as they are found.

    Raises:
        XenonError: A folder cannot be read.
    """
    return (file for file in _walk(folder) if not _other_kind(file))


def is_dicom_file(file: Path) -> bool:
    """Return whether an image that `find_images` found is to be read as DICOM.

    So is a file with DICOM's suffix or that cannot be read: reading it will raise the
    error.
    """
    if file.suffix.lower() in _DICOM_SUFFIXES:
        return True
    try:
        with file.open("rb", buffering=0) as stream:
            return dicom.is_dicom(stream.read(_HEAD))
    except OSError:
        return True


def in_words(left_out: Counter[str]) -> str:
    """Return counts of files in words: `3 .webp, 1 .jp2`, the most frequent first."""
    kinds = sorted(left_out.items(), key=lambda item: (-item[1], item[0]))
    named = [f"{count:,} {kind}" for kind, count in kinds[:_MOST_KINDS]]
    others = sum(count for _, count in kinds[_MOST_KINDS:])
    return ", ".join([*named, f"{others:,} of other kinds"] if others else named)


def warn_of_left_out(left_out: Counter[str]) -> None:
    """Log how many files of the folders are no images, in one line."""
    count = sum(left_out.values())
    if count:
        _log.warning(
            "left out %s: %s",
            text.counted(count, "file that is no image", "files that are no images"),
            in_words(left_out),
        )


def natural_key(path: Path) -> list[tuple[bool, int | str]]:
    """Return a sort key that orders image2 before image10, different for each name."""
    name = path.as_posix()
    pieces = re.split(r"([0-9]+)", name)
    keys = [(i % 2 == 1, int(p) if i % 2 else p) for i, p in enumerate(pieces)]
    return [*keys, (False, name)]


def _walk(folder: Path) -> Iterator[Path]:
    """Yield every file below a folder, following links, each real folder once."""

    def fail(error: OSError) -> None:  # os.walk would skip the folder
        raise os_error(error.filename, error) from error

    seen = set()
    for parent, folders, files in os.walk(folder, onerror=fail, followlinks=True):
        real = os.path.realpath(parent)
        if real in seen:  # a link to a folder that was walked already
            folders.clear()
            continue
        seen.add(real)
        folders[:] = [name for name in folders if not name.startswith(_HIDDEN)]
        yield from (Path(parent, file) for file in files if not _is_ignored(file))


def _is_ignored(name: str) -> bool:
    """Return whether a file is neither an image nor worth a word."""
    is_system_file = name.lower() in _SYSTEM_FILES
    return is_system_file or name.startswith(_HIDDEN) or is_data_set_file(name)


def _other_kind(file: Path) -> str:
    """Return the kind of a file that is no image, in words; empty for images.

    Files that cannot be read count as images: reading them will raise the error.
    """
    suffix = file.suffix.lower()
    if suffix in _SUFFIXES:
        return ""
    in_words = suffix if _SUFFIX_IN_WORDS.fullmatch(suffix) else "without a suffix"
    if not file.is_file():  # a pipe, for example
        return "" if suffix in _DICOM_SUFFIXES else in_words
    try:
        with file.open("rb", buffering=0) as stream:  # reads no more than it needs
            head = stream.read(_HEAD)
    except OSError:
        return ""
    if _is_dicom(suffix, head):
        return dicom.other_kind(file) or ""
    is_image = suffix in _DICOM_SUFFIXES or _SIGNATURES.match(head)
    return "" if is_image else in_words


def _is_dicom(suffix: str, head: bytes) -> bool:
    """Return whether a file such as `IM000001` or `1.ima` is DICOM, by its first bytes.

    With the suffix of another format, only a preamble counts; with DICOM's, without a
    suffix, or with one of digits (`1.2.840.10008.5`), a first data element does, too.
    """
    is_foreign = suffix and suffix not in _DICOM_SUFFIXES
    has_suffix = is_foreign and not suffix[1:].isdigit()
    return dicom.has_preamble(head) if has_suffix else dicom.is_dicom(head)
