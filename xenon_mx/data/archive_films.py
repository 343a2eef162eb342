"""The images of an archive, as a command's settings ask for them.

Owns which settings an archive takes; must not know splits or nets.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import NamedTuple, Sequence

from xenon_mx.config import ARCHIVE_SETTINGS, PackConfig, PredictConfig
from xenon_mx.data import (
    archive,
    archive_files,
    archive_summary,
    body_parts,
    labelling,
    labels,
    links,
    outputs,
    pseudonyms,
)
from xenon_mx.data.archive_files import BadFile
from xenon_mx.data.mura import Image
from xenon_mx.errors import ConfigError, XenonError
from xenon_mx.runtime import files
from xenon_mx.settings import flag_name

is_archive = archive_files.is_archive


def check_unused(config: PackConfig | PredictConfig) -> None:
    """Check that no setting was given that only an archive takes.

    Raises:
        ConfigError: One was given.
    """
    for name in ARCHIVE_SETTINGS:
        if getattr(config, name):
            raise ConfigError(
                flag_name(name),
                "has no effect: the images are no archive's DICOM files",
            )


class ArchiveImages(NamedTuple):
    """The images of an archive.

    Attributes:
        images: The images.
        bad: With `skip_bad`, the files that were left out for their headers.
    """

    images: list[Image]
    bad: Sequence[BadFile]


def read(config: PackConfig | PredictConfig, films: Sequence[Path]) -> ArchiveImages:
    """Read the images of an archive, with labels if there is a table of them.

    Args:
        config: The settings.
        films: Folders of the archive, and DICOM files.

    Raises:
        XenonError: See `archive.read_archive` and `labelling.join`; or the link file
            cannot be written.
    """
    naming = pseudonyms.naming(config.keep_identifiers)
    parts = body_parts.BodyParts()
    if config.body_parts is not None:
        parts = body_parts.read(config.body_parts)
    if config.link is not None:
        _check_link(config.link)
    found = _read(config, films, naming, parts)
    archive_summary.log(found, naming)
    if config.labels is None:
        return ArchiveImages(found.images, found.bad)
    table = labels.read(config.labels, parts)
    if isinstance(config, PackConfig):
        joined = labelling.join(found, table, naming, config.skip_unlabelled)
        return ArchiveImages(joined, found.bad)
    # What is predicted needs no label.
    labelled = labelling.join(found, table, naming, skip_unlabelled=True)
    by_path = {image.path: image for image in labelled}
    images = [by_path.get(image.path, image) for image in found.images]
    return ArchiveImages(images, found.bad)


def _read(
    config: PackConfig | PredictConfig,
    films: Sequence[Path],
    naming: pseudonyms.Naming,
    parts: body_parts.BodyParts,
) -> archive.Archive:
    skip_bad = config.skip_bad
    try:
        if len(films) == 1 and films[0].is_dir():
            return archive.read_archive(films[0], naming, parts, config.link, skip_bad)
        named: list[Path] = []
        left_out: Counter[str] = Counter()
        for path in films:
            is_folder = path.is_dir()
            found = archive_files.find(path, naming) if is_folder else ([path], {})
            named += found[0]
            left_out.update(found[1])
        return archive.read_files(named, naming, parts, config.link, skip_bad, left_out)
    except OSError as error:
        if config.link is None:
            raise
        raise files.write_error(error, [config.link]) from error


def _check_link(link: Path) -> None:
    """Check that the link file can be written, and replaces nothing else."""
    outputs.check_folder(outputs.resolved(link).parent, link)
    outputs.check_name(link)
    if link.is_dir() or (link.exists() and not links.is_link_file(link)):
        raise XenonError(
            f"{link}: exists and is no link file: name another file for --link"
        )
