"""What an archive holds, in words for the log.

Owns these lines; must not know headers' elements, labels or pixels. No line holds an
identifier, unless the naming keeps them.
"""

from __future__ import annotations

import logging
from collections import Counter
from typing import Iterable, Iterator

from xenon_mx.data import body_parts, folders
from xenon_mx.data.archive import Archive, Entry
from xenon_mx.data.pseudonyms import Naming
from xenon_mx.runtime import text

_log = logging.getLogger(__name__)


def log(archive: Archive, naming: Naming) -> None:
    """Log what an archive holds, and warn of what may be wrong in it."""
    images = archive.images
    _log.info(
        "%s of %s and %s",
        text.counted(len(images), "DICOM image"),
        text.counted(len({image.study for image in images}), "study", "studies"),
        text.counted(len({image.patient for image in images}), "patient"),
    )
    if archive.copies:
        _log.info("%s more than once, read once", text.counted(archive.copies, "image"))
    folders.warn_of_left_out(archive.left_out)
    for warning in _warnings(archive, naming):
        _log.warning("%s", warning)


def _warnings(archive: Archive, naming: Naming) -> Iterator[str]:
    """Yield a line for each thing that may be wrong in an archive."""
    if archive.bad:
        bad = text.counted(len(archive.bad), "DICOM file")
        yield f"left out {bad} whose headers cannot be used"
    unknown = _unknown_parts(archive.entries, naming)
    if unknown:
        images = text.counted(sum(unknown.values()), "image")
        yield (
            f"{images} of unknown body parts, with the study type {body_parts.UNKNOWN}:"
            f" {folders.in_words(unknown)}; name their study types with --body-parts"
        )
    if archive.without_id:
        studies = text.counted(archive.without_id, "study", "studies")
        yield f"{studies} without a patient ID, each read as a patient of its own"
    if archive.half_issued:
        ids = text.counted(archive.half_issued, "patient ID")
        yield (
            f"{ids} both with an issuer and without, read as different patients: if "
            f"they are the same, splits by patient do not keep them apart"
        )
    burned_in = sum(entry.identity.is_burned_in for entry in archive.entries)
    if burned_in:
        images = text.counted(burned_in, "image")
        yield (
            f"{images} with BurnedInAnnotation YES, whose pixels may name the patient: "
            f"xenon does not clean pixels"
        )


def _unknown_parts(entries: Iterable[Entry], naming: Naming) -> Counter[str]:
    """Count the images of unknown body parts by name, if the name may be printed."""
    counts: Counter[str] = Counter()
    for entry in entries:
        if entry.image.study_type == body_parts.UNKNOWN:
            name = entry.identity.body_part
            if not name:
                counts["without a body part"] += 1
            elif body_parts.is_defined(name) or naming.keeps_identifiers:
                counts[body_parts.key(name)] += 1
            else:
                counts["of names that may be anything"] += 1
    return counts
