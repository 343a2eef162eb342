"""The folder of `--cam`: an overlay and a map of every image, complete or absent.

Owns the names and contents of its files, for writers and readers. Must not know nets.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections import Counter
from pathlib import Path
from typing import Any, Mapping, Sequence

import numpy as np

from xenon_mx.data import images, outputs
from xenon_mx.errors import XenonError, os_error
from xenon_mx.evaluation import provenance
from xenon_mx.evaluation.provenance import EnsembleSource
from xenon_mx.inference import cam_key, cam_overlay
from xenon_mx.runs.run_meta import Preprocessing
from xenon_mx.runtime import files, staging, text

# Appended to the image's full name, to distinguish image1.png from image1.jpg.
_CAM = ".cam."
OVERLAY, ARRAY = f"{_CAM}png", f"{_CAM}npy"
KEY = "key.png"  # what the colours of the overlays mean
MAPS_JSON = "maps.json"  # what is needed to draw the arrays over their radiographs
_NOTICE = (
    "Each map averages what moved the members' logits, not their probabilities; it "
    "localises no disease and is not for medical use."
)


def relative_path(path: str) -> str:
    """Return an image's path relative to the folder, without `OVERLAY` or `ARRAY`.

    Args:
        path: The image as its input writes it, such as
            `MURA-v1.1/valid/XR_WRIST/patient11185/study1_positive/image1.png`; or a
            study, for the folder of its images.

    Returns:
        The same path without leading slashes; a path with `..` is made absolute first,
        so that none leads out of the folder.
    """
    if ".." in Path(path).parts:
        path = os.path.abspath(path)
    return Path(path).as_posix().lstrip("/")


def check_folder(out: Path) -> None:
    """Check that a path is a folder or does not exist.

    Raises:
        XenonError: It is not a folder, or may not be read.
    """
    try:
        os.listdir(out)
    except FileNotFoundError:
        return
    except OSError as error:
        raise XenonError(f"{os_error(out, error)}; --cam needs a folder") from error


def check_replaceable(out: Path, origin: str, overwrite: bool) -> None:
    """Check that a folder's files may be replaced; see `outputs` for the rule.

    Args:
        out: The folder.
        origin: What the new maps are made from, as `outputs.made_from` returns it.
        overwrite: Whether maps made from anything else may be replaced, too.

    Raises:
        XenonError: As `check_folder` does, or the folder holds anything else.
    """
    check_folder(out)
    existing = os.listdir(out) if out.exists() else []
    names = sorted(name for name in existing if not files.is_partial(name))
    sums = _map_sums(out)
    for name in [*sums, *({MAPS_JSON} & {*names})]:
        outputs.check_unprotected(out / name)
    if not names or overwrite:
        return
    try:
        recorded = files.read_json(out / MAPS_JSON)
    except XenonError:
        recorded = {}
    if recorded.get("made_from") != origin:
        raise XenonError(
            f"{out}: already holds {names[0]}: name a new or an empty folder for "
            f"--cam, or add --overwrite"
        )
    if recorded.get("sha256") != _digest(sums):
        raise XenonError(
            f"{out}: its maps were changed since xenon-predict wrote them: name "
            f"another folder for --cam, or add --overwrite"
        )


def read_ensemble(folder: Path) -> EnsembleSource | None:
    """Return which ensemble a folder's maps are of; None if it does not say."""
    try:
        content = files.read_json(folder / MAPS_JSON)
        return EnsembleSource.from_json(content[provenance.ENSEMBLE_KEY])
    except (XenonError, KeyError, TypeError, ValueError):
        return None


def _map_sums(out: Path) -> dict[str, str]:
    """Return the SHA-256 of the overlays, maps and key in a folder, by their paths."""
    paths = (path.relative_to(out) for path in out.rglob(f"*{_CAM}*"))
    sums = {
        path.as_posix(): files.sha256(out / path)
        for path in paths
        if path.name.endswith((OVERLAY, ARRAY)) and not files.is_partial(path.parts[0])
    }
    if (out / KEY).is_file():
        sums[KEY] = files.sha256(out / KEY)
    return sums


def _digest(sums: Mapping[str, str]) -> str:
    """Return one SHA-256 over all names and their SHA-256."""
    lines = "".join(f"{name}\t{sums[name]}\n" for name in sorted(sums))
    return hashlib.sha256(lines.encode("utf-8", "surrogateescape")).hexdigest()


