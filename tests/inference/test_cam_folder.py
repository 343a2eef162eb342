"""The folder of --cam: distinct names inside the folder, all files or none."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from xenon_mx.errors import XenonError
from xenon_mx.inference import cam_folder, cam_key, cam_overlay
from xenon_mx.runs.run_meta import Preprocessing

RADIOGRAPH = np.random.RandomState(0).randint(0, 256, (60, 40)).astype(np.uint8)
CAM = np.random.RandomState(1).normal(size=(3, 3)).astype(np.float32)
PREPROCESSING, EXTENT = Preprocessing(32, "pad"), [-1.5, 33.5]
STUDY = "MURA-v1.1/valid/XR_HAND/patient1/study1_positive"


ORIGIN = "0" * 64


def write(out, *paths, origin=ORIGIN, overwrite=False):
    with cam_folder.CamFolder(
        out, paths, PREPROCESSING, EXTENT, 5, origin, overwrite
    ) as folder:
        for path in paths:
            folder.add(path, RADIOGRAPH, CAM)
        folder.complete()


def files(folder):
    """List the files of a folder without maps.json and key.png, if any must exist."""
    names = sorted(
        p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()
    )
    of_all = {cam_folder.MAPS_JSON, cam_folder.KEY}
    cams = [name for name in names if Path(name).name not in of_all]
    assert len(names) - len(cams) == (2 if cams else 0)
    return cams


def test_each_image_has_an_overlay_and_an_array_under_its_own_path(tmp_path):
    write(tmp_path / "cam", f"{STUDY}/image1.png", f"{STUDY}/image1.jpg")
    assert files(tmp_path / "cam") == sorted(
        f"{STUDY}/image1.{kind}.cam.{end}"
        for kind in ("png", "jpg")
        for end in ("png", "npy")
    )
    array = np.load(tmp_path / "cam" / f"{STUDY}/image1.png.cam.npy")
    assert array.dtype == np.float32
    assert np.array_equal(array, CAM)
    overlay = cv2.imread(str(tmp_path / "cam" / f"{STUDY}/image1.png.cam.png"), -1)
    assert overlay.shape == (60, 40, 3)


def test_maps_json_has_the_geometry_of_the_arrays(tmp_path):
    """The folder alone is enough to draw the overlay from the array."""
    write(tmp_path, "a.png")
    content = json.loads((tmp_path / "maps.json").read_text())
    assert "logits" in content["notice"]
    assert "not for medical use" in content["notice"]
    assert content.pop("notice").count(".") == 1
    assert content.pop("members") == 5
    assert content.pop("made_from") == ORIGIN
    assert {len(content.pop("sha256")), len(content.pop("checksum"))} == {64}
    assert content == {**PREPROCESSING.to_json(), "field": EXTENT}
    resized = cam_overlay.resize_to_radiograph(
        np.load(tmp_path / "a.png.cam.npy"), RADIOGRAPH.shape, **content
    )
    overlay = cv2.imread(str(tmp_path / "a.png.cam.png"))
    assert np.array_equal(overlay, cam_overlay.draw_overlay(RADIOGRAPH, resized))


def test_maps_json_is_moved_last(tmp_path, monkeypatch):
    moved, replace = [], os.replace

    def record(old, new, **folders):
        moved.append(Path(new).name)
        replace(old, new, **folders)

    monkeypatch.setattr(os, "replace", record)
    write(tmp_path / "cam", "a.png", "z/b.png")
    assert moved[1:] == [  # after the manifest of the move
        "a.png.cam.npy",
        "a.png.cam.png",
        "key.png",
        "b.png.cam.npy",
        "b.png.cam.png",
        "maps.json",
    ]


def test_a_full_disk_at_the_first_file_leaves_nothing(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(XenonError, match="cam: No space left on device"):
        write(tmp_path / "cam", "a.png")
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    "path", ["/a/b.png", "../../b.png", "a/../../../../../../../../b.png", "//b.png"]
)
def test_no_name_leads_out_of_the_folder(tmp_path, path):
    out = tmp_path / "deep" / "cam"
    write(out, path)
    assert len(files(tmp_path)) == 2
    assert len(files(out)) == 2


def test_images_that_would_share_a_file_are_refused_before_anything_is_written(
    tmp_path,
):
    relative = "x/b.png"
    with pytest.raises(XenonError, match="2 images would share") as caught:
        write(tmp_path / "cam", relative, "/" + relative, "c.png")
    assert caught.value.details == (relative, "/" + relative)
    assert not (tmp_path / "cam").exists()


def test_a_folder_that_holds_something_is_refused_and_left_alone(tmp_path):
    out = tmp_path / "cam"
    write(out, "a.png")
    before = files(out)
    with pytest.raises(XenonError, match=r"already holds a\.png\.cam\.npy"):
        write(out, "b.png", origin="1" * 64)
    assert files(out) == before
    (out / "maps.json").unlink()
    with pytest.raises(XenonError, match=r"already holds a\.png\.cam\.npy"):
        write(out, "a.png")


def test_unchanged_maps_of_the_same_origin_are_replaced(tmp_path):
    out = tmp_path / "cam"
    write(out, "a.png", "old/b.png")
    (out / "notes.txt").write_text("mine")
    write(out, "a.png", "new/b.png")
    assert sorted(p.name for p in out.iterdir()) == [
        "a.png.cam.npy",
        "a.png.cam.png",
        "key.png",
        "maps.json",
        "new",
        "notes.txt",
    ]
    (out / "a.png.cam.png").write_bytes(b"mine")
    with pytest.raises(XenonError, match="were changed since"):
        write(out, "a.png")
    assert (out / "a.png.cam.png").read_bytes() == b"mine"
    write(out, "a.png", origin="1" * 64, overwrite=True)
    assert (out / "a.png.cam.png").read_bytes() != b"mine"
    assert (out / "notes.txt").read_text() == "mine"


def test_the_folder_has_a_colour_key_that_is_replaced_only_if_it_is_ours(tmp_path):
    out = tmp_path / "cam"
    write(out, "a.png")
    assert np.array_equal(cv2.imread(str(out / "key.png")), cam_key.draw_key())
    (out / "key.png").write_bytes(b"mine")
    with pytest.raises(XenonError, match="were changed since"):
        write(out, "a.png")
    assert (out / "key.png").read_bytes() == b"mine"
    write(out, "a.png", overwrite=True)
    assert cv2.imread(str(out / "key.png")) is not None


def test_maps_of_a_version_without_a_key_are_replaced(tmp_path, monkeypatch):
    out = tmp_path / "cam"
    with monkeypatch.context() as patch:
        patch.setattr(cam_folder.CamFolder, "_write_key", lambda self: None)
        write(out, "a.png")
    assert not (out / "key.png").exists()
    write(out, "a.png")
    assert (out / "key.png").is_file()


def test_a_link_to_an_empty_folder_is_accepted(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "cam").symlink_to(tmp_path / "real")
    write(tmp_path / "cam", "a.png")
    assert len(files(tmp_path / "real")) == 2


def test_a_file_in_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "cam").write_text("mine")
    with pytest.raises(XenonError, match="needs a folder"):
        cam_folder.check_folder(tmp_path / "cam")
    with pytest.raises(XenonError, match="needs a folder"):
        cam_folder.check_folder(tmp_path / "cam" / "below")


def fail(out):
    with cam_folder.CamFolder(
        out, ["a.png", "b.png"], PREPROCESSING, EXTENT, 5, ORIGIN
    ) as folder:
        folder.add("a.png", RADIOGRAPH, CAM)
        raise XenonError("in the middle")


def test_a_failure_leaves_no_files(tmp_path):
    for made in (False, True):
        out = tmp_path / f"cam{made}"
        if made:
            out.mkdir()
        with pytest.raises(XenonError, match="in the middle"):
            fail(out)
        assert out.exists() == made
        assert not files(tmp_path)


def test_leftovers_of_a_killed_prediction_are_removed(tmp_path):
    out = tmp_path / "cam"
    (out / ".xenon-0123456789abcdef.partial").mkdir(parents=True)
    (out / ".xenon-0123456789abcdef.partial" / "a.png.cam.npy").write_text("half")
    write(out, "b.png")
    assert files(out) == ["b.png.cam.npy", "b.png.cam.png"]


def test_a_name_that_is_too_long_is_refused_on_entering(tmp_path):
    names = "a" * 244 + ".png", "b" * 243 + ".png"  # of 248 and of 247 bytes
    with pytest.raises(XenonError, match="names of more than 247 bytes") as e:
        cam_folder.CamFolder(
            tmp_path / "cam", names, PREPROCESSING, EXTENT, 5, ORIGIN
        ).__enter__()
    assert e.value.details == (names[0],)
    assert not (tmp_path / "cam").exists()
    write(tmp_path / "cam", names[1])
