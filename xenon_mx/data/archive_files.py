"""The DICOM files of an archive's export, and what their headers say.

Owns finding and reading them, and what other files are called; must not know studies,
patients or labels. Neither a path nor another part of a name leaves this module for a
message, unless the naming keeps identifiers.
"""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Iterable, NamedTuple

from xenon_mx.data import folders
from xenon_mx.data.folders import FolderFiles
from xenon_mx.data.mura import study_type_index
from xenon_mx.data.pseudonyms import Naming
from xenon_mx.dicom import identity, reader
from xenon_mx.dicom.identity import Identity
from xenon_mx.errors import FileError, XenonError

# Suffixes that may be printed: of the files that lie beside exported images. Another
# suffix may be a part of a name: `Jane.Doe`.
_SUFFIXES = frozenset(
    ".png .jpg .jpeg .jpe .jfif .bmp .dib .tif .tiff .gif .webp .jp2 .mp4 .avi "
    ".txt .csv .tsv .json .xml .html .htm .css .js .pdf .rtf .doc .docx .xls .xlsx "
    ".zip .gz .tar .exe .dll .bat .inf .ini .ico .jar .sh .md .log .db .bin .dat "
    ".dcm .dicom".split()
)
_OTHER_SUFFIX = "with another suffix"
_LEVELS = 3  # of MURA's folders that can be above one of them: XR_*, patient and study


@dataclass(frozen=True, order=True, repr=False)
class BadFile:
    """A file whose header cannot be used.

    Attributes:
        name: The file's name in messages.
        file: The file.
        reason: What is wrong with it.
    """

    name: str
    file: Path
    reason: str


class Headers(NamedTuple):
    """What the headers of files say.

    Attributes:
        folder: The folder that all files are below.
        good: Whose image each file is.
        bad: The files whose headers cannot be used.
    """

    folder: Path
    good: dict[Path, Identity]
    bad: list[BadFile]


def is_archive(folder: Path) -> bool:
    """Return whether a folder is an archive's export: DICOM files in no layout.

    The first image decides that is DICOM, or lies in MURA's layout. The folder may be a
    part of such a layout, which its own name and those above it tell.

    Raises:
        XenonError: A folder cannot be read.
    """
    above = folder.resolve().parts[-_LEVELS:]
    try:
        for file in folders.images_in(folder):
            parts = (*above, *file.relative_to(folder).parts)
            if study_type_index(parts[:-3]) is not None:
                return False
            if folders.is_dicom_file(file):
                return True
    except FileError as error:  # it may be an archive
        raise _without_path(error) from None
    return False


def find(folder: Path, naming: Naming) -> FolderFiles:
    """Find the DICOM images below a folder, and count the other files.

    No kind of file that is counted holds a part of a name, unless the naming keeps
    identifiers.

    Raises:
        XenonError: A folder cannot be read.
    """
    found = _find(folder, naming)
    left_out: Counter[str] = Counter()
    for kind, count in found.left_out.items():
        left_out[_printable(kind, naming)] += count
    dicom_files = []
    for file in found.images:
        if folders.is_dicom_file(file):
            dicom_files.append(file)
        else:
            left_out[_printable(file.suffix.lower() or "without a suffix", naming)] += 1
    return FolderFiles(dicom_files, left_out)


def _find(folder: Path, naming: Naming) -> FolderFiles:
    """Find the image files below a folder."""
    try:
        return folders.find_images(folder)
    except FileError as error:
        if naming.keeps_identifiers:
            raise
        raise _without_path(error) from None


def _without_path(error: FileError) -> XenonError:
    """Return the error of a folder that cannot be read, which its path may identify."""
    return XenonError(
        f"a folder of the archive cannot be read: {error.reason}; list such with "
        f"`find FOLDER ! -readable`"
    )


def _printable(kind: str, naming: Naming) -> str:
    """Return a kind of file without a suffix that may be a name."""
    is_safe = not kind.startswith(".") or kind in _SUFFIXES
    return kind if is_safe or naming.keeps_identifiers else _OTHER_SUFFIX


def read_headers(folder: Path, listed: Iterable[Path], naming: Naming) -> Headers:
    """Read the headers of files, and which of them cannot be used."""
    good, bad = {}, []
    for file in listed:
        reader.check_installed()
        try:
            good[file] = identity.read(file)
        except XenonError as error:
            name = naming.file(path_below(folder, file))
            bad.append(BadFile(name, file, str(error)))
    return Headers(folder, good, sorted(bad))


def path_below(folder: Path, file: Path) -> str:
    """Return the path of an archive's file below its folder."""
    return Path(os.path.relpath(file, folder)).as_posix()
