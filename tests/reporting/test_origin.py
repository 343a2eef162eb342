"""Reports of tables that know where they come from, and of those that do not.

The run, its export and its packed folder are those of xenon 0.1.0 in tests/fixtures.
"""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest
from support import paths
from test_report import Page, _drawn_once  # noqa: F401 - a fixture

import xenon_mx as xenon
from xenon_mx.commands import predict
from xenon_mx.commands import report as reporting
from xenon_mx.config import PredictConfig, ReportConfig
from xenon_mx.data import mura
from xenon_mx.errors import ConfigError, XenonError
from xenon_mx.models import weight_files
from xenon_mx.runs.run_folder import Run
from xenon_mx.runs.seen_studies import STUDIES_JSON, SeenStudies
from xenon_mx.runtime import files

WRITTEN = paths.FIXTURES / "0.1.0"
VALID = WRITTEN / "MURA-v1.1" / "valid_image_paths.csv"


def predicted(folder, run, *given, **options):
    """Predict the validation set, or what is given, into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    runs = run if isinstance(run, tuple) else (run,)
    options = {"ctx": "cpu()", "images": folder / "images.csv", **options}
    config = PredictConfig(given or (VALID,), folder / "out.csv", runs, **options)
    predict.predict(config)
    return folder / "out.csv"


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Two runs of the same data, and the tables of each and of both."""
    base = tmp_path_factory.mktemp("origin")
    for name in ("a", "b"):
        shutil.copytree(WRITTEN / "run", base / "runs" / name)
    another = base / "runs" / "b"
    meta = json.loads((another / "run.json").read_text())
    meta.pop("checksum", None)
    files.write_json(another / "run.json", {**meta, "id": "b"})
    (member,) = Run.open(another).members()
    params = weight_files.read(member.params)
    params["output.bias"] = params["output.bias"] + 1
    member.params.write_bytes(weight_files.encode(params))
    entry = json.loads((another / "best.json").read_text())["best"][0]
    entry["sha256"] = files.sha256(member.params)
    files.write_json(another / "best.json", {"best": [entry]})
    runs = base / "runs"
    predicted(base / "one", runs / "a", cam=base / "one" / "maps", threshold=0.4)
    predicted(base / "other", runs / "b", cam=base / "other" / "maps")
    predicted(base / "both", (runs / "a", runs / "b"))
    predicted(base / "onnx", WRITTEN / "ensemble.onnx")
    return base


@pytest.fixture
def place(world, tmp_path):
    """A copy of the tables and of their runs."""
    return Path(shutil.copytree(world, tmp_path / "place"))


def report(first, second=None, **options):
    out = first.parent / "report.html"
    options = {"overwrite": True, "gallery": 0, **options}
    reporting.report(ReportConfig(first, second, out, **options))
    text = out.read_text(encoding="utf-8")
    return Page(text)


def fact(page, name):
    """Return a value of the head of the page."""
    names = [word for word in page.words if word.strip()]
    return names[names.index(name) + 1]


def test_a_table_alone_finds_its_run_and_its_threshold(place):
    page = report(place / "one" / "out.csv")
    run = Run.open(place / "runs" / "a")
    assert "above 0.4" in fact(page, "Called abnormal")
    epochs = ", ".join(str(member.epoch) for member in run.members())
    assert f"1 member of run a (epoch {epochs})" in fact(page, "Predicted by")
    assert run.meta.data[:12] in fact(page, "Trained on")
    assert "curves" in [attrs.get("id") for attrs in page.all("section")]
    assert f"{run.meta.model}: a" in page.text
    same = report(place / "runs" / "a", place / "one" / "out.csv")
    assert same.text == page.text


def test_what_was_left_out_is_told(place, tmp_path):
    """An image of a study with two is damaged, then both images."""
    root = Path(shutil.copytree(VALID.parent, tmp_path / VALID.parent.name))
    listed = (root / VALID.name).read_text().split()
    views = [root.parent / path for path in listed[1:3]]
    assert views[0].parent == views[1].parent
    table, card = place / "one" / "out.csv", tmp_path / "card.md"
    whole = report(table, model_card=card)
    assert "eft out" not in whole.text
    assert "could not be read" not in card.read_text()
    for image, count, effect, could in (
        (views[0], "1 image", "1 study is predicted by the other images", "was"),
        (views[1], "2 images", "1 study has no prediction", "were"),
    ):
        image.write_bytes(b"")
        given = (root / VALID.name,)
        left = predicted(tmp_path / count, place / "runs/a", *given, skip_bad=True)
        page = report(left, model_card=card)
        assert fact(page, "Left out") == f"{count} that could not be read: {effect}"
        warning = f"{count} could not be read and {could} left out: {effect}."
        assert warning in page.text
        assert f"- {warning}" in card.read_text()
        if could == "was":  # the same studies
            assert f"B (out.csv): {warning}" in report(table, against=left).text


