"""A folder of DICOM files as an archive exports them, read into images.

Owns which files are one study, one patient and one image, and the names that images get
in MURA's layout: `XR_HAND/<patient>/<study>/<image>`. Must not know labels or pixels.

A study is a body part under a StudyInstanceUID: hand and wrist of one order often share
the UID. Left and right hand under one UID are one study, since MURA's unit is one body
part of one patient at one visit; the side is a further column.

Nothing that is raised or logged here holds an identifier, unless the naming keeps them:
a file's path below the folder may name the patient, and so may the name of a file with
an odd suffix. A file is named by its pseudonym, and the link file has its path. The
link file is therefore written before anything is refused.
"""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Iterable, Mapping, Sequence

from xenon_mx.data import archive_files, body_parts, folders, links
from xenon_mx.data.archive_files import BadFile, Headers
from xenon_mx.data.body_parts import BodyParts
from xenon_mx.data.links import Link
from xenon_mx.data.mura import Image
from xenon_mx.data.patients import Patients
from xenon_mx.data.pseudonyms import Naming
from xenon_mx.dicom.identity import Identity
from xenon_mx.errors import XenonError, os_error
from xenon_mx.runtime import files, text


@dataclass(frozen=True, repr=False)
class Entry:
    """An image of an archive, and what its header says.

    Attributes:
        image: The image, named in MURA's layout, without a label. `extra` has
            `laterality` and `view`, which are empty if unknown.
        identity: Whose image it is.
        copies: Further files of the same content, which are left out.
    """

    image: Image
    identity: Identity
    copies: Sequence[Path] = ()


@dataclass(frozen=True, repr=False)
class Archive:
    """The images of an archive, and what was counted on reading them.

    Attributes:
        folder: The archive's folder.
        entries: The images, in an order that no file's name decides: by study type,
            patient and study, and within a study by series, acquisition, instance
            number and name.
        bad: The files that were left out because their headers cannot be used.
        copies: How many files were left out as the same image once more.
        without_id: How many studies have no patient ID, each a patient of its own.
        half_issued: How many patient IDs occur both with an issuer and without.
        left_out: The number of files by kind that are no DICOM images.
    """

    folder: Path
    entries: Sequence[Entry]
    bad: Sequence[BadFile]
    copies: int
    without_id: int
    half_issued: int
    left_out: Counter[str]

    @property
    def images(self) -> list[Image]:
        """Return the images."""
        return [entry.image for entry in self.entries]


def read_archive(
    folder: Path,
    naming: Naming,
    parts: BodyParts | None = None,
    link: Path | None = None,
    skip_bad: bool = False,
) -> Archive:
    """Read the images of a folder of DICOM files, by their headers alone.

    Args:
        folder: The folder; the names of files and folders in it say nothing.
        naming: How patients, studies and images are named.
        parts: The study types of body parts; None is xenon's own table.
        link: Where to write the link file, even if the archive is refused then.
        skip_bad: Whether to leave out files whose headers cannot be used.

    Raises:
        XenonError: There is no DICOM image; headers cannot be used; one SOP instance
            is in files of different content; or a study has several patients.
        OSError: The link file cannot be written.
    """
    found = archive_files.find(folder, naming)
    headers = archive_files.read_headers(folder, found.images, naming)
    return _archive(headers, found.left_out, naming, parts, link, skip_bad)


def read_files(
    named: Sequence[Path],
    naming: Naming,
    parts: BodyParts | None = None,
    link: Path | None = None,
    skip_bad: bool = False,
    left_out: Counter[str] | None = None,
) -> Archive:
    """Read DICOM files that are named one by one, as `read_archive` does a folder.

    None is left out for what it is: a file that is no DICOM file is a bad one. The
    files that were left out before may be given for the count.
    """
    folder = Path(os.path.commonpath([os.path.abspath(file.parent) for file in named]))
    headers = archive_files.read_headers(folder, named, naming)
    left_out = Counter() if left_out is None else left_out
    return _archive(headers, left_out, naming, parts, link, skip_bad)


