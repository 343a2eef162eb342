"""What an older version wrote: it opens, resumes, predicts, exports and is reported.

tests/fixtures/0.1.0 is what tests/fixtures/make.py wrote with xenon 0.1.0. A slow test
installs that version from the history of this repository, lets it write anew, and reads
that.
"""

from __future__ import annotations

import csv
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support import paths

from xenon_mx.commands import export, pack, predict, train
from xenon_mx.commands import report as reporting
from xenon_mx.config import (
    ExportConfig,
    PackConfig,
    PredictConfig,
    ReportConfig,
    TrainConfig,
)
from xenon_mx.data import mura, packed_folder
from xenon_mx.errors import XenonError
from xenon_mx.runs.run_folder import Run
from xenon_mx.runtime import files

# The commit that is tagged v0.1.0, for clones without tags.
COMMIT = "c20732b3b01764df073b0c1457508b882b7493e1"


@pytest.fixture(scope="module")
def anew(tmp_path_factory):
    """What 0.1.0 writes today, on this machine."""
    folder = tmp_path_factory.mktemp("anew")
    source = folder / "source"
    source.mkdir()
    archive = subprocess.run(
        ["git", "archive", COMMIT], cwd=paths.ROOT, stdout=subprocess.PIPE, check=True
    )
    subprocess.run(["tar", "-x", "-C", source], input=archive.stdout, check=True)
    python = folder / "venv" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", python.parent.parent], check=True)
    pip = [python, "-m", "pip", "install", "-q", f"{source}[cpu,test]"]
    subprocess.run(pip, check=True)
    make = source / "tests" / "fixtures" / "make.py"
    subprocess.run([python, make, python.parent, folder / "written"], check=True)
    return folder / "written"


@pytest.fixture(params=["fixture", pytest.param("anew", marks=pytest.mark.slow)])
def written(request, tmp_path):
    """A copy of what 0.1.0 wrote."""
    if request.param == "anew":
        source = request.getfixturevalue("anew")
    else:
        source = paths.FIXTURES / "0.1.0"
    return Path(shutil.copytree(source, tmp_path / "written"))


