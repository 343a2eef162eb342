"""xenon in Python: signatures like the commands', and ensembles that predict alike."""

from __future__ import annotations

import inspect
import shutil
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import synthetic

import xenon_mx as xenon
from xenon_mx import cli, config
from xenon_mx.data import images as radiographs
from xenon_mx.inference import onnxruntime_library
from xenon_mx.models import network

CONFIGS = {name: getattr(config, f"{name.capitalize()}Config") for name in cli.COMMANDS}


@pytest.mark.parametrize("name", CONFIGS)
def test_a_function_has_the_arguments_and_defaults_of_its_command(name):
    function = getattr(xenon, name)
    parameters = dict(inspect.signature(function).parameters)
    parameters.pop("progress", None)
    settings = {each.name: each for each in fields(CONFIGS[name])}
    assert set(parameters) == set(settings)
    for key, parameter in parameters.items():
        if settings[key].metadata:  # a flag of the command line
            assert parameter.default == settings[key].default, key
            assert parameter.kind is parameter.KEYWORD_ONLY
        assert f"        {key}: " in function.__doc__, key


def test_importing_is_quick_and_lazy():
    code = """
import sys, xenon_mx as xenon
heavy = {"mxnet", "numpy", "pandas", "cv2", "sklearn", "matplotlib", "click"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
xenon.load, xenon.report, xenon.train, xenon.XenonError
assert not (heavy - {"click"}) & set(sys.modules), heavy & set(sys.modules)
assert callable(xenon.report)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_unknown_names_are_no_attributes():
    with pytest.raises(AttributeError, match="lode"):
        xenon.lode  # noqa: B018


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A data set, a run and an ONNX file, made by the functions."""
    folder = tmp_path_factory.mktemp("world")
    pixels, labels = synthetic.labelled(24)
    for number, (image, label) in enumerate(zip(pixels, labels)):
        split = "train" if number < 16 else "valid"
        name = f"{split}/XR_HAND/patient{number // 2:05d}-{label}"
        study = folder / "MURA" / name / f"study1_{('negative', 'positive')[label]}"
        study.mkdir(parents=True)
        for view in (1, 2):
            cv2.imwrite(str(study / f"image{view}.png"), np.roll(image, view))
    text = str(folder)  # every path below is text, as a notebook writes it
    xenon.pack(f"{text}/MURA", f"{text}/packed", size=32, progress=False)
    checkpoints = xenon.train(
        f"{text}/packed",
        f"{text}/run",
        model="mobilenet0.25",
        no_pretrained=True,
        epochs=2,
        lr=1e-3,
        ctx="cpu()",
        progress=False,
    )
    assert [each.epoch for each in checkpoints] in ([1, 2], [2, 1])
    assert xenon.export(f"{text}/run", f"{text}/ensemble.onnx", progress=False) == 2
    return folder


@pytest.fixture(scope="module", params=["run", "ensemble.onnx"])
def ensemble(request, world):
    return xenon.load(str(world / request.param), ctx="cpu()")


def test_a_resumed_run_keeps_its_settings(world, tmp_path):
    """As `xenon-train --resume` does, from the settings that were not given."""
    settings = {"model": "mobilenet0.25", "no_pretrained": True, "ctx": "cpu()"}
    run = tmp_path / "run"
    xenon.train(world / "packed", run, **settings, epochs=1, lr=1e-3, progress=False)
    again = xenon.train(world / "packed", run, resume=True, epochs=2, progress=False)
    assert len(again) == 2


def test_studies_are_those_of_the_command(world, ensemble, tmp_path):
    found = ensemble.predict(world / "MURA" / "valid")
    xenon.predict(
        f"{world}/MURA/valid",
        f"{tmp_path}/out.csv",
        f"{world}/run",
        ctx="cpu()",
        progress=False,
    )
    table = pd.read_csv(tmp_path / "out.csv")
    assert list(found.columns) == list(table.columns)
    assert found.study.tolist() == table.study.tolist()
    assert found.label.tolist() == table.label.tolist()
    np.testing.assert_allclose(found.probability, table.probability, atol=1e-5)


def test_unreadable_images_are_left_out_if_that_is_asked(
    world, ensemble, tmp_path, caplog
):
    shutil.copytree(world / "MURA" / "valid", tmp_path / "valid")
    bad = sorted((tmp_path / "valid").rglob("*.png"))[0]
    bad.write_bytes(b"")
    with pytest.raises(xenon.XenonError, match="1 image cannot be read"):
        ensemble.predict(tmp_path / "valid")
    found = ensemble.predict(tmp_path / "valid", skip_bad=True)
    whole = ensemble.predict(world / "MURA" / "valid")
    assert len(found) == len(whole)
    assert found.images.sum() == whole.images.sum() - 1
    assert caplog.messages[-1].startswith("left out 1 image: 1 study is predicted by")


