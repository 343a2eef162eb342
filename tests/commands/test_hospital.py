"""A hospital's own studies through all commands: an archive, and a manifest."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from support import archives, hospital

from xenon_mx.commands import export, pack, predict, report, train
from xenon_mx.config import (
    ExportConfig,
    PackConfig,
    PredictConfig,
    ReportConfig,
    TrainConfig,
)
from xenon_mx.data import links, packed_folder

RECIPE = {
    "model": "mobilenet0.25",
    "no_pretrained": True,
    "epochs": 1,
    "ctx": "cpu()",
    "batch_size": 4,
}


def rows(file: Path) -> list[dict[str, str]]:
    with open(file, newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.fixture
def export_of_archive(tmp_path, monkeypatch):
    monkeypatch.setenv("XENON_KEY", str(hospital.write_key(tmp_path / "key")))
    return hospital.write_export(tmp_path / "Müller export", tmp_path / "labels.csv")


def test_an_archive_goes_through_all_commands_without_an_identifier(
    export_of_archive, tmp_path, caplog, capfd
):
    folder, table, secrets, labels = export_of_archive
    out = tmp_path / "out"
    out.mkdir()
    link = tmp_path / "link.csv"
    caplog.set_level("INFO")
    packed = pack.pack(
        PackConfig(folder, out / "packed", size=32, labels=table, link=link, valid=0.4)
    )
    train.train(TrainConfig(out / "packed", out / "run", **RECIPE))
    told = {"images": out / "images.csv", "cam": out / "maps", "ctx": "cpu()"}
    predict.predict(
        PredictConfig((folder,), out / "all.csv", (out / "run",), labels=table, **told)
    )
    predict.predict(
        PredictConfig(
            (out / "packed/valid.rec",), out / "v.csv", (out / "run",), ctx="cpu()"
        )
    )
    export.export(ExportConfig((out / "run",), out / "net.onnx"))
    report.report(
        ReportConfig(
            out / "v.csv",
            None,
            out / "report.html",
            model_card=out / "card.md",
            figures=out / "figures.csv",
            link=link,
        )
    )

    studies = rows(out / "all.csv")
    assert len(studies) == len(labels)
    assert {row["study_type"] for row in studies} == {"XR_HAND", "XR_WRIST"}
    by_link = {row["study"]: row for row in rows(link)}
    for row in studies:
        original = by_link[row["study"]]
        label = labels[original["accession"], original["body_part"]]
        assert row["label"] == str(label)
        assert row["scanner"] == hospital.scanner(original["accession"])
    assert link.stat().st_mode & 0o077 == 0
    assert archives.leaks(link.read_bytes(), secrets)  # there, and nowhere else
    assert all(Path(file).is_file() for file in links.read(link).values())

    splits = [packed.split(name).listed() for name in packed.splits]
    patients = [{image.patient for image in split} for split in splits]
    assert not patients[0] & patients[1]
    page = (out / "report.html").read_text()
    assert "Radiograph, view 1 of" in page
    assert "scanner" in page

    printed = caplog.text + "".join(capfd.readouterr())
    secrets |= {"Müller", str(folder), folder.name}
    for file in out.rglob("*"):
        if file.is_file():
            assert not archives.leaks(file.read_bytes(), secrets), file
            assert not archives.leaks(str(file.relative_to(out)).encode(), secrets)
    assert not archives.leaks(printed.encode(), secrets)


@pytest.fixture
def manifest_of_pngs(tmp_path):
    return hospital.write_manifest(tmp_path)


def test_a_manifest_goes_through_all_commands(manifest_of_pngs, tmp_path):
    table = manifest_of_pngs
    out = tmp_path / "out"
    out.mkdir()
    pack.pack(PackConfig(table, out / "packed", size=32, valid=0.3, holdout=0.2))
    train.train(TrainConfig(out / "packed", out / "run", **RECIPE))
    told = {"images": out / "images.csv", "cam": out / "maps", "ctx": "cpu()"}
    asked = out / "packed" / "valid.rec"
    predict.predict(PredictConfig((asked,), out / "v.csv", (out / "run",), **told))
    report.report(
        ReportConfig(
            out / "v.csv",
            None,
            out / "report.html",
            cam=out / "maps",
            link=table,
            images=out / "images.csv",
        )
    )
    packed = packed_folder.open_packed(out / "packed")
    listed = packed.split("valid").listed()
    studies = {row["study"]: row for row in rows(out / "v.csv")}
    assert studies.keys() == {image.study for image in listed}
    for image in listed:
        row = studies[image.study]
        assert row["patient"] == image.patient
        assert row["scanner"] == image.extra["scanner"]
        assert (row["study_type"], row["label"]) == (image.study_type, str(image.label))
    page = (out / "report.html").read_text()
    for words in ("scanner", "XR_KNEE", "Radiograph, view 1", "Class activation map"):
        assert words in page
    assert "patients unknown" not in page
    record = json.loads((out / "v.csv.json").read_text())
    assert record["provenance"]["inputs"]["split"] == "valid"


def test_unknown_patients_are_said_beside_intervals(manifest_of_pngs, tmp_path):
    table = manifest_of_pngs
    text = table.read_text().splitlines()
    table.write_text("\n".join(line.rpartition(",")[0] for line in text))  # no type
    cells = [line.split(",")[:4] for line in text]  # nor patient
    table.write_text("\n".join(",".join(row) for row in cells) + "\n")
    out = tmp_path / "out"
    out.mkdir()
    packed = pack.pack(PackConfig(table, out / "packed", size=32, valid=0.4))
    assert packed.study_types == ("XR_UNKNOWN",)
    train.train(TrainConfig(out / "packed", out / "run", **RECIPE))
    asked = out / "packed" / "valid.rec"
    predict.predict(PredictConfig((asked,), out / "v.csv", (out / "run",), ctx="cpu()"))
    report.report(ReportConfig(out / "v.csv", None, out / "report.html"))
    assert "patients unknown" in (out / "report.html").read_text()
