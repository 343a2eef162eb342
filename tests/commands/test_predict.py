"""xenon-predict: every form of INPUT, and the exact content of the tables."""

from __future__ import annotations

import errno
import json
import logging
import math
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import synthetic
from support import archives, hospital, mura_tree
from support.dicom_files import written
from support.predictions import predict_tables, read

from xenon_mx.commands import pack, predict, train
from xenon_mx.config import PackConfig, PredictConfig, TrainConfig
from xenon_mx.data import datasets
from xenon_mx.errors import XenonError
from xenon_mx.evaluation import provenance, seen
from xenon_mx.inference import cam_folder
from xenon_mx.models import network
from xenon_mx.models import weight_files as arrays
from xenon_mx.runs.run_folder import Run
from xenon_mx.runtime import files
from xenon_mx.runtime.mxnet import mx

NET = "mobilenet0.25"
SIZE = 32
TYPES = ("XR_WRIST", "XR_HAND")


def draw(root: Path, split: str, studies: int, seed: int) -> None:
    """Write studies of one to three views in MURA's layout, with its two CSVs."""
    listed, views = [], []
    pixels, _ = synthetic.labelled(3 * studies, SIZE, seed)
    for number in range(studies):
        count = 1 + number % 3
        study = mura_tree.Study(
            split,
            TYPES[number // 2 % 2],
            patient=seed * 100 + number // 4,  # two studies, two types
            label=number % 2,
            views=count,
            number=1 + number % 2,
        )
        listed.append(study)
        views += list(pixels[3 * number : 3 * number + count])
    mura_tree.write_images(root, listed, lambda f, n: cv2.imwrite(str(f), views[n]))
    mura_tree.write_csvs(root, split, listed)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Create a data set, its packed folder (lossless), and a run of three epochs."""
    base = tmp_path_factory.mktemp("world")
    root = base / "MURA-v1.1"
    draw(root, "train", 24, seed=1)
    draw(root, "valid", 10, seed=2)
    pack.pack(PackConfig(root, base / "packed", size=SIZE, encoding="png"))
    for name in ("run", "other"):
        config = TrainConfig(
            base / "packed",
            base / name,
            model=NET,
            no_pretrained=True,
            epochs=3,
            ctx="cpu()",
            seed=len(name),
        )
        train.train(config)
    return base


def ask(world, tmp_path, *inputs, runs=("run",), **options):
    """Predict; return the rows of OUT.csv, those of --images, and the Predictions."""
    runs = [world / run for run in runs]
    return predict_tables(tmp_path, map(Path, inputs), runs, **options)


def valid_csv(world):
    return world / "MURA-v1.1" / "valid_image_paths.csv"


def test_the_tables_have_the_documented_columns(world, tmp_path):
    ask(world, tmp_path, valid_csv(world))
    header = (tmp_path / "out.csv").read_text().splitlines()[0]
    assert header == "study,study_type,images,probability,prediction,label"
    header = (tmp_path / "images.csv").read_text().splitlines()[0]
    assert header == (
        "image,study,study_type,probability,prediction,label,member_1,member_2,member_3"
    )


def test_a_study_is_the_mean_of_its_images_and_an_image_of_its_members(world, tmp_path):
    studies, images, _ = ask(world, tmp_path, valid_csv(world))
    members = [m.params for m in Run.open(world / "run").members()]
    nets = [network.build(NET, each) for each in members]
    for row in images:
        file = world / row["image"]
        pixels = cv2.imread(str(file), cv2.IMREAD_GRAYSCALE)[np.newaxis]
        batch = network.normalise(mx.nd.array(pixels, dtype="uint8"))
        probs = [net(batch).sigmoid().asnumpy().item() for net in nets]
        members_prob = [float(row[f"member_{i + 1}"]) for i in range(3)]
        assert members_prob == pytest.approx(probs, rel=1e-4)
        mean = pytest.approx(np.mean(members_prob), rel=1e-6)
        assert float(row["probability"]) == mean
    for row in studies:
        views = [float(i["probability"]) for i in images if i["study"] == row["study"]]
        assert int(row["images"]) == len(views)
        assert float(row["probability"]) == pytest.approx(np.mean(views), rel=1e-6)


def test_study_type_and_label_come_from_the_path(world, tmp_path):
    studies, _, _ = ask(world, tmp_path, valid_csv(world))
    assert len(studies) == 10
    for row in studies:
        assert row["study_type"] == row["study"].split("/")[2]
        assert row["label"] == str(int("positive" in row["study"]))
        assert row["study"].startswith("MURA-v1.1/valid/")
        assert row["study"].endswith("/")


def test_every_form_of_input_gives_the_same_predictions(world, tmp_path):
    root = world / "MURA-v1.1"
    expected, _, _ = ask(world, tmp_path, valid_csv(world))
    files = [world / line for line in valid_csv(world).read_text().split()]
    for form in (
        [root / "valid"],
        files,
        [root / "valid" / "XR_HAND", root / "valid" / "XR_WRIST"],
        [world / "packed" / "valid.rec"],
    ):
        rows, _, _ = ask(world, tmp_path, *form)
        key = lambda row: row["study"]  # noqa: E731
        for row, wanted in zip(sorted(rows, key=key), sorted(expected, key=key)):
            assert row["study"] == wanted["study"]
            assert row["label"] == wanted["label"]
            assert float(row["probability"]) == pytest.approx(
                float(wanted["probability"]), rel=1e-4
            )


def test_a_member_on_valid_rec_has_the_loss_that_training_logged(world, tmp_path):
    """Also recomputed from the nine digits of --images, in float64."""
    best = Run.open(world / "run").members()[0]
    _, images, result = ask(world, tmp_path, world / "packed" / "valid.rec", members=1)
    assert list(result.losses) == [best.params]
    assert result.losses[best.params] == pytest.approx(best.loss, abs=1e-6)
    meta = Run.open(world / "run").meta
    total = 0.0
    for row in images:
        label, prob = int(row["label"]), float(row["member_1"])
        weight = meta.weights[meta.study_types.index(row["study_type"])][label]
        total -= weight * math.log(prob if label else 1 - prob)
    assert total / len(images) == pytest.approx(best.loss, abs=1e-6)


def test_metrics_have_one_row_per_study_type_and_one_over_all(world, tmp_path):
    _, _, result = ask(world, tmp_path, valid_csv(world))
    assert [s.study_type for s in result.metrics] == ["XR_HAND", "XR_WRIST", "overall"]
    assert [s.studies for s in result.metrics] == [4, 6, 10]
    assert [s.abnormal for s in result.metrics] == [2, 3, 5]


def test_submission_has_exactly_the_competitions_format(world, tmp_path):
    """Lines are shuffled, views separated, and test folders have no label."""
    lines = valid_csv(world).read_text().split()
    unlabelled = []
    for line in lines:
        test = line.replace("/valid/", "/test/")
        unlabelled.append(test.replace("_positive", "").replace("_negative", ""))
        copy = world / unlabelled[-1]
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes((world / line).read_bytes())
    np.random.RandomState(0).shuffle(unlabelled)
    asked = tmp_path / "test_image_paths.csv"
    asked.write_text("\n".join(unlabelled))  # no newline at the end
    config = PredictConfig(
        (asked,), tmp_path / "p.csv", (world / "run",), root=world, submission=True
    )
    result = predict.predict(config)
    assert result.metrics == []
    written = (tmp_path / "p.csv").read_text()
    rows = [line.split(",") for line in written.splitlines()]
    assert written == "".join(f"{study},{value}\n" for study, value in rows)
    expected = {line.rpartition("/")[0] + "/" for line in unlabelled}
    assert {study for study, _ in rows} == expected
    assert len(rows) == len(expected)
    assert {value for _, value in rows} <= {"0", "1"}


def test_threshold_is_strict_and_changes_the_prediction_only(world, tmp_path):
    base, _, _ = ask(world, tmp_path, valid_csv(world), members=1)
    middle = base[3]["probability"]
    rows, _, _ = ask(
        world, tmp_path, valid_csv(world), members=1, threshold=float(middle)
    )
    for before, after in zip(base, rows):
        assert before["probability"] == after["probability"]
        above = float(after["probability"]) > float(middle)
        assert after["prediction"] == str(int(above))


@pytest.mark.parametrize("cam", [None, "maps"])
def test_weights_that_yield_nan_are_an_error(world, tmp_path, cam):
    """NaN is above no threshold: each study would be normal."""
    shutil.copytree(world / "run", tmp_path / "run")
    run = Run.open(tmp_path / "run")
    first = run.members()[0]
    params = arrays.read(first.params)
    params["output.weight"] = np.full_like(params["output.weight"], 3e38)
    first.params.write_bytes(arrays.encode(params))
    best = json.loads((tmp_path / "run" / "best.json").read_text())
    best["best"][0]["sha256"] = files.sha256(first.params)
    best.pop("checksum")
    files.write_json(tmp_path / "run" / "best.json", best)
    options = {"cam": tmp_path / cam} if cam else {}
    with pytest.raises(XenonError, match="yields no finite number for .* images"):
        ask(world, tmp_path, valid_csv(world), runs=(tmp_path / "run",), **options)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_several_runs_form_one_ensemble_of_their_best(world, tmp_path):
    _, images, result = ask(
        world, tmp_path, valid_csv(world), runs=("run", "other"), members=4
    )
    both = Run.open(world / "run").members() + Run.open(world / "other").members()
    best = [m.params for m in sorted(both, key=lambda m: m.loss)[:4]]
    assert list(result.losses) == best
    assert "member_4" in images[0]
    assert "member_5" not in images[0]


def test_fewer_than_five_members_are_logged(world, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        ask(world, tmp_path, valid_csv(world))
    assert "fewer members than the paper's 5" in caplog.text


def test_images_outside_the_layout_are_studies_of_their_own_and_logged(
    world, tmp_path, caplog
):
    loose = tmp_path / "loose"
    loose.mkdir()
    for name in ("a.png", "b.png"):
        cv2.imwrite(str(loose / name), synthetic.blobs(1)[0])
    with caplog.at_level(logging.WARNING):
        studies, _, result = ask(world, tmp_path, loose)
    assert "each counts as a study of its own" in caplog.text
    assert [Path(row["study"]).name for row in studies] == ["a.png", "b.png"]
    assert studies[0]["label"] == ""
    assert result.metrics == []
    with pytest.raises(XenonError, match="--submission"):
        ask(world, tmp_path, loose, submission=True)


def test_an_unknown_study_type_is_logged(world, tmp_path, caplog):
    image = tmp_path / "XR_FOOT" / "patient1" / "study1" / "image1.png"
    image.parent.mkdir(parents=True)
    cv2.imwrite(str(image), synthetic.blobs(1)[0])
    with caplog.at_level(logging.WARNING):
        ask(world, tmp_path, image)
    assert "not trained on: XR_FOOT" in caplog.text


def test_all_images_that_cannot_be_read_are_named_and_nothing_is_written(
    world, tmp_path
):
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(20):
        cv2.imwrite(str(folder / f"{number}.png"), synthetic.blobs(1)[0])
    for name in ("3.png", "17.png"):
        (folder / name).write_bytes(b"no image")
    with pytest.raises(XenonError, match="2 images cannot be read") as caught:
        ask(world, tmp_path, folder)
    assert [Path(d.split(":")[0]).name for d in caught.value.details] == [
        "3.png",
        "17.png",
    ]
    assert not (tmp_path / "out.csv").exists()


def spoil(world, folder):
    """Copy the data set, and spoil a whole study, an image of another, and a file.

    Return the root, the lost study, the study that lost an image, and the bad images.
    """
    root = folder / "MURA-v1.1"
    shutil.copytree(world / "MURA-v1.1", root)
    listed = (root / "valid_image_paths.csv").read_text().split()
    studies = dict.fromkeys(path.rpartition("/")[0] + "/" for path in listed)
    views = {s: [path for path in listed if path.startswith(s)] for s in studies}
    lost, partial = (
        next(s for s in studies if len(views[s]) == count) for count in (2, 3)
    )
    first, second = (folder / path for path in views[lost])
    first.write_bytes(b"no image")
    second.unlink()
    blank = folder / views[partial][1]
    cv2.imwrite(str(blank), np.zeros((SIZE, SIZE), np.uint8))
    return root, lost, partial, [*views[lost], views[partial][1]]


@pytest.mark.parametrize("form", ["csv", "files"])
def test_skip_bad_leaves_out_images_and_says_so_in_the_record(
    world, tmp_path, caplog, monkeypatch, form
):
    monkeypatch.chdir(tmp_path)
    root, lost, partial, bad = spoil(world, tmp_path)
    listed = (root / "valid_image_paths.csv").read_text().split()
    given = [root / "valid_image_paths.csv"]
    there = listed
    if form == "files":
        there = [path for path in listed if Path(path).exists()]
        bad = [path for path in bad if path in there]
        given = [Path(path) for path in there]
    all_studies, all_images, _ = ask(world, tmp_path, valid_csv(world))
    by_name = {row["image"]: row for row in all_images}
    caplog.clear()
    studies, images, result = ask(
        world, tmp_path, *given, skip_bad=True, cam=Path("maps"), batch_size=4
    )
    assert [row["image"] for row in images] == [p for p in there if p not in bad]
    for row in images:
        wanted = by_name[row["image"]]
        for key in ("probability", "member_1", "member_3"):
            assert float(row[key]) == pytest.approx(float(wanted[key]), rel=1e-4)
    for row in studies:
        views = [float(i["probability"]) for i in images if i["study"] == row["study"]]
        assert float(row["probability"]) == pytest.approx(np.mean(views), rel=1e-6)
        assert int(row["images"]) == len(views)
    assert {r["study"] for r in all_studies} - {r["study"] for r in studies} == {lost}
    overlays = {p.relative_to("maps").as_posix() for p in Path("maps").rglob("*png")}
    overlays -= {"key.png"}
    assert overlays == {f"{row['image']}{cam_folder.OVERLAY}" for row in images}
    assert result.metrics[-1].studies == len(studies) == 9

    for record in ("out.csv", "images.csv"):
        found = recorded(tmp_path / record)
        assert [each.image for each in found.left_out.images] == bad
        assert found.left_out.studies == (lost,)
        assert (found.counts.images, found.counts.studies) == (len(images), 9)
        assert found.seen.studies == 9
    reasons = {each.image: each.reason for each in found.left_out.images}
    assert reasons[bad[0]] == "not an image: neither PNG, JPEG, BMP, TIFF nor DICOM"
    assert "nothing to see" in reasons[bad[-1]]
    said = [line for line in caplog.messages if "left out" in line or "predict" in line]
    assert all(f"left out: {path}: {reasons[path]}" in said for path in bad)
    assert f"no prediction: {lost}: none of its images can be read" in said
    assert f"predicted by 2 of 3 images: {partial}" in said
    assert said[-1].startswith(f"left out {len(bad)} images: 1 study has no prediction")


def test_without_skip_bad_the_error_names_it(world, tmp_path):
    root, _, _, bad = spoil(world, tmp_path)
    with pytest.raises(XenonError, match="1 of 19 images cannot be found"):
        ask(world, tmp_path, root / "valid_image_paths.csv")
    with pytest.raises(XenonError, match="2 images cannot be read: .*--skip-bad"):
        ask(world, tmp_path, root / "valid")


def test_skip_bad_with_nothing_left_is_an_error(world, tmp_path):
    (tmp_path / "a.png").write_bytes(b"no image")
    with pytest.raises(XenonError, match="none of 1 image can be read") as caught:
        ask(world, tmp_path, tmp_path / "a.png", skip_bad=True)
    assert len(caught.value.details) == 1
    assert not (tmp_path / "out.csv").exists()


def test_a_submission_must_have_every_study(world, tmp_path):
    """The competition's scorer would not notice that one is missing."""
    root, lost, _, _ = spoil(world, tmp_path)
    asked = {"skip_bad": True, "submission": True}
    with pytest.raises(XenonError, match="1 study has no image that can") as caught:
        ask(world, tmp_path, root / "valid_image_paths.csv", **asked)
    assert caught.value.details == (lost,)
    assert not (tmp_path / "out.csv").exists()
    whole = next(p for p in (world / lost).rglob("*.png"))
    shutil.copy(whole, tmp_path / lost / "image1.png")
    config = PredictConfig(
        (root / "valid_image_paths.csv",), tmp_path / "s.csv", (world / "run",), **asked
    )
    predict.predict(config)
    assert len((tmp_path / "s.csv").read_text().splitlines()) == 10


def test_skip_bad_names_an_archives_files_by_pseudonyms(
    world, tmp_path, caplog, monkeypatch
):
    """A bad header, which tells no study, and a radiograph that shows nothing."""
    key = hospital.write_key(tmp_path / "key")
    monkeypatch.setenv("XENON_KEY", str(key))
    blank = written(np.zeros((40, 40), np.uint8), PatientID="PID-7")
    export = archives.write(
        tmp_path / "export",
        {
            "Doe/good": archives.radiograph(1),
            "Doe/empty.dcm": b"",
            "Doe/Jane/blank": blank,
        },
    )
    with pytest.raises(XenonError, match="1 DICOM file cannot be used"):
        ask(world, tmp_path, export)
    studies, _, _ = ask(world, tmp_path, export, skip_bad=True)
    assert len(studies) == 1
    left_out = recorded(tmp_path / "out.csv").left_out
    reasons = {each.image: each.reason for each in left_out.images}
    assert sorted(name[0] for name in reasons) == ["X", "f"]
    assert "the file is empty" in reasons.values()
    assert len(left_out.studies) == 1
    told = (tmp_path / "out.csv.json").read_text() + caplog.text
    for secret in ("Doe", "Jane", "PID-", "ACC-1", archives.ROOT_UID):
        assert secret not in told


@pytest.mark.parametrize(
    ("name", "message"),
    [("nothing.csv", "no such file"), ("empty", "no image in this folder")],
)
def test_an_input_without_images_is_refused(world, tmp_path, name, message):
    (tmp_path / "empty").mkdir()
    with pytest.raises(XenonError, match=message):
        ask(world, tmp_path, tmp_path / name)


def test_of_an_archives_export_the_radiographs_are_predicted(world, tmp_path, caplog):
    """Of several folders, one line counts what is left out."""
    nothing = dict.fromkeys(("Rows", "Columns", "PixelData"))
    pixels = synthetic.blobs(1, 40)[0]
    for folder in ("a", "b"):
        export = tmp_path / folder / "DICOM" / "PAT1"
        export.mkdir(parents=True)
        (export / "IM1").write_bytes(written(pixels))
        (export / "PR1").write_bytes(written(pixels, Modality="PR", **nothing))
        (export / "CT1.dcm").write_bytes(written(pixels, Modality="CT"))
        (tmp_path / folder / "report.pdf").write_text("%PDF-1.4")
    studies, _, _ = ask(world, tmp_path, tmp_path / "a", tmp_path / "b")
    assert [row["study_type"] for row in studies] == ["XR_UNKNOWN"] * 2
    assert [message for message in caplog.messages if "left out" in message] == [
        "left out 6 files that are no images: 2 .pdf, 2 DICOM CT, 2 DICOM PR "
        "(presentation state)"
    ]


@pytest.mark.parametrize("form", ["file", "csv", "folder"])
def test_a_dicom_file_that_is_no_radiograph_is_an_error_if_it_is_named(
    world, tmp_path, form
):
    folder = tmp_path / "in"
    folder.mkdir()
    slice_ = folder / "slice.dcm"
    slice_.write_bytes(written(synthetic.blobs(1, 40)[0], Modality="CT"))
    (tmp_path / "in.csv").write_text("in/slice.dcm\n")
    given = {"file": slice_, "csv": tmp_path / "in.csv", "folder": folder}[form]
    message = "1 image cannot be read"
    if form == "folder":
        message = "in: no image in this folder or below: 1 DICOM CT"
    with pytest.raises(XenonError, match=message):
        ask(world, tmp_path, given)


def test_an_image_given_twice_is_refused(world, tmp_path):
    root = world / "MURA-v1.1"
    with pytest.raises(XenonError, match="given more than once"):
        ask(world, tmp_path, valid_csv(world), root / "valid" / "XR_HAND")


def test_a_file_under_two_names_is_given_twice(world, tmp_path, monkeypatch):
    pixels = tmp_path / "loose.png"
    cv2.imwrite(str(pixels), synthetic.blobs(1, SIZE)[0])
    (tmp_path / "link.png").symlink_to(pixels)
    monkeypatch.chdir(tmp_path)
    for other in (pixels, Path("link.png")):
        with pytest.raises(XenonError, match="1 image is given more than once"):
            ask(world, tmp_path, Path("loose.png"), other)


def test_studies_of_one_name_in_two_folders_are_not_merged(world, tmp_path):
    """Two hospitals in one layout: patient1 here is not patient1 there."""
    for number, place in enumerate("AB", 1):
        study = tmp_path / place / "MURA-v1.1/valid/XR_WRIST/patient1/study1_positive"
        study.mkdir(parents=True)
        pixels = synthetic.blobs(1, SIZE, seed=number)[0]
        cv2.imwrite(str(study / f"image{number}.png"), pixels)
    for inputs in ([tmp_path / "A", tmp_path / "B"], [tmp_path]):
        with pytest.raises(
            XenonError, match="1 study name is found in several"
        ) as caught:
            ask(world, tmp_path, *inputs)
        (detail,) = caught.value.details
        assert f"{tmp_path}/A/" in detail
        assert f"{tmp_path}/B/" in detail
    assert not (tmp_path / "out.csv").exists()


@pytest.mark.parametrize("form", ["folder", "files", "csv", "rec"])
def test_a_study_under_both_labels_is_refused(world, tmp_path, monkeypatch, form):
    root = tmp_path / "MURA-v1.1"
    pair = [mura_tree.Study("valid", "XR_HAND", 7, label) for label in (1, 0)]
    pixels = synthetic.blobs(2, SIZE)
    mura_tree.write_images(root, pair, lambda f, n: cv2.imwrite(str(f), pixels[n]))
    mura_tree.write_csvs(root, "valid", pair)
    inputs = {
        "folder": [root / "valid" / "XR_HAND"],
        "files": list(root.rglob("*.png")),
        "csv": [root / "valid_image_paths.csv"],
        "rec": [tmp_path / "packed" / "valid.rec"],
    }[form]
    if form == "rec":  # packed by a version that did not check this
        with monkeypatch.context() as patched:
            patched.setattr(datasets, "check_labels_of_folders", list)
            pack.pack(PackConfig(root, tmp_path / "packed", size=SIZE))
    with pytest.raises(XenonError, match="1 study is in several folders") as caught:
        ask(world, tmp_path, *inputs)
    (detail,) = caught.value.details
    names = sorted(f"MURA-v1.1/{study.folder}" for study in pair)
    assert sorted(detail.split(" and ")) == names
    assert not (tmp_path / "out.csv").exists()


def test_a_folder_that_may_not_be_read_is_not_left_out(world, tmp_path, monkeypatch):
    """os.walk would skip it silently. Root may read any folder, so this is patched."""
    shutil.copytree(world / "MURA-v1.1" / "valid", tmp_path / "valid")
    closed = str(tmp_path / "valid" / "XR_HAND")
    scandir = os.scandir

    def refusing(path):
        if str(path) == closed:
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    with pytest.raises(XenonError, match="XR_HAND: Permission denied"):
        ask(world, tmp_path, tmp_path / "valid")


def test_maps_are_not_written_into_an_input_folder(world, tmp_path):
    shutil.copytree(world / "MURA-v1.1" / "valid", tmp_path / "valid")
    with pytest.raises(XenonError, match="is inside an INPUT"):
        ask(world, tmp_path, tmp_path / "valid", cam=tmp_path / "valid" / "maps")
    assert not (tmp_path / "valid" / "maps").exists()


@pytest.mark.parametrize("link", [False, True])
def test_a_full_disk_leaves_all_outputs_as_they_were(
    world, tmp_path, monkeypatch, link
):
    """The second table does not fit: no table and no map is replaced."""
    before = "study,study_type,images,probability,prediction,label\n"
    out, real = tmp_path / "out.csv", tmp_path / ("real.csv" if link else "out.csv")
    if link:
        out.symlink_to(real)
    real.write_text(before)
    synced = []

    def fsync(number):
        synced.append(number)
        if len(synced) == 5:  # after the maps, two records and the first table
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(XenonError, match="No space left"):
        ask(world, tmp_path, valid_csv(world), cam=tmp_path / "maps")
    assert len(synced) == 5
    assert real.read_text() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted({out.name, real.name})


def test_a_rec_of_another_size_is_refused(world, tmp_path):
    pack.pack(PackConfig(world / "MURA-v1.1", tmp_path / "p", size=48))
    with pytest.raises(XenonError, match="packed with size 48"):
        ask(world, tmp_path, tmp_path / "p" / "valid.rec")


def test_a_rec_beside_other_inputs_is_refused(world, tmp_path):
    rec = world / "packed" / "valid.rec"
    for inputs in ((rec, valid_csv(world)), (valid_csv(world), rec)):
        with pytest.raises(XenonError, match="must be the only INPUT"):
            ask(world, tmp_path, *inputs)


def test_an_output_that_is_an_input_is_refused(world, tmp_path):
    copy = tmp_path / "out.csv"
    copy.write_text(valid_csv(world).read_text())
    with pytest.raises(XenonError, match="a file of its own"):
        ask(world, tmp_path, copy, root=world)
    assert copy.read_text() == valid_csv(world).read_text()


@pytest.mark.parametrize(
    ("name", "message"), [("no/such/out.csv", "does not exist"), (".", "is a folder")]
)
def test_an_output_that_cannot_be_written_is_refused_first(
    world, tmp_path, name, message
):
    config = PredictConfig((valid_csv(world),), tmp_path / name, (world / "run",))
    with pytest.raises(XenonError, match=message):
        predict.predict(config)


def test_a_folder_that_is_no_run_is_refused(world, tmp_path):
    with pytest.raises(XenonError, match="not a run"):
        ask(world, tmp_path, valid_csv(world), runs=("packed",))


def test_a_link_is_written_through_and_stays_a_link(world, tmp_path):
    (tmp_path / "out.csv").symlink_to(tmp_path / "real.csv")
    ask(world, tmp_path, valid_csv(world))
    assert (tmp_path / "out.csv").is_symlink()
    assert read(tmp_path / "real.csv")


@pytest.mark.parametrize(
    ("name", "message"), [("out.csv", "a file of its own"), ("-", "only")]
)
def test_images_need_a_file_of_their_own(world, tmp_path, name, message):
    images = Path(name) if name == "-" else tmp_path / name
    asked = PredictConfig(
        (valid_csv(world),), tmp_path / "out.csv", (world / "run",), images=images
    )
    with pytest.raises(XenonError, match=message):
        predict.predict(asked)


@pytest.mark.parametrize("name", ["image1.png", "valid.rec", "paths.csv"])
def test_a_forgotten_out_does_not_destroy_the_last_input(world, tmp_path, name):
    precious = tmp_path / name
    precious.write_text("MURA-v1.1/valid/XR_HAND/patient1/study1/image1.png\n")
    asked = PredictConfig((valid_csv(world),), precious, (world / "run",))
    with pytest.raises(XenonError, match=r"not named \.csv|not written by xenon-"):
        predict.predict(asked)
    assert precious.read_text().startswith("MURA-v1.1/")


def test_a_prediction_of_the_same_run_and_images_may_be_written_again(world, tmp_path):
    options = {"cam": tmp_path / "maps", "overwrite": False}
    first = ask(world, tmp_path, valid_csv(world), threshold=0.9, **options)[0]
    again = ask(world, tmp_path, valid_csv(world), threshold=0.0, **options)[0]
    assert (
        {row["prediction"] for row in again}
        == {"1"}
        != {row["prediction"] for row in first}
    )


def test_a_prediction_of_another_run_or_of_other_images_is_not_replaced(
    world, tmp_path
):
    options = {"overwrite": False}
    ask(world, tmp_path, valid_csv(world), **options)
    before = (tmp_path / "out.csv").read_bytes()
    images_folder = world / "MURA-v1.1" / "valid" / "XR_HAND"
    for inputs, runs in ([valid_csv(world)], ["other"]), ([images_folder], ["run"]):
        with pytest.raises(XenonError, match="from other inputs or another run"):
            ask(world, tmp_path, *inputs, runs=runs, **options)
    assert (tmp_path / "out.csv").read_bytes() == before


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("name", ["valid_labeled_studies.csv", "labels.csv"])
def test_the_labels_of_a_data_set_are_no_output(world, tmp_path, name, overwrite):
    """The shell expands `xenon-predict MURA-v1.1/valid*.csv --run R` to this."""
    labels = tmp_path / name
    shutil.copy(world / "MURA-v1.1" / "valid_labeled_studies.csv", labels)
    asked = PredictConfig(
        (valid_csv(world),), labels, (world / "run",), overwrite=overwrite
    )
    if overwrite and name == "labels.csv":
        return  # the user asked for it
    with pytest.raises(XenonError, match="data set's own file|not written by xenon"):
        predict.predict(asked)
    assert labels.read_text().startswith("MURA-v1.1/valid/")


@pytest.mark.parametrize("name", ["run/log.csv", "packed/out.csv"])
def test_a_file_of_the_run_is_never_an_output(world, tmp_path, name):
    out = world / name
    if name.startswith("packed"):
        out.hardlink_to(world / "packed" / "valid.rec")
    before = out.read_bytes()
    source = world / "packed" / "valid.rec"
    asked = PredictConfig((source,), out, (world / "run",), overwrite=True)
    with pytest.raises(XenonError, match="is an input of this command"):
        predict.predict(asked)
    assert out.read_bytes() == before


def test_a_changed_byte_in_a_rec_is_refused(world, tmp_path):
    folder = tmp_path / "packed"
    shutil.copytree(world / "packed", folder)
    data = bytearray((folder / "valid.rec").read_bytes())
    data[-200] ^= 1
    (folder / "valid.rec").write_bytes(bytes(data))
    with pytest.raises(XenonError, match=r"valid\.rec.*changed on disk"):
        ask(world, tmp_path, folder / "valid.rec")


@pytest.mark.parametrize(("split", "message"), [("train", True), ("valid", False)])
def test_predicting_the_training_images_is_logged(
    world, tmp_path, caplog, split, message
):
    with caplog.at_level(logging.WARNING):
        ask(world, tmp_path, world / "packed" / f"{split}.rec")
    assert ("were trained on these images" in caplog.text) == message


def test_the_reference_gives_the_same_probabilities(world, tmp_path):
    valid = world / "MURA-v1.1/valid_image_paths.csv"
    _, fast, _ = ask(world, tmp_path, valid)
    _, plain, _ = ask(world, tmp_path, valid, reference=True)
    assert len(fast) == len(plain) > 1
    for one, two in zip(fast, plain):
        assert one["image"] == two["image"]
        for column in ("probability", "member_1", "member_2", "member_3"):
            assert float(one[column]) == pytest.approx(float(two[column]), abs=1e-5)


def test_cam_writes_the_maps_and_changes_no_probability(world, tmp_path):
    _, plain, _ = ask(world, tmp_path, valid_csv(world))
    _, images, _ = ask(world, tmp_path, valid_csv(world), cam=tmp_path / "cam")
    for one, two in zip(plain, images):
        for column in ("probability", "member_1", "member_2", "member_3"):
            assert float(one[column]) == pytest.approx(float(two[column]), abs=1e-6)
    members = [m.params for m in Run.open(world / "run").members()]
    nets = [network.build(NET, each) for each in members]
    bias = np.mean([net.output.bias.data().asscalar() for net in nets])
    for row in images:
        cam = np.load(tmp_path / "cam" / f"{row['image']}.cam.npy")
        probs = np.array([float(row[f"member_{i + 1}"]) for i in range(3)])
        logit = np.log(probs / (1 - probs)).mean()
        assert cam.mean() + bias == pytest.approx(logit, abs=1e-4)
        overlay = cv2.imread(str(tmp_path / "cam" / f"{row['image']}.cam.png"))
        assert overlay.shape == (*cv2.imread(str(world / row["image"]), 0).shape, 3)
    assert len(list((tmp_path / "cam").rglob("*.*"))) >= 2 * len(images)


def test_cam_of_a_rec_is_overlay_on_the_packed_pixels(world, tmp_path):
    ask(world, tmp_path, valid_csv(world), cam=tmp_path / "a")
    ask(world, tmp_path, world / "packed" / "valid.rec", cam=tmp_path / "b")
    arrays = sorted((tmp_path / "a").rglob("*.cam.npy"))
    assert arrays
    for array in arrays:
        other = tmp_path / "b" / array.relative_to(tmp_path / "a")
        np.testing.assert_allclose(np.load(other), np.load(array), atol=1e-4)
        overlay = cv2.imread(str(other.with_suffix(".png")))
        assert overlay.shape == (SIZE, SIZE, 3)


@pytest.mark.parametrize("bad", [False, True])
def test_cam_is_all_there_or_not_at_all(world, tmp_path, bad):
    """Images of different sizes, drawn by several threads."""
    folder, cam = tmp_path / "in", tmp_path / "cam"
    folder.mkdir()
    for number in range(30):
        pixels = synthetic.blobs(1, 40 + number, number)[0]
        cv2.imwrite(str(folder / f"{number}.png"), pixels[:, :33])
    if bad:
        (folder / "29.png").write_bytes(b"no image")
        with pytest.raises(XenonError, match="nothing is written"):
            ask(world, tmp_path, folder, cam=cam, threads=3)
        assert not cam.exists()
        return
    ask(world, tmp_path, folder, cam=cam, threads=3)
    for number in range(30):
        place = cam / str(folder).lstrip("/") / f"{number}.png.cam.png"
        assert cv2.imread(str(place)).shape == (40 + number, 33, 3)


def test_cam_into_a_folder_that_holds_something_is_refused_first(world, tmp_path):
    (tmp_path / "cam").mkdir()
    (tmp_path / "cam" / "mine.txt").write_text("mine")
    with pytest.raises(XenonError, match=r"already holds mine\.txt"):
        ask(world, tmp_path, valid_csv(world), cam=tmp_path / "cam", overwrite=False)
    assert not (tmp_path / "out.csv").exists()


def test_mxnet_computes_all_members_at_once(world, tmp_path):
    """In a process of its own: MXNet's threads are configured on import."""
    code = f"""
import os
from pathlib import Path
from xenon_mx.commands import predict
from xenon_mx.runtime import threads as parallel
from xenon_mx.config import PredictConfig
os.environ.pop("OMP_NUM_THREADS", None)
parallel.usable_cores.__code__ = (lambda: 2).__code__
predict.predict(PredictConfig(
    (Path({str(world / "packed/valid.rec")!r}),), Path({str(tmp_path / "o.csv")!r}),
    (Path({str(world / "run")!r}),), ctx="cpu()"))
print(os.environ["OMP_NUM_THREADS"], os.environ["MXNET_CPU_WORKER_NTHREADS"])
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["1", "2"]
    here, _, _ = ask(world, tmp_path, world / "packed/valid.rec")
    for one, two in zip(read(tmp_path / "o.csv"), here):
        assert float(one["probability"]) == pytest.approx(
            float(two["probability"]), abs=1e-5
        )


# --- where tables come from ---


def recorded(table):
    found = provenance.read(table)
    assert found.reason == ""
    return found.provenance


def test_the_record_of_a_table_tells_where_it_comes_from(world, tmp_path):
    ask(
        world, tmp_path, valid_csv(world), runs=("run", "other"), members=4,
        threshold=0.4,
    )  # fmt: skip
    found = recorded(tmp_path / "out.csv")
    runs = [Run.open(world / name) for name in ("run", "other")]
    assert [r.identity for r in found.ensemble.runs] == [r.identity for r in runs]
    assert [r.name for r in found.ensemble.runs] == ["run", "other"]
    for source, run in zip(found.ensemble.runs, runs):
        assert (tmp_path / source.path).samefile(run.folder)
    for member in found.ensemble.members:
        folder = world / found.ensemble.runs[member.run].name
        assert member.sha256 == files.sha256(folder / "params" / member.params)
        assert member.params == f"{member.model}-{member.epoch:04d}.params"
    assert len(found.ensemble.members) == 4
    meta = runs[0].meta
    assert found.data.fingerprint == meta.data
    assert (found.data.trained_on, found.data.validated_on) == ("train", "valid")
    assert found.threshold == 0.4
    assert found.preprocessing == meta.preprocessing.to_json()
    assert found.inputs.kinds == {"csv": 1}
    assert (found.counts.studies, found.counts.labelled) == (10, 10)
    assert found.counts.images == len(valid_csv(world).read_text().split())
    assert found.versions["mxnet"] == mx.__version__
    assert found.command["members"] == 4
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", found.time)
    assert recorded(tmp_path / "images.csv").ensemble == found.ensemble


def test_no_record_holds_a_path_of_an_image(world, tmp_path):
    """Nor an absolute path: neither of images, whose names may be identifiers."""
    images = sorted((world / "MURA-v1.1" / "valid").rglob("*.png"))
    ask(world, tmp_path, *images, cam=tmp_path / "maps")
    for record in ("out.csv.json", "images.csv.json", "maps/maps.json"):
        text = (tmp_path / record).read_text()
        assert '"/' not in text
        assert "patient1" not in text
        assert "MURA" not in text


@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        ("valid.rec", "these images chose the checkpoints"),
        ("train.rec", "the nets were trained on these images"),
        ("valid.csv", "10 have the names of studies that chose the checkpoints"),
        ("train.csv", "24 have the names of studies that trained the nets"),
    ],
)
def test_studies_that_the_nets_have_seen_are_a_warning(
    world, tmp_path, caplog, table, sentence
):
    split, kind = table.split(".")
    given = world / "packed" / table
    if kind == "csv":
        given = world / "MURA-v1.1" / f"{split}_image_paths.csv"
    ask(world, tmp_path, given)
    (message,) = [each for each in caplog.messages if sentence in each]
    found = recorded(tmp_path / "out.csv").seen
    assert message == str(found)
    count = found.studies if kind == "rec" else {"train": 24, "valid": 10}[split]
    assert found.trained + found.validated == count


def test_another_study_of_a_patient_who_trained_the_nets_is_a_warning(
    world, tmp_path, caplog
):
    """And a study of a new patient is none."""
    (known,) = {
        path.parent.parent.name
        for path in (world / "MURA-v1.1" / "train").rglob("patient00100/*/image1.png")
    }
    for patient in (known, "patient99999"):
        study = tmp_path / "XR_HAND" / patient / "study9"
        study.mkdir(parents=True)
        cv2.imwrite(str(study / "image1.png"), synthetic.blobs(1, SIZE)[0])
    ask(world, tmp_path, tmp_path / "XR_HAND")
    found = recorded(tmp_path / "out.csv").seen
    assert (found.studies, found.trained, found.validated) == (2, 0, 0)
    assert found.patients == 1
    assert "1 is another study of a patient with such a name" in caplog.text


def test_without_studies_json_nothing_is_claimed(world, tmp_path, caplog):
    """As in a run of xenon 0.1.0; of records of its packed folder, all is known."""
    shutil.copytree(world / "run", tmp_path / "run")
    (tmp_path / "run" / "studies.json").unlink()
    ask(world, tmp_path, valid_csv(world), runs=(tmp_path / "run",))
    assert recorded(tmp_path / "out.csv").seen.basis == seen.UNKNOWN
    assert "trained" not in caplog.text
    rec = world / "packed" / "train.rec"
    ask(world, tmp_path, rec, runs=(tmp_path / "run",))
    assert recorded(tmp_path / "out.csv").seen.basis == seen.BY_RECORDS


def test_a_run_holds_no_name_of_a_study_that_it_saw(world):
    content = (world / "run" / "studies.json").read_text()
    assert "patient" not in content.replace('"patients"', "")
    other = (world / "other" / "studies.json").read_text()
    lines = {line for line in content.splitlines() if len(line.strip()) > 15}
    assert not lines & set(other.splitlines())


def test_maps_record_their_ensemble(world, tmp_path):
    ask(world, tmp_path, valid_csv(world), cam=tmp_path / "maps")
    found = cam_folder.read_ensemble(tmp_path / "maps")
    assert found.has_members_of(recorded(tmp_path / "out.csv").ensemble)
    assert (tmp_path / "maps" / found.runs[0].path).samefile(world / "run")
    ask(world, tmp_path, valid_csv(world), members=2)
    assert not found.has_members_of(recorded(tmp_path / "out.csv").ensemble)


def test_a_table_that_was_changed_has_no_provenance(world, tmp_path):
    ask(world, tmp_path, valid_csv(world))
    table = tmp_path / "out.csv"
    record = json.loads((tmp_path / "out.csv.json").read_text())
    table.write_bytes(table.read_bytes() + b"\n")
    assert provenance.read(table).provenance is None
    assert "was changed since" in provenance.read(table).reason
    table.write_bytes(table.read_bytes()[:-1])
    assert provenance.read(table).provenance
    for change, reason in (
        (lambda c: c.pop("provenance"), "by an older xenon"),
        (lambda c: c["provenance"].update(format=2), "not of format 1"),
        (lambda c: c["provenance"].update(threshold="x"), "not of format 1"),
        (lambda c: c["provenance"]["ensemble"].update(members=[]), "not of format 1"),
    ):
        content = json.loads(json.dumps(record))
        content.pop("checksum")
        change(content)
        files.write_json(tmp_path / "out.csv.json", content)
        assert reason in provenance.read(table).reason
    (tmp_path / "out.csv.json").unlink()
    assert "there is no out.csv.json" in provenance.read(table).reason


def test_keys_of_a_later_xenon_are_ignored(world, tmp_path):
    ask(world, tmp_path, valid_csv(world))
    content = json.loads((tmp_path / "out.csv.json").read_text())
    content.pop("checksum")
    content["provenance"]["later"] = content["provenance"]["data"]["later"] = 1
    files.write_json(tmp_path / "out.csv.json", content)
    assert recorded(tmp_path / "out.csv").counts.studies == 10