class CamFolder(staging.Staging):
    """A folder that receives the maps of a prediction, all of them or none.

    Files are written to a staging folder inside OUT, and moved into place on leaving
    without an error; maps.json is moved last, and marks the folder as complete.

    Args:
        out: The folder, created if it does not exist.
        paths: All images whose maps will be added, as the input writes them.
        preprocessing: Of the nets' training images.
        extent: Where the maps lie over that square: see `cam_block.cam_extent`.
        members: The number of nets that each map averages.
        origin: What the maps are made from, as `outputs.made_from` returns it.
        overwrite: As for `check_replaceable`.
        ensemble: What the maps are of, if that is recorded.

    Raises:
        XenonError: On entering, as `check_replaceable` does, or because two images
            would share a file, or another process writes to the folder; on leaving,
            because a file could not be written.
    """

    def __init__(
        self,
        out: Path,
        paths: Sequence[str],
        preprocessing: Preprocessing,
        extent: Sequence[float],
        members: int,
        origin: str,
        overwrite: bool = False,
        ensemble: EnsembleSource | None = None,
    ) -> None:
        super().__init__(out, MAPS_JSON)
        self._paths = paths
        self._origin, self._overwrite = origin, overwrite
        size, fit = preprocessing.size, preprocessing.fit
        self._geometry = (size, fit, extent)
        self._meta: dict[str, Any] = {
            "size": size,
            "fit": fit,
            "field": list(extent),
            "members": members,
            "notice": _NOTICE,
            "made_from": origin,
        }
        if ensemble is not None:
            beside = ensemble.beside(out / MAPS_JSON)
            self._meta[provenance.ENSEMBLE_KEY] = beside.to_json()
        self._written: dict[str, str] = {}

    def __enter__(self) -> CamFolder:
        check_folder(self.out)
        counts = Counter(map(relative_path, self._paths))
        shared = [path for path in self._paths if counts[relative_path(path)] > 1]
        if shared:
            raise XenonError(
                f"--cam: {text.counted(len(shared), 'image')} would share files: "
                f"predict each of them into a folder of its own",
                shared,
            )
        return super().__enter__()

    def check(self) -> None:
        """Check that files in OUT may be replaced, and that no name is too long."""
        check_replaceable(self.out, self._origin, self._overwrite)
        limit = os.pathconf(self.out, "PC_NAME_MAX") - len(OVERLAY)
        too_long = [p for p in self._paths if len(os.fsencode(Path(p).name)) > limit]
        if too_long:
            raise XenonError(
                f"{self.out}: {OVERLAY} cannot be appended to names of more than "
                f"{limit} bytes: rename these images",
                too_long,
            )

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        try:
            if error is None:
                self.move()
        finally:
            super().__exit__(kind, error, trace)

    def add(self, path: str, radiograph: np.ndarray, cam: np.ndarray) -> None:
        """Write an image's overlay and its map; safe to call from several threads.

        Args:
            path: One of the `paths`.
            radiograph: (H, W) uint8; the overlay has the same size.
            cam: Its class activation map, (h, w) float32.
        """
        resized = cam_overlay.resize_to_radiograph(
            cam, radiograph.shape, *self._geometry
        )
        array = io.BytesIO()
        np.save(array, cam)
        overlay = images.encode(cam_overlay.draw_overlay(radiograph, resized), "png", 0)
        for suffix, data in ((OVERLAY, overlay), (ARRAY, array.getvalue())):
            self._write(relative_path(path) + suffix, data)

    def _write_key(self) -> None:
        self._write(KEY, images.encode(cam_key.draw_key(), "png", 0))

    def _write(self, name: str, data: bytes) -> None:
        file = self.folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
        self._written[name] = hashlib.sha256(data).hexdigest()

    def complete(self) -> None:
        """Write key and maps.json, prepare the move, so that little is left to fail."""
        try:
            self._write_key()
            content = {**self._meta, "sha256": _digest(self._written)}
            data = files.json_bytes(content)
            (self.folder / MAPS_JSON).write_bytes(data)
        except OSError as error:
            raise os_error(self.out, error) from error
        sums = {**self._written, MAPS_JSON: hashlib.sha256(data).hexdigest()}
        replaced = _map_sums(self.out)
        if (self.out / MAPS_JSON).is_file():
            replaced[MAPS_JSON] = files.sha256(self.out / MAPS_JSON)
        self.prepare(sums, replaced)
