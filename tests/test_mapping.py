"""The folder of --cam: names that cannot meet or escape, all files or none."""

from __future__ import annotations

import os

import cv2
import numpy as np
import pytest

from xenon_mx import mapping
from xenon_mx.errors import XenonError

FILM = np.random.RandomState(0).randint(0, 256, (60, 40)).astype(np.uint8)
CAM = np.random.RandomState(1).normal(size=(3, 3)).astype(np.float32)
STUDY = "MURA-v1.1/valid/XR_HAND/patient1/study1_positive"


def write(out, *paths):
    with mapping.Folder(out, paths, 32, "stretch", (0, 32)) as folder:
        for path in paths:
            folder.add(path, FILM, CAM)


def files(folder):
    return sorted(
        p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()
    )


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
    drawn = cv2.imread(str(tmp_path / "cam" / f"{STUDY}/image1.png.cam.png"), -1)
    assert drawn.shape == (60, 40, 3)


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
        write(out, "b.png")
    assert files(out) == before


def test_an_empty_folder_and_a_link_to_one_are_taken(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "cam").symlink_to(tmp_path / "real")
    write(tmp_path / "cam", "a.png")
    assert len(files(tmp_path / "real")) == 2


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "cam").write_text("mine")
    with pytest.raises(XenonError, match="needs a folder"):
        mapping.check(tmp_path / "cam")
    with pytest.raises(XenonError, match="needs a folder"):
        mapping.check(tmp_path / "cam" / "below")


def fail(out):
    with mapping.Folder(out, ["a.png", "b.png"], 32, "stretch", (0, 32)) as folder:
        folder.add("a.png", FILM, CAM)
        raise XenonError("in the middle")


def test_what_fails_leaves_nothing(tmp_path):
    for made in (False, True):
        out = tmp_path / f"cam{made}"
        if made:
            out.mkdir()
        with pytest.raises(XenonError, match="in the middle"):
            fail(out)
        assert out.exists() == made
        assert not files(tmp_path)


def test_what_a_killed_prediction_left_is_cleared_away(tmp_path):
    out = tmp_path / "cam"
    with mapping.Folder(out, ["a.png"], 32, "stretch", (0, 32)) as folder:
        folder.add("a.png", FILM, CAM)
    os.rename(out, tmp_path / ".partial")
    out.mkdir()
    os.rename(tmp_path / ".partial", out / ".partial")
    write(out, "b.png")
    assert files(out) == ["b.png.cam.npy", "b.png.cam.png"]


def test_a_file_that_cannot_be_written_is_an_error_of_one_line(tmp_path):
    with pytest.raises(XenonError, match=r"cam: File name too long"):
        write(tmp_path / "cam", "a" * 250 + ".png")
    assert not (tmp_path / "cam").exists()