def _archive(
    headers: Headers,
    left_out: Counter[str],
    naming: Naming,
    parts: BodyParts | None,
    link: Path | None,
    skip_bad: bool,
) -> Archive:
    """Return the archive of some headers, after writing the link file."""
    patients, parts = Patients(headers.good.values(), naming), parts or BodyParts()
    entries = [
        _entry(file, each, patients, naming, parts)
        for file, each in headers.good.items()
    ]
    if link is not None:
        links.write(link, [*map(_link, entries), *map(_bad_link, headers.bad)])
    hint = _hint(naming, link)
    if headers.bad and not skip_bad:
        counted = text.counted(len(headers.bad), "DICOM file")
        raise XenonError(
            f"{counted} cannot be used: export them again, or leave them out with "
            f"--skip-bad{hint}",
            [f"{each.name}: {each.reason}" for each in headers.bad],
        )
    if not entries:
        found = f": found {folders.in_words(left_out)}" if left_out else ""
        raise XenonError(f"the folder holds no DICOM image that can be used{found}")
    _check_patients(entries, hint)
    once = _without_copies(entries, hint)
    return Archive(
        folder=headers.folder,
        entries=sorted(once, key=_order),
        bad=headers.bad,
        copies=len(entries) - len(once),
        without_id=patients.without_id,
        half_issued=patients.half_issued,
        left_out=left_out,
    )


def _entry(
    file: Path,
    header: Identity,
    patients: Patients,
    naming: Naming,
    parts: BodyParts,
) -> Entry:
    """Return an image with its name in MURA's layout."""
    study_type = parts.study_type(header.body_parts)
    # Unknown body parts of one UID are different studies, too.
    is_unknown = study_type == body_parts.UNKNOWN
    part = body_parts.key(header.body_part) if is_unknown else ""
    patient = patients.name(header)
    study = f"{study_type}/{patient}/"
    study += naming.study(header.study_uid, study_type, part) + "/"
    image = Image(
        path=study + naming.image(header.image_uid),
        file=file,
        study=study,
        study_type=study_type,
        patient=patient,
        label=None,
        extra={"laterality": header.laterality, "view": header.view},
        hides_file=not naming.keeps_identifiers,
    )
    return Entry(image, header)


def _order(entry: Entry) -> tuple:
    return (entry.image.study, entry.identity.order, entry.image.path)


def _check_patients(entries: Iterable[Entry], hint: str) -> None:
    """Check that no study has several patients.

    Such studies are what a mistyped ID or a wrong assignment leaves in an archive.
    Either patient may be in another split.
    """
    studies: dict[str, set[str]] = {}
    patients: dict[str, set[str]] = {}
    for entry in entries:
        uid = entry.identity.study_uid
        studies.setdefault(uid, set()).add(entry.image.study)
        patients.setdefault(uid, set()).add(entry.image.patient)
    shared = [
        f"patients {', '.join(sorted(patients[uid]))} in "
        f"{', '.join(sorted(studies[uid]))}"
        for uid in studies
        if len(patients[uid]) > 1
    ]
    if shared:
        raise XenonError(
            f"{text.counted(len(shared), 'StudyInstanceUID')} of several patients: "
            f"correct the patient ID in the archive, or take these files out{hint}",
            sorted(shared),
        )


def _without_copies(entries: Iterable[Entry], hint: str) -> list[Entry]:
    """Return each image once; exports overlap.

    Raises:
        XenonError: Files of one SOP instance differ.
    """
    by_uid: dict[str, list[Entry]] = {}
    for entry in entries:
        by_uid.setdefault(entry.identity.image_uid, []).append(entry)
    different = [
        f"{', '.join(sorted({entry.image.path for entry in copies}))}: "
        f"{text.counted(len(copies), 'file')}"
        for copies in by_uid.values()
        if len(copies) > 1 and len({_sha256(entry) for entry in copies}) > 1
    ]
    if different:
        counted = text.counted(len(different), "SOPInstanceUID")
        raise XenonError(
            f"{counted} of files that differ: it is ambiguous which is the image; keep "
            f"one of them{hint}",
            sorted(different),
        )
    return [
        replace(first, copies=[entry.image.file for entry in others])
        for first, *others in by_uid.values()
    ]


def _sha256(entry: Entry) -> str:
    try:
        return files.sha256(entry.image.file)
    except OSError as error:
        raise os_error(entry.image.path, error) from None


def _link(entry: Entry) -> Link:
    image, header = entry.image, entry.identity
    return Link(
        image=image.path,
        study=image.study,
        patient=image.patient,
        study_type=image.study_type,
        body_part=header.body_part,
        study_uid=header.study_uid,
        series_uid=header.series_uid,
        image_uid=header.image_uid,
        accession=header.accession,
        file=os.path.abspath(image.file),
    )


def _bad_link(bad: BadFile) -> Link:
    empty: Mapping[str, str] = dict.fromkeys(Link._fields, "")
    return Link(**{**empty, "image": bad.name, "file": os.path.abspath(bad.file)})


def _hint(naming: Naming, link: Path | None) -> str:
    """Return where the user finds the files that an error names."""
    if naming.keeps_identifiers:
        return ""
    if link is not None:
        return "; the file of --link says which these are"
    return "; with --link FILE, FILE says which these are"
