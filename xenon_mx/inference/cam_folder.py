"""The folder of `--cam`: an overlay and a map for every image, all of them or none.

Owns names and files, for those who read them too. Knows no nets, and of maps only that
they can be drawn.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections import Counter
from pathlib import Path
from typing import Mapping, Sequence

import numpy as np

from xenon_mx.data import images, outputs
from xenon_mx.errors import XenonError
from xenon_mx.models import cam as maps
from xenon_mx.runs.run_meta import Preprocessing
from xenon_mx.runtime import files, staging

# Put behind the whole name of the image: image1.png and image1.jpg stay apart.
_CAM = ".cam."
OVERLAY, ARRAY = f"{_CAM}png", f"{_CAM}npy"
MAPS_JSON = "maps.json"  # what the arrays lack, to be laid over a radiograph
_NOTICE = (
    "Each map averages what moved the members' logits, not their probabilities; it "
    "localises no disease and is not for medical use."
)


def relative_path(path: str) -> str:
    """Where below the folder the files of an image lie, without their endings.

    Args:
        path: The image as its input writes it, such as
            `MURA-v1.1/valid/XR_WRIST/patient11185/study1_positive/image1.png`; or the
            study, whose place is the folder of its images.

    Returns:
        The same path, made relative; one with `..` is taken from the root of the disk
        first. No name leads out of the folder.
    """
    if ".." in Path(path).parts:
        path = os.path.abspath(path)
    return Path(path).as_posix().lstrip("/")


def check_folder(out: Path) -> None:
    """Stop if there is something of that name which is no folder.

    Raises:
        XenonError: It is no folder, or may not be read.
    """
    try:
        os.listdir(out)
    except FileNotFoundError:
        return
    except OSError as error:
        raise XenonError(
            f"{out}: {os.strerror(error.errno or 0)}; --cam needs a folder"
        ) from error


def check_replaceable(out: Path, origin: str, overwrite: bool) -> None:
    """Stop if a folder holds what may not be replaced; see `outputs` for the rule.

    Args:
        out: The folder.
        origin: What the maps will be made from, as `outputs.made_from` returns it.
        overwrite: Whether the maps in it may be replaced, whosever they are.

    Raises:
        XenonError: As `check_folder` does, or it holds anything but these maps.
    """
    check_folder(out)
    there = os.listdir(out) if out.exists() else []
    held = sorted(name for name in there if not files.is_partial(name))
    sums = _maps_in(out)
    for name in [*sums, *({MAPS_JSON} & {*held})]:
        outputs.check_unprotected(out / name)
    if not held or overwrite:
        return
    try:
        found = files.read_json(out / MAPS_JSON)
    except XenonError:
        found = {}
    if found.get("made_from") != origin:
        raise XenonError(
            f"{out}: already holds {held[0]}: name a new or an empty folder for --cam, "
            f"or say --overwrite"
        )
    if found.get("sha256") != _digest(sums):
        raise XenonError(
            f"{out}: its maps were changed since xenon-predict wrote them: name "
            f"another folder for --cam, or say --overwrite"
        )


def _maps_in(out: Path) -> dict[str, str]:
    """Return the SHA-256 of every map in a folder, by its name below it."""
    found = (path.relative_to(out) for path in out.rglob(f"*{_CAM}*"))
    return {
        path.as_posix(): files.sha256(out / path)
        for path in found
        if path.name.endswith((OVERLAY, ARRAY)) and not files.is_partial(path.parts[0])
    }


def _digest(sums: Mapping[str, str]) -> str:
    """Return one SHA-256 of all names and SHA-256."""
    lines = "".join(f"{name}\t{sums[name]}\n" for name in sorted(sums))
    return hashlib.sha256(lines.encode("utf-8", "surrogateescape")).hexdigest()


class CamFolder(staging.Staging):
    """Write the maps of a prediction so that all of them are there, or none.

    Files are written to a folder inside OUT, and moved into place at the end, unless
    it is that of an error: maps.json last, so that where it is, all is.

    Args:
        out: The folder; made where there is none.
        paths: All images that maps will be added of, as the input writes them.
        preprocessing: Of the nets' training images.
        field: Where the maps lie over it, as `models.field` gives it.
        members: How many nets each map is the mean of.
        origin: What the maps are made from, as `outputs.made_from` returns it.
        overwrite: Whether maps in it may be replaced, whosever they are.

    Raises:
        XenonError: On entering, as `check_replaceable` does, or because two images
            would share a file, or another process writes maps there; at the end,
            because a file could not be written.
    """

    def __init__(
        self,
        out: Path,
        paths: Sequence[str],
        preprocessing: Preprocessing,
        field: Sequence[float],
        members: int,
        origin: str,
        overwrite: bool = False,
    ) -> None:
        super().__init__(out, MAPS_JSON)
        self._paths = paths
        self._origin, self._overwrite = origin, overwrite
        size, fit = preprocessing.size, preprocessing.fit
        self._geometry = (size, fit, field)
        self._described = {
            "size": size,
            "fit": fit,
            "field": list(field),
            "members": members,
            "notice": _NOTICE,
            "made_from": origin,
        }
        self._written: dict[str, str] = {}

    def __enter__(self) -> CamFolder:
        check_folder(self.out)
        counts = Counter(map(relative_path, self._paths))
        shared = [path for path in self._paths if counts[relative_path(path)] > 1]
        if shared:
            raise XenonError(
                f"--cam: {len(shared)} images would share the files of others: predict "
                f"them one after the other",
                shared,
            )
        return super().__enter__()

    def check(self) -> None:
        """Stop if OUT holds other maps, or anything else, or takes no such names."""
        check_replaceable(self.out, self._origin, self._overwrite)
        longest = os.pathconf(self.out, "PC_NAME_MAX") - len(OVERLAY)
        long = [p for p in self._paths if len(os.fsencode(Path(p).name)) > longest]
        if long:
            raise XenonError(
                f"{self.out}: no room for {OVERLAY} behind names of more than "
                f"{longest} bytes: rename these images",
                long,
            )

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        try:
            if error is None:
                self.move()
        finally:
            super().__exit__(kind, error, trace)

    def add(self, path: str, radiograph: np.ndarray, cam: np.ndarray) -> None:
        """Write an image's overlay and its map; several threads may do so at once.

        Args:
            path: One of the `paths`.
            radiograph: (H, W) uint8, in the size that the overlay will have.
            cam: (h, w) float32.
        """
        over = maps.resize_to_radiograph(cam, radiograph.shape, *self._geometry)
        array = io.BytesIO()
        np.save(array, cam)
        drawn = images.encode(maps.draw_overlay(radiograph, over), "png", 0)
        for ending, data in ((OVERLAY, drawn), (ARRAY, array.getvalue())):
            name = relative_path(path) + ending
            file = self.folder / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)
            self._written[name] = hashlib.sha256(data).hexdigest()

    def seal(self) -> None:
        """Write what tells that all maps are there; what is left can hardly fail."""
        content = {**self._described, "sha256": _digest(self._written)}
        data = files.json_bytes(content)
        try:
            (self.folder / MAPS_JSON).write_bytes(data)
        except OSError as error:
            raise XenonError(f"{self.out}: {os.strerror(error.errno or 0)}") from error
        sums = {**self._written, MAPS_JSON: hashlib.sha256(data).hexdigest()}
        replaced = _maps_in(self.out)
        if (self.out / MAPS_JSON).is_file():
            replaced[MAPS_JSON] = files.sha256(self.out / MAPS_JSON)
        self.prepare(sums, replaced)