def read(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def alike(ours, theirs):
    """Compare two tables; other processors round in another way."""
    assert len(ours) == len(theirs) > 0
    for our, their in zip(ours, theirs):
        assert our.keys() == their.keys()
        for key, value in our.items():
            if key == "probability" or key.startswith("member_"):
                assert float(value) == pytest.approx(float(their[key]), abs=1e-5)
            else:
                assert value == their[key]


def test_a_packed_folder_is_whole_and_has_the_fingerprint_that_its_runs_recorded(
    written,
):
    packed = packed_folder.open_packed(written / "packed")
    assert packed.splits == ["train", "valid", "holdout"]
    assert all(packed.split(name).rows() for name in packed.splits)
    assert packed.fingerprint == Run.open(written / "run").meta.data
    assert packed.fingerprint == files.sha256(written / "packed" / "pack.json")


def test_packed_again_by_any_version_the_same_images_are_the_same_data(
    written, tmp_path, monkeypatch
):
    monkeypatch.setattr(pack, "__version__", "9.9.9")
    again = pack.pack(
        PackConfig(written / "MURA-v1.1", tmp_path / "again", size=32, holdout=0.25)
    )
    assert again.meta.xenon == "9.9.9"
    assert (
        again.fingerprint == packed_folder.open_packed(written / "packed").fingerprint
    )
    # So that a run resumes with it, and is averaged with a run that was trained on it.
    resumed = train.train(resume(written, packed=again.folder))
    assert resumed
    new = TrainConfig(
        again.folder,
        tmp_path / "new",
        model="mobilenet0.25",
        no_pretrained=True,
        ctx="cpu()",
        epochs=1,
    )
    train.train(new)
    asked = PredictConfig(
        (written / "MURA-v1.1" / "valid",),
        tmp_path / "out.csv",
        (written / "run", tmp_path / "new"),
        ctx="cpu()",
    )
    assert predict.predict(asked).members.shape[1] == 2


def resume(written, packed=None):
    run = Run.open(written / "stopped")
    recorded = {**run.meta.settings, "run": run.folder, "resume": True}
    return TrainConfig(**{**recorded, "packed": packed or written / "packed"})


def test_a_run_that_was_stopped_goes_on(written):
    before = Run.open(written / "stopped").log()
    assert len(before) == 1
    best = train.train(resume(written))
    run = Run.open(written / "stopped")
    assert run.log()[0] == before[0]
    assert [epoch.epoch for epoch in run.log()] == [1, 2, 3]
    assert best == run.members()
    for member in best:
        member.check()
    # What it has seen, which 0.1.0 did not record, is recorded from now on.
    valid = (written / "MURA-v1.1" / "valid_image_paths.csv").read_text().split()
    packed = packed_folder.open_packed(written / "packed")
    trained = [row.path for row in packed.split("train").rows()]
    for lines, count in ((valid, 0), (trained, None)):
        images = [mura.parse(line, Path()) for line in lines]
        seen = run.seen_studies().count(images)
        assert seen.trained == (seen.studies if count is None else count)


@pytest.mark.parametrize("run", ["run", "ensemble.onnx"])
def test_a_run_and_an_export_predict_what_they_predicted(written, tmp_path, run):
    asked = PredictConfig(
        (written / "MURA-v1.1" / "valid_image_paths.csv",),
        tmp_path / "studies.csv",
        (written / run,),
        images=tmp_path / "images.csv",
        cam=tmp_path / "maps",
        ctx="cpu()",
    )
    predict.predict(asked)
    for name in ("studies.csv", "images.csv"):
        alike(read(tmp_path / name), read(written / name))
    theirs = {p.relative_to(written / "maps") for p in (written / "maps").rglob("*")}
    ours = {p.relative_to(tmp_path / "maps") for p in (tmp_path / "maps").rglob("*")}
    assert ours - theirs == {Path("key.png")}  # which 0.1.0 did not write
    assert theirs <= ours


def test_dicom_files_are_predicted_as_they_were(written, tmp_path, monkeypatch):
    monkeypatch.chdir(written)
    asked = PredictConfig(
        (Path("dicom"),), tmp_path / "dicom.csv", (Path("run"),), ctx="cpu()"
    )
    predict.predict(asked)
    ours, theirs = read(tmp_path / "dicom.csv"), read(written / "dicom.csv")
    # Its names were paths, which may name patients, and are pseudonyms now.
    values = [sorted(float(row["probability"]) for row in t) for t in (ours, theirs)]
    assert values[0] == pytest.approx(values[1], abs=1e-5)


def test_a_run_is_exported_and_reported_with_its_tables_and_maps(written, tmp_path):
    run = written / "run"
    assert export.export(ExportConfig((run,), tmp_path / "new.onnx")) == 1
    config = ReportConfig(
        run,
        written / "studies.csv",
        tmp_path / "report.html",
        images=written / "images.csv",
        cam=written / "maps",
        root=written,
    )
    assert reporting.report(config) == [tmp_path / "report.html"]
    page = (tmp_path / "report.html").read_text()
    assert "Class activation map" in page
    assert "mobilenet0.25" in page


def test_what_it_wrote_without_a_record_is_replaced_only_if_that_is_said(
    written, monkeypatch
):
    monkeypatch.chdir(written)
    run, csvs = Path("run"), (Path("MURA-v1.1/valid_image_paths.csv"),)
    report = {"images": Path("images.csv"), "model_card": Path("MODEL_CARD.md")}
    attempts = (
        lambda **o: predict.predict(
            PredictConfig(csvs, Path("studies.csv"), (run,), ctx="cpu()", **o)
        ),
        lambda **o: predict.predict(
            PredictConfig(
                csvs, Path("new.csv"), (run,), cam=Path("maps"), ctx="cpu()", **o
            )
        ),
        lambda **o: export.export(ExportConfig((run,), Path("ensemble.onnx"), **o)),
        lambda **o: reporting.report(
            ReportConfig(run, Path("studies.csv"), Path("report.html"), **report, **o)
        ),
    )
    for attempt in attempts:
        with pytest.raises(XenonError, match="--overwrite"):
            attempt()
        attempt(overwrite=True)
        attempt()  # from now on it is known