def test_a_table_alone_is_enough_in_python(place):
    table, out = place / "one" / "out.csv", place / "r.html"
    assert xenon.report(table, out=out, gallery=0) == [out]
    assert "mobilenet0.25: a" in out.read_text()


def test_run_and_table_may_be_given_in_any_order(place):
    table = place / "one" / "out.csv"
    page, other = (
        report(table, place / "runs" / "a"),
        report(place / "runs" / "a", table),
    )
    assert page.text == other.text


def test_the_table_and_its_runs_may_be_moved_together(place, tmp_path, monkeypatch):
    moved = place.rename(tmp_path / "moved")
    monkeypatch.chdir(moved / "both")
    reporting.report(ReportConfig(Path("out.csv"), None, Path("r.html"), gallery=0))
    page = Page((moved / "both" / "r.html").read_text())
    assert "was not found" not in page.text


def test_of_several_runs_each_is_shown(place):
    page = report(place / "both" / "out.csv")
    assert fact(page, "Predicted by") == (
        "2 members of runs a, b (a: epoch 1; b: epoch 1)"
    )
    heads = [word for word in page.words if word in ("a", "b")]
    assert heads[:4] == ["a", "b", "a", "b"]  # of the facts, and of the curves
    assert page.text.count("Initial weights") == 2


@pytest.mark.parametrize("change", ["removed", "another", "damaged"])
def test_a_run_that_is_gone_is_said_to_be_missing(place, change):
    """And what the record tells is shown."""
    run = place / "runs" / "a"
    if change == "damaged":
        (run / "run.json").write_text("{")
    else:
        shutil.rmtree(run)
    if change == "another":
        shutil.copytree(place / "runs" / "b", run)
    page = report(place / "one" / "out.csv")
    assert "The run a was not found at ../runs/a, seen from the table" in page.text
    assert "of run a" in fact(page, "Predicted by")
    assert "Initial weights" not in page.text
    assert "mobilenet0.25: a" in page.text


def test_a_run_that_was_moved_may_be_given(place):
    moved = (place / "runs" / "a").rename(place / "moved")
    page = report(moved, place / "one" / "out.csv")
    assert "Initial weights" in page.text
    assert "was not found" not in page.text


def test_another_run_than_that_of_the_table_is_refused_by_name(place):
    with pytest.raises(
        XenonError, match=r"out\.csv: was predicted by .* of run a"
    ) as e:
        report(place / "runs" / "b", place / "one" / "out.csv")
    assert f"not by {place / 'runs' / 'b'}" in str(e.value)
    assert not (place / "runs" / "report.html").exists()


def test_a_run_that_was_trained_further_is_noticed(place):
    best = json.loads((place / "runs" / "a" / "best.json").read_text())["best"]
    best[0]["sha256"] = "0" * 64
    files.write_json(place / "runs" / "a" / "best.json", {"best": best})
    page = report(place / "one" / "out.csv")
    assert "The run a was trained further since" in page.text


def test_an_onnx_file_behind_a_table_is_named(place):
    table = place / "onnx" / "out.csv"
    page = report(table)
    assert "of ensemble.onnx" in fact(page, "Predicted by")
    assert "an ONNX file, which holds no training history" in page.text
    with pytest.raises(XenonError, match="give the table alone"):
        report(WRITTEN / "ensemble.onnx", table)


def test_the_run_that_an_onnx_file_was_exported_from_may_be_given(place):
    """By the SHA-256 of its members, as 0.1.0 recorded nothing else."""
    page = report(place / "runs" / "a", place / "onnx" / "out.csv")
    assert "Initial weights" in page.text


def test_a_threshold_that_contradicts_the_record_is_an_error(place):
    table = place / "one" / "out.csv"
    for wrong in (0.5, 0.4001):
        with pytest.raises(ConfigError, match="was made with 0.4, not 0."):
            report(table, threshold=wrong)
    assert "above 0.4" in report(table, threshold=0.4).text