def test_a_name_like_a_formula_is_the_file_s_own_in_a_data_frame(
    world, ensemble, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    file = next((world / "MURA" / "valid").rglob("*.png"))
    shutil.copy(file, "=1+1.png")
    assert ensemble.predict("=1+1.png").study.tolist() == ["=1+1.png"]
    assert ensemble.predict_images(["=1+1.png"]).image.tolist() == ["=1+1.png"]


def test_images_may_be_files_or_arrays(world, ensemble):
    file = next((world / "MURA" / "valid").rglob("*.png"))
    array = radiographs.decode(radiographs.read(file))
    found = ensemble.predict_images([file, str(file), array])
    assert found.image.tolist()[2] == "array 2"
    assert found.study_type.tolist() == ["XR_HAND", "XR_HAND", ""]
    assert found.label.isna().tolist() == [False, False, True]
    np.testing.assert_allclose(found.probability, found.probability[0], atol=1e-8)
    members = found[["member_1", "member_2"]].mean(axis=1)
    np.testing.assert_allclose(found.probability, members, atol=1e-8)


@pytest.mark.parametrize(
    ("name", "module", "builder"),
    [
        ("run", network, "build"),
        ("ensemble.onnx", onnxruntime_library, "_load"),
    ],
)
def test_members_are_loaded_once(world, monkeypatch, name, module, builder):
    calls = []
    build = getattr(module, builder)

    def counting(*args, **options):
        calls.append(args)
        return build(*args, **options)

    monkeypatch.setattr(module, builder, counting)
    ensemble = xenon.load(world / name, ctx="cpu()")
    image = np.arange(40 * 60, dtype=np.uint8).reshape(40, 60)
    first = ensemble.predict_images([image])
    loaded = len(calls)
    assert loaded in (1, 2)  # one session, or one net per member
    pd.testing.assert_frame_equal(ensemble.predict_images([image]), first)
    several = ensemble.predict_images([image] * 3)
    np.testing.assert_allclose(several.probability, first.probability[0], atol=1e-6)
    ensemble.cam(image)
    assert len(calls) == loaded


def test_no_images_are_an_empty_table(ensemble):
    assert ensemble.predict_images([]).empty


def test_a_map_lies_over_its_image(world, ensemble):
    image = np.zeros((40, 60), np.uint8)
    image[10:20, 10:20] = 255
    overlay, cam = ensemble.cam(image)
    assert overlay.shape == (40, 60, 3)
    assert overlay.dtype == np.uint8
    assert cam.shape == (1, 1)  # a MobileNet's last feature map at 32 px
    assert cam.dtype == np.float32
    red, blue = overlay[0, 0, 0], overlay[0, 0, 2]
    assert (red > blue) == (cam[0, 0] > 0)


@pytest.mark.parametrize(
    ("image", "sentence"),
    [
        (np.zeros((4, 4)), "an array of float64: scale it to uint8"),
        (np.zeros((4, 4, 3), np.uint8), r"not an array of shape \(4, 4, 3\)"),
        (np.zeros((0, 4), np.uint8), r"not an array of shape \(0, 4\)"),
        (None, "not NoneType"),
        (Path("nowhere.png"), "nowhere.png"),
    ],
)
def test_what_is_no_image_is_refused_in_a_sentence(ensemble, image, sentence):
    with pytest.raises(xenon.XenonError, match=sentence):
        ensemble.predict_images([image])
    with pytest.raises(xenon.XenonError, match=sentence):
        ensemble.cam(image)


@pytest.mark.parametrize("images", ["image1.png", np.zeros((4, 4), np.uint8)])
def test_a_single_image_is_no_list(ensemble, images):
    with pytest.raises(xenon.XenonError, match="give a list of images"):
        ensemble.predict_images(images)


def test_any_iterable_of_images_is_predicted(ensemble):
    array = np.zeros((40, 40), np.uint8)
    assert len(ensemble.predict_images(array for _ in range(3))) == 3


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda w: xenon.load([]), "no path is given"),
        (lambda w: xenon.load(w / "run", members=0), "--members: must be at least 1"),
        (lambda w: xenon.load(w / "run", ctx="cuda"), "cuda"),
        (lambda w: xenon.predict([], w / "o.csv", w / "run"), "no path is given"),
        (lambda w: xenon.launch("xenon-train a b"), "a command is a list of words"),
        (lambda w: xenon.launch([]), "a command is a list of words"),
        (
            lambda w: xenon.train(w / "packed", w / "new", epochs=1.5),
            "--epochs: must be a whole number, not 1.5",
        ),
        (
            lambda w: xenon.pack(w / "MURA", w / "new", size="64"),
            "--size: must be a whole number, not '64'",
        ),
        (
            lambda w: xenon.load(w / "run").predict_images([], batch_size=0),
            "--batch-size: must be at least 1",
        ),
        (
            lambda w: xenon.load(w / "run").predict_images([], threshold=7),
            "--threshold: must be at most 1",
        ),
    ],
)
def test_wrong_arguments_are_refused_in_a_sentence(world, call, sentence):
    with pytest.raises(xenon.XenonError, match=sentence):
        call(world)
    assert not (world / "new").exists()


def test_a_packed_folder_stands_for_its_path(world):
    from xenon_mx.data.packed_folder import open_packed

    packed = open_packed(world / "packed")
    assert Path(packed) == world / "packed"
