"""The folder of `--cam`: an overlay and a map for every image, all of them or none.

Owns names and files, for those who read them too. Knows no nets, and of maps only that
they can be drawn.
"""

from __future__ import annotations

import io
import json
import os
import shutil
from collections import Counter
from pathlib import Path
from typing import Any, Mapping, Sequence

import numpy as np

from xenon_mx import images, maps
from xenon_mx.errors import XenonError

# Put behind the whole name of the image: image1.png and image1.jpg stay apart.
OVERLAY, ARRAY = ".cam.png", ".cam.npy"
MAPS_JSON = "maps.json"  # what the arrays lack, to be laid over a radiograph
_PARTIAL = ".partial"
_NOTICE = (
    "Each map averages what moved the members' logits, not their probabilities; it "
    "localises no disease and is not for medical use."
)


def place(path: str) -> str:
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


def check(out: Path) -> None:
    """Refuse a folder whose own files could be taken for maps, or maps for its own.

    Raises:
        XenonError: It is no folder, may not be read, or holds anything but what a
            killed prediction left behind.
    """
    try:
        held = sorted(set(os.listdir(out)) - {_PARTIAL})
    except FileNotFoundError:
        return
    except OSError as error:
        raise XenonError(
            f"{out}: {os.strerror(error.errno or 0)}; --cam needs a folder"
        ) from error
    if held:
        raise XenonError(
            f"{out}: already holds {held[0]}: name a new or an empty folder for --cam"
        )


class Folder:
    """Write the maps of a prediction so that all of them are there, or none.

    Files are written to a folder inside OUT, and moved into place at the end, unless
    it is that of an error: maps.json last, so that where it is, all is.

    Args:
        out: The folder; made where there is none.
        paths: All images that maps will be added of, as the input writes them.
        preprocessing: As run.json has it: `size`, the side of the square that the nets
            saw, px, and `fit`, how the radiographs were fitted into it.
        field: Where the maps lie over it, as `models.field` gives it.
        members: How many nets each map is the mean of.

    Raises:
        XenonError: On entering, as `check` does, or because two images would share a
            file; at the end, because a file could not be written.
    """

    def __init__(
        self,
        out: Path,
        paths: Sequence[str],
        preprocessing: Mapping[str, Any],
        field: Sequence[float],
        members: int,
    ) -> None:
        self._out = out
        self._partial = out / _PARTIAL
        self._paths = paths
        size, fit = preprocessing["size"], preprocessing["fit"]
        self._geometry = (size, fit, field)
        self._described = {
            "size": size,
            "fit": fit,
            "field": list(field),
            "members": members,
            "notice": _NOTICE,
        }

    def __enter__(self) -> Folder:
        check(self._out)
        counts = Counter(map(place, self._paths))
        shared = [path for path in self._paths if counts[place(path)] > 1]
        if shared:
            raise XenonError(
                f"--cam: {len(shared)} images would share the files of others: predict "
                f"them one after the other",
                shared,
            )
        self._made_out = not self._out.exists()
        try:
            shutil.rmtree(self._partial, ignore_errors=True)  # of a killed prediction
            self._partial.mkdir(parents=True)
            # Now, while a full disk leaves all other outputs as they were.
            described = json.dumps(self._described, indent=2) + "\n"
            (self._partial / MAPS_JSON).write_text(described)
        except OSError as error:
            self._clear()
            raise XenonError(f"{self._out}: {os.strerror(error.errno or 0)}") from error
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if error is None:
            entries = self._partial.iterdir()
            for entry in sorted(entries, key=lambda e: (e.name == MAPS_JSON, e)):
                os.replace(entry, self._out / entry.name)
        self._clear()
        if isinstance(error, OSError):  # a full disk, mostly
            raise XenonError(f"{self._out}: {error.strerror or error}") from error

    def _clear(self) -> None:
        """Leave nothing behind that is not in its place."""
        shutil.rmtree(self._partial, ignore_errors=True)
        if self._made_out and self._out.is_dir() and not any(self._out.iterdir()):
            self._out.rmdir()

    def add(self, path: str, radiograph: np.ndarray, cam: np.ndarray) -> None:
        """Write an image's overlay and its map; several threads may do so at once.

        Args:
            path: One of the `paths`.
            radiograph: (H, W) uint8, in the size that the overlay will have.
            cam: (h, w) float32.
        """
        over = maps.full_size(cam, radiograph.shape, *self._geometry)
        drawn = images.encode(maps.draw(radiograph, over), "png", 0)
        array = io.BytesIO()
        np.save(array, cam)
        stem = self._partial / place(path)
        stem.parent.mkdir(parents=True, exist_ok=True)
        stem.with_name(stem.name + OVERLAY).write_bytes(drawn)
        stem.with_name(stem.name + ARRAY).write_bytes(array.getvalue())