@pytest.mark.parametrize("option", ["images", "cam"])
def test_images_and_maps_of_another_ensemble_are_refused_by_name(place, option):
    name = {"images": "images.csv", "cam": "maps"}[option]
    table = place / "one" / "out.csv"
    report(table, **{option: place / "one" / name, "gallery": 1})
    with pytest.raises(XenonError, match="is of another ensemble than") as caught:
        report(table, **{option: place / "other" / name, "gallery": 1})
    message = str(caught.value)
    assert message.startswith(str(place / "other" / name))
    assert "of run b" in message
    assert "of run a" in message


def test_runs_of_the_same_name_are_told_apart(place):
    """As a user has them who keeps each in a folder of its own."""
    (place / "new").mkdir()
    same = (place / "runs" / "b").rename(place / "new" / "a")
    other = predicted(place / "third", same)
    sums = [Run.open(run).members()[0].sha256 for run in (same, place / "runs" / "a")]
    with pytest.raises(XenonError, match=f"SHA-256 {sums[0]}, not .* {sums[1]}"):
        report(place / "one" / "out.csv", images=other.with_name("images.csv"))


def test_maps_of_an_older_xenon_are_taken_and_said_to_be_unknown(place):
    maps = place / "other" / "maps"
    content = json.loads((maps / "maps.json").read_text())
    del content["ensemble"], content["checksum"]
    files.write_json(maps / "maps.json", content)
    page = report(place / "one" / "out.csv", cam=maps, gallery=1)
    assert fact(page, "Maps") == "of which ensemble is not known"


@pytest.mark.parametrize("change", ["edited", "removed", "older"])
def test_a_table_without_its_record_is_taken_and_the_page_says_so(place, change):
    """An edited table is as one without; of an older xenon, there is no provenance."""
    table, record = place / "other" / "out.csv", place / "other" / "out.csv.json"
    if change == "edited":
        table.write_text(table.read_text() + "\n")
    elif change == "removed":
        record.unlink()
    else:
        content = json.loads(record.read_text())
        del content["provenance"], content["checksum"]
        files.write_json(record, content)
    page = report(table)
    reason = {
        "edited": "was changed since",
        "removed": "there is no out.csv.json",
        "older": "an older xenon",
    }[change]
    assert reason in fact(page, "Why it is not known")
    assert fact(page, "Predicted by") == "not known"
    assert "above 0.5, assumed" in fact(page, "Called abnormal")
    assert "Which run predicted is not known" in page.text
    assert "It is not known whether these studies trained" in page.text
    page = report(place / "runs" / "a", table)
    assert "is what the command says" in fact(page, "Predicted by")
    assert "Initial weights" in page.text


def test_a_table_of_another_program_has_a_page(tmp_path):
    rows = [f"s{i},{(i % 10) / 10},{int(i % 10 > 4)}" for i in range(40)]
    table = tmp_path / "theirs.csv"
    table.write_text("\n".join(["study,probability,label", *rows]))
    figures, card = tmp_path / "figures.csv", tmp_path / "card.md"
    page = report(table, figures=figures, model_card=card)
    ids = [attrs.get("id") for attrs in page.all("section")]
    expected = "origin training results types patients gallery limits"
    assert ids == expected.split()
    assert "40 studies (patients unknown)" in page.text
    for text in (page.text, card.read_text()):
        assert "Patients unknown: each study counts as a patient" in text
    with open(figures, newline="") as stream:
        assert {row["patients"] for row in csv.DictReader(stream)} == {"unknown"}


def test_subgroups_have_a_table_each(tmp_path):
    rows = [
        f"XR_HIP/p{i}/s1/,{(i % 9) / 10},{int(i % 10 > 4)},{'FM'[i % 3 == 0]},{i},x"
        for i in range(60)
    ]
    table = tmp_path / "theirs.csv"
    table.write_text("\n".join(["study,probability,label,sex,age,site", *rows]))
    figures, card = tmp_path / "figures.csv", tmp_path / "card.md"
    page = report(table, figures=figures, model_card=card)
    by_sex = [t for t in page.tables if t and t[0][0] == "sex"]
    assert len(by_sex) == 3
    for found in by_sex:
        assert [row[1] for row in found] == ["studies", "40", "20"]
        assert [row[0] for row in found] == ["sex", "F", "M"]
    found = page.table("kappa", "sex")
    assert not [t for t in page.tables if t and {"age", "site"} & {*t[0]}]
    assert "### By sex" in card.read_text()
    with open(figures, newline="") as stream:
        lines = list(csv.DictReader(stream))
    men = {r["figure"]: r for r in lines if r["subgroup"] == "sex=M"}
    row = next(row for row in found if row[0] == "M")
    assert float(men["kappa"]["value"]) == pytest.approx(
        float(row[3].split()[0]), abs=6e-4
    )
    assert "patients" not in lines[0]  # the paths tell them
    assert "paper" not in [attrs.get("id") for attrs in page.all("section")]


def test_study_types_beside_muras_are_not_compared_with_the_paper(tmp_path):
    types = ("XR_HIP", "XR_HAND")
    rows = [
        f"{types[i % 2]}/p{i}/s1/,{(i % 9) / 10},{int(i % 10 > 4)}" for i in range(60)
    ]
    table = tmp_path / "theirs.csv"
    table.write_text("\n".join(["study,probability,label", *rows]))
    page = report(table)
    assert [row[0] for row in page.table("paper: model")[1:]] == ["XR_HAND"]
    assert [row[0] for row in page.table("calibration error")[1:]] == [
        *("XR_HAND", "XR_HIP", "overall"),
    ]


@pytest.mark.parametrize(
    ("split", "sentence"),
    [
        ("train", "The nets were trained on these images"),
        ("holdout", "These images chose the checkpoints"),
        ("valid", "These images neither trained the nets nor chose"),
    ],
)
def test_what_the_nets_have_seen_stands_at_the_head(place, split, sentence, caplog):
    table = predicted(
        place / split, place / "runs" / "a", WRITTEN / "packed" / f"{split}.rec"
    )
    caplog.clear()
    page = report(table)
    assert fact(page, "Seen before").startswith(sentence)
    assert f"{split} of the packed data" in fact(page, "Predicted")
    (box,) = [a for a in page.all("section") if a.get("id") == "origin"]
    is_caution = split != "valid"
    assert box["class"] == ("origin caution" if is_caution else "origin")
    assert bool([m for m in caplog.messages if "images" in m]) == is_caution
    report(table, model_card=place / "card.md")
    warnings = (place / "card.md").read_text().partition("## Warnings")[2]
    assert (sentence in warnings) == is_caution


def test_studies_of_the_same_names_stand_at_the_head(place):
    run = place / "runs" / "a"
    listed = [mura.parse(line, Path()) for line in VALID.read_text().split()]
    names = {image.study for image in listed}
    files.write_json(run / STUDIES_JSON, SeenStudies.of([], listed).to_json())
    page = report(predicted(place / "new", run))
    count = len(names)
    assert fact(page, "Seen before").startswith(
        f"Of the {count} studies, {count} have the names of studies that chose the"
    )
    assert page.text.count("chose the checkpoints") == 1  # and no warning guesses it


def test_two_tables_have_their_own_ensembles_and_thresholds(place):
    first, second = (place / name / "out.csv" for name in ("one", "other"))
    page = report(first, against=second)
    for name, file, run, threshold in (("A", first, "a", 0.4), ("B", second, "b", 0.5)):
        ensemble = f"1 member of run {run} (epoch 1)"
        said = f"{name} is {file}: {ensemble}, called abnormal above {threshold}."
        assert said in page.text
    assert "The thresholds of A and B differ" in page.text
    same = report(place / "both" / "out.csv", against=second)
    assert "called abnormal above 0.5." in same.text
    assert "thresholds of A and B differ" not in same.text


def test_what_limits_the_use_of_the_second_table_is_a_warning(place, caplog):
    holdout = WRITTEN / "packed" / "holdout.rec"
    runs = place / "runs"
    first = predicted(place / "first", runs / "a", holdout)
    seen = "B (out.csv): these images chose the checkpoints"
    page = report(first, against=predicted(place / "second", runs / "b", holdout))
    assert seen in page.text
    assert any(message.startswith(seen) for message in caplog.messages)
    again = predicted(place / "again", runs / "a", holdout, threshold=0.0)
    same = "B (out.csv) was predicted by the same members as A"
    assert same in report(first, against=again).text


def test_a_page_is_replaced_by_that_of_the_same_table(place):
    """However its run is found."""
    table = place / "one" / "out.csv"
    out = table.parent / "report.html"
    for given in ((table, None), (place / "runs" / "a", table)):
        reporting.report(ReportConfig(*given, out, gallery=0))
    with pytest.raises(XenonError, match="made from other inputs or another run"):
        reporting.report(ReportConfig(place / "onnx" / "out.csv", None, out, gallery=0))
