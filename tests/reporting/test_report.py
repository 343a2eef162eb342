"""The report: a page and a model card of a run and its predictions."""

from __future__ import annotations

import base64
import csv
import io
import json
import logging
import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pytest
from click import UsageError
from huggingface_hub import ModelCard
from markdown_it import MarkdownIt
from support import drawn_once

from xenon_mx import cli
from xenon_mx.commands import report as reporting
from xenon_mx.config import ReportConfig
from xenon_mx.errors import ConfigError, XenonError
from xenon_mx.evaluation.competition import competition_scores
from xenon_mx.evaluation.estimates import evaluate, evaluate_by_study_type
from xenon_mx.evaluation.evaluation_set import read_predictions
from xenon_mx.evaluation.metrics import METRICS
from xenon_mx.evaluation.prediction_tables import read_table
from xenon_mx.evaluation.published import PAPER
from xenon_mx.inference import cam_folder
from xenon_mx.inference.cam_overlay import coarseness_warning
from xenon_mx.reporting import gallery, plot_style, study_files
from xenon_mx.runs.epoch_log import EpochRecord
from xenon_mx.runs.run_folder import Run
from xenon_mx.runs.run_meta import ARCHITECTURE, Preprocessing, RunMeta
from xenon_mx.runs.top_epochs import TopEpochs
from xenon_mx.runs.training_state import TrainingState
from xenon_mx.runtime import files

TYPES = ("XR_ELBOW", "XR_HAND", "XR_WRIST")
HEADER = "study,study_type,images,probability,prediction,label"
LOSSES = [0.6, 0.5, 0.55, 0.4, 0.42, 0.45, 0.44]
META = {
    "format": 1,
    "config": {
        "model": "densenet169",
        "packed": "data/<packed>",
        "loss": "weighted",
        "batch_size": 8,
        "lr": 1e-4,
        "patience": 1,
        "min_lr": 1e-6,
        "seed": 0,
    },
    "versions": {"xenon": "0.1.0", "mxnet": "1.9.1"},
    "data": "abc",
    "trained_on": {"split": "train", "images": 1234},
    "validated_on": {"split": "valid", "images": 456},
    "preprocessing": {"size": 320, "fit": "stretch"},
    "architecture": ARCHITECTURE,
    "study_types": list(TYPES),
    "weights": [[0.4, 0.6], [0.25, 0.75], [0.5, 0.5]],
    "pretrained": None,
}


@pytest.fixture(autouse=True)
def _drawn_once(monkeypatch):
    drawn_once.patch(monkeypatch)


def make_run(folder, meta=META, losses=LOSSES, is_defined=True):
    """Write a run as training does: seven epochs, of which five are kept."""
    run = Run.create(folder / "runs" / "a&b", RunMeta.from_json(meta))
    best = TopEpochs(5)
    for number, loss in enumerate(losses, 1):
        best.step(number, loss)
        net = {"a": np.full(3, number, np.float32)}
        row = EpochRecord(
            epoch=number,
            train_loss=loss + 0.1,
            val_loss=loss,
            kappa=0.1 * number if is_defined else np.nan,
            auroc=0.9 if is_defined else np.nan,
            lr=1e-4,
            images_per_s=10,
            wait_share=0.01,
            seconds=60,
        )
        run.save(row, TrainingState(number, net, net, number, {}, False), best.ranked)
    run.close()
    return run.folder


@pytest.fixture
def run(tmp_path):
    return make_run(tmp_path)


def study(number, label, kind, split="valid", name="study1"):
    end = ("negative", "positive")[label]
    return f"MURA-v1.1/{split}/{kind}/patient{number:05d}/{name}_{end}/"


def predicted(count=60, seed=0, **names):
    """Return rows of a table whose probabilities correlate with the labels."""
    rng = np.random.RandomState(seed)
    rows = []
    for number in range(count):
        label, kind = number % 2, TYPES[number % 3]
        prob = float(np.clip(rng.normal(0.3 + 0.4 * label, 0.25), 0.001, 0.999))
        name = study(number, label, kind, **names)
        rows.append([name, kind, 2, f"{prob:.9g}", int(prob > 0.5), label])
    return rows


def write(path, rows, header=HEADER):
    with open(path, "w", newline="") as stream:
        out = csv.writer(stream, lineterminator="\n")
        out.writerow(header.split(","))
        out.writerows(rows)
    return path


class Page(HTMLParser):
    """The tags, words and tables of a page; checks that tags are closed in order."""

    VOID = frozenset({"meta", "link", "img", "source", "wbr"})

    def __init__(self, text):
        super().__init__()
        self.tags, self.words, self.open, self.tables = [], [], [], []
        self.source = text
        self.feed(text)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag, attrs):
        """Record a tag, and begin a table, a row or a cell."""
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_endtag(self, tag):
        """Check that the tag is the one opened last."""
        assert self.open.pop() == tag

    def handle_data(self, data):
        """Record words, and add them to their cell."""
        if self.tags[-1:] == [("wbr", {})]:
            self.words[-1] += data
        elif "style" not in self.open:
            self.words.append(data)
        if {"td", "th"} & set(self.open):
            self.tables[-1][-1][-1] += data

    @property
    def text(self):
        """Return all words, separated by single spaces."""
        return " ".join(" ".join(self.words).split())

    def all(self, tag):
        """Return the attributes of every tag of this name."""
        return [attrs for name, attrs in self.tags if name == tag]

    def tiles(self):
        """Return the metrics in large letters: name, value and interval of each."""
        tile = r"<li><span>(.*?)</span><b.*?>(.*?)</b><span class=.*?>(.*?)</span>"
        return re.findall(tile, self.source)

    def table(self, name, first=""):
        """Return the rows of the first table whose header has a cell of this name.

        Args:
            name: The cell.
            first: The first cell of the header, if it matters.
        """
        return next(
            t for t in self.tables if t and name in t[0] and t[0][0].startswith(first)
        )


def report(run, predictions=None, **options):
    out = run.parent / "report.html"
    options = {"overwrite": True, **options}
    written = reporting.report(ReportConfig(run, predictions, out, **options))
    assert written[0] == out
    text = out.read_text(encoding="utf-8")
    return Page(text), text


class Whole(NamedTuple):
    """A report of a run, a table with labels and a model card."""

    page: Page
    text: str
    table: Path
    card: str


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    table, card = write(folder / "out.csv", predicted()), folder / "MODEL_CARD.md"
    page, text = report(make_run(folder), table, model_card=card)
    return Whole(page, text, table, card.read_text())


def sections(page):
    return [attrs["id"] for attrs in page.all("section")]


def test_a_run_alone_shows_its_training(run):
    page, _ = report(run)
    assert sections(page) == ["training", "curves", "results", "limits"]
    assert "1,234 images of train" in page.text
    assert "456 images of valid" in page.text
    assert "No predictions were given" in page.text
    assert [row[0] for row in page.table("validation loss")[1:]] == [
        "4",
        "5",
        "7",
        "6",
        "2",
    ]
    assert page.table("normal image")[2] == ["XR_HAND", "0.2500", "0.7500"]
    classes = [image["class"] for image in page.all("img")]
    assert classes == ["on-light", "on-dark"] * 3


def test_a_run_without_a_finished_epoch_has_a_page(tmp_path):
    Run.create(tmp_path / "empty", RunMeta.from_json(META)).close()
    page, _ = report(tmp_path / "empty")
    assert "No epoch is finished yet" in page.text


def unfinished_run(run, epochs):
    """Return the run as if it had been asked for this many epochs."""
    file = run / "run.json"
    content = files.read_json(file)
    content["config"]["epochs"] = epochs
    content.pop("checksum", None)
    files.write_json(file, content)
    return run


def test_a_run_that_is_not_finished_is_said_to_be_at_the_top(run, caplog, tmp_path):
    card = tmp_path / "card.md"
    page, _ = report(unfinished_run(run, 10), model_card=card)
    sentence = "Training is not finished: 7 of at most 10 epochs are done."
    assert page.text.index(sentence) < page.text.index("Trained on")
    assert sentence in card.read_text()
    assert sentence in caplog.text
    page, _ = report(unfinished_run(run, 7), model_card=card)
    for text in (page.text, card.read_text()):
        assert "not finished" not in text


def test_a_run_that_ended_on_a_plateau_is_finished(run):
    state = run / "last" / "state.json"
    content = files.read_json(state)
    content["done"] = True
    content.pop("checksum", None)
    files.write_json(state, content)
    page, _ = report(unfinished_run(run, 10))
    assert "not finished" not in page.text


def test_a_run_whose_state_is_missing_may_be_finished(run):
    shutil.rmtree(run / "last")
    page, _ = report(unfinished_run(run, 10))
    assert "Whether training is finished is not known" in page.text


def test_a_run_that_was_interrupted_in_its_first_epoch_is_not_finished(tmp_path):
    meta = RunMeta.from_json({**META, "config": {**META["config"], "epochs": 3}})
    Run.create(tmp_path / "empty", meta).close()
    page, _ = report(tmp_path / "empty")
    assert "Training is not finished: 0 of at most 3 epochs are done." in page.text


def test_numbers_agree_with_their_nouns(tmp_path):
    meta = {**META, "validated_on": {"split": "valid", "images": 1}}
    run = make_run(tmp_path, meta, losses=[0.6])
    rows = [[study(n, n, "XR_HAND"), "XR_HAND", 1, 0.7, 1, n] for n in (0, 1)]
    card = tmp_path / "card.md"
    page, _ = report(run, write(tmp_path / "out.csv", rows), model_card=card)
    assert "1 image of valid" in page.text
    assert "A ring marks the epoch with the lowest validation loss" in page.text
    assert "the data that chose this epoch" in page.text
    for text in (page.text, card.read_text()):
        assert not re.search(
            r"(?<![\d.,])1 (images|studies|patients|epochs|were)\b", text
        )
    assert " ".join(card.read_text().split()).count(
        "Studies labelled abnormal: 1 called abnormal, 0 called normal. Studies "
        "labelled normal: 1 called abnormal, 0 called normal."
    )


def test_undefined_metrics_of_training_are_not_drawn(tmp_path, run):
    page, _ = report(make_run(tmp_path / "undefined", is_defined=False))
    whole, _ = report(run)
    labels = [attrs["alt"] for attrs in page.all("img")]
    assert not [label for label in labels if "kappa" in label]
    assert len(labels) == len(whole.all("img")) - 2  # for light and for dark pages
    said = "Kappa and AUROC are undefined, since all validation studies have the same"
    assert said in page.text
    assert said not in whole.text
    header, *rows = page.table("validation loss")
    assert header[2:] == ["kappa", "AUROC"]
    assert all(row[2:] == ["undefined", "undefined"] for row in rows)


def test_every_section_is_there_and_the_warnings_come_first(whole):
    page = whole.page
    assert sections(page) == [
        "origin", "warnings", "training", "curves", "results", "types", "patients",
        "paper", "gallery", "limits",
    ]  # fmt: skip
    assert "also chose the checkpoints" in page.text
    assert "Not for medical use" in page.text
    links = {attrs["href"][1:] for attrs in page.all("a")}
    assert links <= set(sections(page))


def test_the_metrics_are_those_of_evaluation(whole):
    page = whole.page
    samples = read_predictions(whole.table)
    expected = evaluate_by_study_type(samples)
    shown = []
    for one, first in (("kappa", 3), ("PPV", 4), ("AUROC", 3)):
        header, *rows = page.table(one, "study type")
        assert [row[0] for row in rows] == [*TYPES, "overall"]
        shown += header[first:]
        for row in rows:
            of_type = {each.name: each for each in expected[row[0]]}
            for name, cell in zip(header[first:], row[first:]):
                value, low, high = of_type[name][1:]
                assert cell == f"{value:.3f}\n({low:.2f} to {high:.2f})"
    assert sorted(shown) == sorted(METRICS)
    for name, value, interval in page.tiles():
        of_all = {each.name: each for each in expected["overall"]}
        _, number, low, high = of_all[name]
        assert (value, interval) == (f"{number:.3f}", f"({low:.2f} to {high:.2f})")
    assert len(page.tiles()) == 6
    called = samples.prob > 0.5
    matrix = page.table("called normal")
    for row, label in ((matrix[1], 0), (matrix[2], 1)):
        counts = [int(re.match(r"\d+", cell).group()) for cell in row[1:]]
        chosen = called[samples.labels == label]
        assert counts == [int((~chosen).sum()), int(chosen.sum())]


def test_predictive_values_are_shown_at_the_prevalence_that_is_asked_for(run, tmp_path):
    table, card = write(tmp_path / "out.csv", predicted()), tmp_path / "card.md"
    out = tmp_path / "figures.csv"
    page, _ = report(run, table, prevalence=0.1, model_card=card, figures=out)
    samples = read_predictions(table)
    expected = {each.name: each for each in evaluate(samples, prevalence=0.1)}
    (overall,) = (r for r in page.table("PPV", "study type") if r[0] == "overall")
    assert overall[1:4] == ["60", str(int((samples.prob > 0.5).sum())), "50.0%"]
    with open(out, newline="") as stream:
        rows = {r["figure"]: r for r in csv.DictReader(stream)}  # overall is last
    for cell, name in zip(overall[6:], ("PPV", "NPV")):
        _, value, low, high = expected[f"{name} at prevalence 0.1"]
        assert cell == f"{value:.3f}\n({low:.2f} to {high:.2f})"
        row = rows[f"{name} at prevalence 0.1"]
        assert float(row["low"]) == pytest.approx(low, rel=1e-5)
    _, value, low, high = expected["PPV at prevalence 0.1"]
    for text in (page.text, " ".join(card.read_text().split())):
        assert f"At a prevalence of 10%, PPV is {value:.3f} ({low:.2f} to " in text


@pytest.mark.parametrize("prevalence", ["0", "1", "1.5", "10", "-0.1", "nan"])
def test_a_prevalence_is_above_0_and_below_1(run, tmp_path, prevalence):
    table = write(tmp_path / "out.csv", predicted())
    arguments = [str(run), str(table), "--prevalence", prevalence]
    said = f"--prevalence: must be above 0 and below 1, not {prevalence}"
    with pytest.raises(UsageError, match=re.escape(said)):
        cli.COMMANDS["report"].main(arguments, standalone_mode=False)


def of_all_types(count=140):
    """Return rows as `predicted` does, of all seven study types of MURA."""
    types = sorted(set(PAPER.kappa["model"]) - {"overall"})
    rows = predicted(count)
    for number, row in enumerate(rows):
        kind = types[number // 2 % 7]
        row[:2] = study(number, row[5], kind), kind
    return rows


def test_the_papers_pooled_kappas_are_shown_beside_all_seven_types_only(run, tmp_path):
    """The paper's pooled kappa is not comparable with a kappa of hands alone."""
    page, _ = report(run, write(tmp_path / "a.csv", of_all_types()))
    (row,) = (r for r in page.table("paper: model") if r[0] == "overall")
    assert row[2:] == ["0.705", "0.731", "0.763", "0.778"]
    page, _ = report(run, write(tmp_path / "b.csv", predicted()))
    (row,) = (r for r in page.table("paper: model") if r[0] == "overall")
    assert row[2:] == ["", "", "", ""]
    (alt,) = {i["alt"] for i in page.all("img") if i["alt"].startswith("ROC")}
    assert "paper" not in alt


def test_study_types_that_the_run_was_not_trained_on_are_a_warning(run, tmp_path):
    page, _ = report(run, write(tmp_path / "a.csv", of_all_types()))
    assert "The run was not trained on XR_FINGER, XR_FOREARM, XR_HUMERUS" in page.text


@pytest.mark.parametrize("flag", ["images", "figures", "prevalence"])
def test_flags_that_need_labels_are_errors_without(run, tmp_path, flag):
    rows = [[*row[:5], ""] for row in predicted()]
    table = write(tmp_path / "out.csv", rows)
    path = tmp_path / "x.csv" if flag != "prevalence" else 0.1
    if flag == "images":
        of_images(path, rows)
    with pytest.raises(ConfigError, match=f"--{flag}: has no effect: .* no labels"):
        report(run, table, **{flag: path})


def test_the_paper_is_labelled_as_another_test_set(run, tmp_path):
    page, _ = report(run, write(tmp_path / "out.csv", of_all_types()))
    assert "another test set: 207 hidden studies" in page.text
    row = next(r for r in page.table("paper: model") if r[0] == "XR_WRIST")
    assert row[2:] == ["0.931", "0.791", "0.931", "0.931"]
    (alt,) = {i["alt"] for i in page.all("img") if i["alt"].startswith("ROC")}
    assert "another test set: sensitivity 0.815, specificity 0.887" in alt


def test_every_image_has_an_alt_text_and_nothing_is_loaded(whole):
    page, text = whole.page, whole.text
    for image in page.all("img"):
        assert image["alt"].strip()
        assert image["src"].startswith("data:image/")
    assert not {"script", "iframe", "object", "embed", "source"} & {
        tag for tag, _ in page.tags
    }
    assert {link["href"] for link in page.all("link")} == {"data:,"}
    assert not re.search(r"(?:src|srcset|href)=\"https?:|url\(|@import", text)
    for uri in re.findall(r"data:image/svg\+xml;base64,([^\"]+)", text):
        assert b'href="http' not in base64.b64decode(uri)


def test_the_same_facts_give_the_same_page(run):
    first = report(run)[1]
    drawn_once.forget()
    assert report(run)[1] == first


def test_one_class_only_is_undefined_and_not_a_number(run, tmp_path):
    rows = [row for row in predicted() if row[5] == 1]
    page, _ = report(run, write(tmp_path / "out.csv", rows))
    (overall,) = [r for r in page.table("calibration error") if r[0] == "overall"]
    assert overall[3:5] == ["undefined", "undefined"]  # AUROC, average precision
    assert not [i for i in page.all("img") if i["alt"].startswith("ROC")]
    assert "nan" not in page.text.lower().split()


def test_without_labels_only_what_was_predicted_is_shown(run, tmp_path):
    rows = [[*row[:5], ""] for row in predicted()]
    page, _ = report(run, write(tmp_path / "out.csv", rows))
    assert "without labels" in page.text
    called = sum(row[4] for row in rows)
    (overall,) = [r for r in page.table("called abnormal") if r[0] == "overall"]
    assert overall == ["overall", "60", str(called)]
    assert "paper" not in sections(page)


def of_images(path, rows):
    """Write a table of two images per study whose mean is the study's probability."""
    header = "image,study,study_type,probability,prediction,label,member_1"
    images = []
    for name, kind, _, prob, _, label in rows:
        apart = 0.9 * min(float(prob), 1 - float(prob))
        for number, each in enumerate((-apart, apart), 1):
            one = f"{float(prob) + each:.9g}"
            called = int(float(one) > 0.5)
            image = f"{name}image{number}.png"
            images.append([image, name, kind, one, called, label, one])
    return write(path, images, header)


def test_images_are_labelled_as_images_and_not_compared(run, tmp_path):
    page, text = report(run, of_images(tmp_path / "images.csv", predicted()))
    assert "120 images of 60 patients" in page.text
    assert "not comparable with metrics of studies" in page.text
    assert "Images by label and prediction" in page.text
    assert "paper" not in sections(page)
    (alt,) = {i["alt"] for i in page.all("img") if i["alt"].startswith("ROC")}
    assert "paper" not in alt


def test_metrics_of_images_are_shown_beside_those_of_studies(run, tmp_path):
    rows = predicted()
    table = write(tmp_path / "out.csv", rows)
    images = of_images(tmp_path / "images.csv", rows)
    out = tmp_path / "figures.csv"
    page, _ = report(run, table, images=images, figures=out)
    assert sections(page).index("images") == sections(page).index("types") + 1
    assert (
        "120 images of 60 patients, 60 labelled abnormal; predicted by 1 member. "
        "Metrics of single images are not comparable with metrics of studies."
        in page.text
    )
    with open(out, newline="") as stream:
        rows = list(csv.DictReader(stream))
    for level, path in (("study", table), ("image", images)):
        samples = read_predictions(path)
        for name, values in evaluate_by_study_type(samples).items():
            labels = samples.select(name).labels
            for estimate in values:
                (row,) = (
                    row
                    for row in rows
                    if (row["level"], row["study_type"], row["figure"])
                    == (level, name, estimate.name)
                )
                assert int(row["cases"]) == len(labels)
                assert int(row["abnormal"]) == labels.sum()
                for key in ("value", "low", "high"):
                    expected = getattr(estimate, key)
                    assert float(row[key]) == pytest.approx(expected, rel=1e-5)
    patients = [row for row in rows if row["figure"].startswith("patients for")]
    assert len(patients) == 3 * 2  # of three metrics, for two margins
    assert len(rows) == 2 * 4 * len(METRICS) + len(patients)


def test_undefined_values_are_empty_cells_of_the_figures(run, tmp_path):
    rows = [row for row in predicted() if row[5] == 1]
    out = tmp_path / "figures.csv"
    report(run, write(tmp_path / "out.csv", rows), figures=out)
    lines = out.read_text().splitlines()
    assert "study,overall,30,30,AUROC,,," in lines
    assert not [line for line in lines if "nan" in line]


@pytest.mark.parametrize("wrong", ["probability", "label", "fewer"])
def test_images_of_another_prediction_are_an_error(run, tmp_path, wrong):
    """Studies must be the means of their images: of the same nets and views."""
    rows = predicted()
    table = write(tmp_path / "out.csv", rows)
    file = of_images(tmp_path / "images.csv", rows)
    lines = file.read_text().splitlines()
    cells = lines[4].split(",")
    if wrong == "probability":
        cells[3] = f"{float(cells[3]) + 1e-6:.9g}"
    elif wrong == "label":
        cells[5] = str(1 - int(cells[5]))
    lines[4:5] = [] if wrong == "fewer" else [",".join(cells)]
    file.write_text("\n".join(lines))
    with pytest.raises(XenonError, match="not of the same prediction|contradicts"):
        report(run, table, images=file)


@pytest.mark.parametrize("wrong", ["studies", "others"])
def test_images_of_other_studies_are_an_error(run, tmp_path, wrong):
    table = write(tmp_path / "out.csv", predicted())
    images = of_images(tmp_path / "images.csv", predicted(name="study2"))
    message = "is not of the same studies"
    if wrong == "studies":
        images, message = table, "needs the table that xenon-predict --images wrote"
    with pytest.raises(XenonError, match=message):
        report(run, table, images=images)


@pytest.mark.parametrize(
    "flag", ["--images", "--figures", "--prevalence", "--root", "--cam"]
)
def test_flags_that_need_predictions_are_errors_without(run, tmp_path, flag):
    arguments = [
        str(run),
        flag,
        "0.1" if flag == "--prevalence" else str(tmp_path / "x.csv"),
        "-o",
        str(tmp_path / "r.html"),
    ]
    with pytest.raises(UsageError, match="has no effect without PREDICTIONS"):
        cli.COMMANDS["report"].main(arguments, standalone_mode=False)
    assert not (tmp_path / "r.html").exists()


def test_the_competitions_scores_are_labelled_as_compatibility(whole):
    page = whole.page
    rows = page.table("the scorer's interval, far too narrow", "study type")
    scores = competition_scores(read_predictions(whole.table))
    assert [row[0] for row in rows[1:]] == [
        *("Elbow", "Finger", "Forearm", "Hand", "Humerus", "Shoulder", "Wrist"),
        "Overall",
    ]
    for part, kappa, interval in rows[1:]:
        mean = scores[f"{part}_Mean"]
        assert kappa == ("undefined" if np.isnan(mean) else f"{mean:.3f}")
        low, high = scores[f"{part}_Lower"], scores[f"{part}_Upper"]
        assert interval == ("" if np.isnan(mean) else f"({low:.2f} to {high:.2f})")
    assert "far too narrow" in rows[0][2]
    assert "Compatibility only" in page.text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a,b\n1,2\n", "is not a table of predictions"),
        ("", "is not a table of predictions"),
        (f"{HEADER}\n", "contains no predictions"),
        (f"{HEADER}\n{study(1, 1, 'XR_A')},XR_A,1,x,1,1\n", "'x' is not a number"),
    ],
)
def test_another_table_is_an_error_of_one_line(run, tmp_path, content, message):
    (tmp_path / "out.csv").write_text(content)
    with pytest.raises(XenonError, match=message) as caught:
        report(run, tmp_path / "out.csv")
    assert str(tmp_path / "out.csv") in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (run.parent / "report.html").exists()


def test_another_threshold_than_that_of_the_table_is_an_error(run, tmp_path):
    rows = [[*row[:4], int(float(row[3]) > 0.3), row[5]] for row in predicted()]
    table = write(tmp_path / "out.csv", rows)
    with pytest.raises(ConfigError, match="--threshold"):
        report(run, table)
    page, _ = report(run, table, threshold=0.3)
    assert "above 0.3" in page.text


@pytest.mark.parametrize("labelled", [True, False])
def test_hostile_names_are_escaped(run, tmp_path, labelled):
    """Hostile study names with labels; without labels, also hostile study types."""
    evil = "<script>alert(1)<-script>\"'&$x_|"
    rows = predicted(name=f"study{evil}")
    if not labelled:
        rows = [[row[0], f"XR_{evil}", *row[2:5], ""] for row in rows]
    table = write(tmp_path / "out.csv", rows)
    page, text = report(run, table, model_card=tmp_path / "card.md")
    assert "<script" not in text
    assert evil in page.text
    card = markdown((tmp_path / "card.md").read_text())
    assert "script" not in {tag for tag, _ in card.tags}
    if not labelled:
        assert [row[0] for row in card.table("called abnormal")[1:]] == [
            f"XR_{evil}",
            "overall",
        ]


def test_a_folders_name_has_no_meaning_in_markdown(tmp_path):
    """As GitHub renders Markdown: not a link, an image or a tag."""
    hostile = "![x](http:evil) <b>&amp; `c` | *d*\n# e"
    made = make_run(tmp_path).rename(tmp_path / hostile.replace("/", "-"))
    card = tmp_path / "card.md"
    table = write(tmp_path / "o|`u[t](x).csv", predicted())
    report(made, table, model_card=card)
    rendered = markdown(card.read_text())
    assert hostile.replace("\n", "\\n") in rendered.text
    assert not {"a", "img", "b", "em", "code"} & {tag for tag, _ in rendered.tags}
    assert [tag for tag, _ in rendered.tags].count("h1") == 1
    assert "its labels come from radiologists' reports" in card.read_text()


def markdown(text):
    """Render CommonMark with tables as a page."""
    return Page(MarkdownIt("commonmark").enable("table").render(text))


def test_the_model_card_has_the_contents_of_the_page(whole):
    page, card = whole.page, whole.card
    heads = re.findall(r"^## (.+)$", card, re.MULTILINE)
    assert heads == [
        "Intended use",
        "Net and training",
        "Results",
        "Warnings",
        "Limits",
    ]
    assert "**Not for medical use.**" in card
    for name in ("kappa", "PPV", "calibration error"):
        (overall,) = (r for r in page.table(name, "study type") if r[0] == "overall")
        line = "| " + " | ".join(overall) + " |"
        assert " ".join(line.split()) in card
    assert "also chose the checkpoints" in card


def test_the_hub_reads_the_card(run, tmp_path):
    """As huggingface_hub does, whose names of the metrics are those of `evaluate`."""
    card = tmp_path / "card.md"
    hostile = run.rename(run.with_name("a: [*b*] <i> 'c' \"d\" \\ é"))
    table = write(tmp_path / "out.csv", predicted())
    report(hostile, table, model_card=card, prevalence=0.2)
    data = ModelCard.load(card).data
    assert data.library_name == "mxnet"
    assert data.pipeline_tag == "image-classification"
    assert "radiography" in data.tags
    assert data.license is None  # the user's to choose
    assert data.model_name == f"densenet169: {hostile.name}"
    samples = read_predictions(table)
    found = {each.metric_name: each for each in data.eval_results}
    for estimate in evaluate(samples):
        each = found.pop(estimate.name)
        assert each.metric_value == pytest.approx(estimate.value, rel=1e-5)
        low, high = each.metric_args["interval_95"]
        assert (low, high) == pytest.approx(estimate[2:], rel=1e-5)
        assert each.dataset_name == "60 studies of 60 patients, 30 labelled abnormal"
    assert not found
    assert {"roc_auc", "recall", "precision", "f1"} <= set(data.metrics)


def test_without_labels_the_hub_is_told_no_metrics(run, tmp_path):
    card = tmp_path / "card.md"
    rows = [[*row[:5], ""] for row in predicted()]
    report(run, write(tmp_path / "out.csv", rows), model_card=card)
    data = ModelCard.load(card).data
    assert data.eval_results is None
    assert data.metrics is None


def test_a_chest_is_not_called_a_bone(run, tmp_path):
    content = files.read_json(run / "run.json")
    content["study_types"][0] = "XR_CHEST"
    content.pop("checksum", None)
    files.write_json(run / "run.json", content)
    card = tmp_path / "card.md"
    page, _ = report(run, model_card=card)
    for text in (page.text, card.read_text()):
        assert "XR_CHEST" in text
        assert "bone" not in text.lower()


def test_files_not_written_by_xenon_report_are_not_overwritten(run, tmp_path):
    out = run.parent / "report.html"
    out.write_text("<p>my own page</p>")
    with pytest.raises(XenonError, match="not written by xenon-report: name another"):
        report(run, overwrite=False)
    assert out.read_text() == "<p>my own page</p>"
    out.unlink()
    report(run, overwrite=False)
    _, page = report(run, overwrite=False)  # replaces its own page
    out.write_text(page.replace("<title>", "<title>My own: "))
    with pytest.raises(XenonError, match="was changed since xenon-report wrote it"):
        report(run, overwrite=False)
    report(run, overwrite=True)
    with pytest.raises(XenonError, match="made from other inputs or another run"):
        report(run, write(tmp_path / "a.csv", predicted()), overwrite=False)


def test_an_edited_card_is_not_overwritten(run, tmp_path):
    card = tmp_path / "MODEL_CARD.md"
    report(run, model_card=card, overwrite=False)
    card.write_text(card.read_text().replace("# Model card", "# Our model card"))
    with pytest.raises(XenonError, match=r"MODEL_CARD\.md: exists and was changed"):
        report(run, model_card=card, overwrite=False)
    assert "# Our model card" in card.read_text()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"out": Path("report.txt")}, "not named .html"),
        ({"out": Path("nowhere/report.html")}, "does not exist"),
        ({"model_card": Path("report.html")}, "not named .md"),
    ],
)
def test_an_impossible_output_is_an_error(run, options, message):
    with pytest.raises(XenonError, match=message):
        reporting.report(ReportConfig(run, None, **options))


@pytest.mark.parametrize("missing", ["matplotlib", "jinja2"])
def test_a_missing_package_is_an_error_that_names_the_extra(run, missing):
    script = f"""
import sys
sys.modules[{missing!r}] = None
sys.argv = ["xenon-report", {str(run)!r}]
from xenon_mx import cli
cli.report()
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=run.parent
    )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "pip install '.[report]'" in done.stderr
    assert not (run.parent / "report.html").exists()


def test_a_run_of_an_odd_name_has_a_page(run):
    odd = run.rename(run.with_name(os.fsdecode(b"r\xff\n\x1b")))
    card = run.with_name("card.md")
    _, page = report(odd, model_card=card)
    assert r"r\xff\n\x1b" in page
    assert r"r\\xff\\n\\x1b" in card.read_text(encoding="utf-8")


def test_the_most_confident_of_each_outcome_are_chosen(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    labels = [1, 1, 1, 0, 0, 0, 1, 1]
    probs = [0.1, 0.9, 0.3, 0.8, 0.2, 0.5, 0.95, 0.4]
    rows = [
        [study(i, label, "XR_A"), "XR_A", 1, prob, int(prob > 0.5), label]
        for i, (label, prob) in enumerate(zip(labels, probs))
    ]
    table = write(tmp_path / "out.csv", rows)
    config = ReportConfig(run, table, gallery=2)
    predicted = read_table(table)
    outcomes = gallery.outcomes(predicted, 0.5)
    found = gallery.find_files(config, predicted, outcomes)
    sections = gallery.build_sections(
        outcomes,
        predicted,
        found,
        config.gallery,
        lambda row: gallery.describe(predicted, row),
    )
    patients = {
        section.title: [
            int(re.search(r"patient(\d+)", study.name)[1]) for study in section.studies
        ]
        for section in sections
    }
    assert patients == {
        "False negatives (FN)": [0, 2],
        "False positives (FP)": [3],
        "True positives (TP)": [6, 1],
        "True negatives (TN)": [4, 5],  # 0.5 is not above 0.5
    }
    assert [section.is_error for section in sections] == [True, True, False, False]


DARKEST = 20  # the gray of the first study's radiographs: not nearly black


@pytest.fixture
def radiographs(tmp_path):
    """Write two radiographs per study of `predicted`, each of another gray."""
    rows = predicted()
    for number, row in enumerate(rows):
        folder = tmp_path / "data" / row[0]
        folder.mkdir(parents=True)
        for view in (1, 2):
            pixels = np.full((600, 300), DARKEST + 4 * number + view, np.uint8)
            cv2.imwrite(str(folder / f"image{view}.png"), pixels)
    return write(tmp_path / "data" / "out.csv", rows), rows


def jpegs(page):
    for image in page.all("img"):
        head, _, data = image["src"].partition(",")
        if head == "data:image/jpeg;base64":
            pixels = np.frombuffer(base64.b64decode(data), np.uint8)
            yield image["alt"], cv2.imdecode(pixels, cv2.IMREAD_COLOR)


def test_the_gallery_shows_the_radiographs_of_the_study_that_it_names(run, radiographs):
    table, rows = radiographs
    page, _ = report(run, table)
    thumbnails = list(jpegs(page))
    assert len(thumbnails) >= 2 * 4
    gray = {row[0]: DARKEST + 4 * number for number, row in enumerate(rows)}
    for alt, pixels in thumbnails:
        view, name = re.fullmatch(r"Radiograph, view (\d) of 2 of (.+)", alt).groups()
        assert pixels.shape[:2] == (320, 160)
        assert abs(float(pixels.mean()) - gray[name] - int(view)) < 1.5


def test_overlays_follow_their_radiographs(run, radiographs, tmp_path):
    table, rows = radiographs
    for row in rows:
        folder = tmp_path / "maps" / row[0]
        folder.mkdir(parents=True)
        red = np.zeros((600, 300, 3), np.uint8)
        red[..., 2] = 255
        for view in (1, 2):
            name = str(folder / f"image{view}.png.cam.png")
            cv2.imwrite(name, red)
    page, _ = report(run, table, cam=tmp_path / "maps", root=tmp_path / "data")
    key, *alts = (alt for alt, _ in jpegs(page))
    assert key.startswith("Colour key")
    captions = [words for words in page.words if words.startswith(("Radiog", "Map "))]
    assert captions[:4] == ["Radiograph 1", "Map 1", "Radiograph 2", "Map 2"]
    assert len(captions) == len(alts)
    assert [a.split(",")[0] for a in alts[:2]] == ["Radiograph", "Class activation map"]
    assert alts[0].split(", ")[1] == alts[1].split(", ")[1]
    for alt, pixels in jpegs(page):
        if alt.startswith("Class activation map"):
            assert pixels[..., 2].mean() > 200 > 60 > pixels[..., 0].mean()


def write_cams(cam, paths):
    """Write a red overlay of each image as xenon-predict --cam does."""
    radiograph, ones = np.zeros((60, 30), np.uint8), np.ones((2, 2), np.float32)
    preprocessing = Preprocessing(32, "stretch")
    with cam_folder.CamFolder(
        out=cam,
        paths=paths,
        preprocessing=preprocessing,
        extent=(0, 32),
        members=1,
        origin="0" * 64,
    ) as folder:
        for path in paths:
            folder.add(path, radiograph, ones)
        folder.complete()
    return cam


def test_a_table_of_images_has_radiographs_and_overlays(run, radiographs, tmp_path):
    table, rows = radiographs
    images = of_images(tmp_path / "data" / "images.csv", rows)
    names = [f"{row[0]}image{view}.png" for row in rows for view in (1, 2)]
    page, _ = report(run, images, cam=write_cams(tmp_path / "maps", names))
    _, *alts = (alt.partition(", view 1 of 1 of ") for alt, _ in jpegs(page))
    assert len(alts) == 2 * 4 * 4
    for (first, _, radiograph), (second, _, overlay) in zip(alts[::2], alts[1::2]):
        assert (first, second) == ("Radiograph", "Class activation map")
        assert radiograph == overlay
        assert radiograph in names


@pytest.mark.parametrize("level", ["study", "image"])
def test_files_of_absolute_paths_are_found(radiographs, tmp_path, level):
    table, rows = radiographs
    study = f"{tmp_path / 'data' / rows[3][0]}/"
    views = [f"{study}image{view}.png" for view in (1, 2)]
    cam = write_cams(tmp_path / "maps", views)
    name = study if level == "study" else views[0]
    found = study_files.StudyFiles(table, [name], tmp_path / "data", cam)
    thumbnails, _ = found.thumbnails(name)
    count = 2 if level == "study" else 1
    assert [p.alt.split(",")[0] for p in thumbnails] == [
        "Radiograph",
        "Class activation map",
    ] * count
    pixels = np.frombuffer(thumbnails[0].bytes, np.uint8)
    assert cv2.imdecode(pixels, 0).mean() == pytest.approx(DARKEST + 4 * 3 + 1, abs=1)


def test_an_absolute_path_is_not_searched_below_the_root(tmp_path):
    """The file of that name below the root is another radiograph."""
    secret, root = tmp_path / "secret.png", tmp_path / "root"
    other = root / secret.relative_to("/")
    other.parent.mkdir(parents=True)
    for file in (secret, other):
        cv2.imwrite(str(file), np.zeros((8, 8), np.uint8))
    with pytest.raises(XenonError, match="none of the studies"):
        study_files.StudyFiles(root / "out.csv", [str(secret)], root, None)


def test_without_labels_the_most_confident_predictions_are_shown(run, radiographs):
    table, rows = radiographs
    write(table, [[*row[:5], ""] for row in rows])
    page, _ = report(run, table)
    assert "most confident predictions" in page.text
    highest = max(rows, key=lambda row: float(row[3]))[0]
    lowest = min(rows, key=lambda row: float(row[3]))[0]
    studies = [alt.partition(" of 2 of ")[2] for alt, _ in jpegs(page)]
    assert studies[0] == highest
    assert studies[8] == lowest  # after four studies of two views each
    assert "Called normal" in page.text


def test_coarse_cams_are_a_warning(run, radiographs, tmp_path):
    table, rows = radiographs
    for row in rows:
        folder = tmp_path / "maps" / row[0]
        folder.mkdir(parents=True)
        for view in (1, 2):
            name = str(folder / f"image{view}.png.cam")
            cv2.imwrite(f"{name}.png", np.zeros((600, 300, 3), np.uint8))
            np.save(f"{name}.npy", np.zeros((3, 3), np.float32))
    page, _ = report(run, table, cam=tmp_path / "maps")
    warning = coarseness_warning((3, 3))
    assert "3x3" in warning
    assert f"{warning[0].upper()}{warning[1:]}." in page.text


@pytest.mark.parametrize("option", ["root", "cam"])
def test_a_missing_folder_is_an_error(run, radiographs, tmp_path, option):
    table, _ = radiographs
    (tmp_path / "file").write_text("")
    for name in ("none", "file"):
        with pytest.raises(XenonError, match=f"{name}: no such folder"):
            report(run, table, **{option: tmp_path / name})


def test_a_folder_without_any_of_the_studies_is_an_error(run, radiographs, tmp_path):
    table, _ = radiographs
    (tmp_path / "other").mkdir()
    for option in ("root", "cam"):
        with pytest.raises(XenonError, match="none of the studies"):
            report(run, table, **{option: tmp_path / "other"})


def test_radiographs_beside_the_table_come_before_those_of_the_working_directory(
    run, tmp_path, monkeypatch, caplog
):
    """The first folder that holds any of the studies is used, not the fullest."""
    caplog.set_level(logging.INFO)
    rows = predicted()
    chosen = gallery.most_confident(
        read_table(write(tmp_path / "rows.csv", rows)), 0, 1, 0.5
    )
    names = [rows[row][0] for row in chosen]
    copy = names[-1].replace("MURA-v1.1", "cleaned")
    pixels = np.tile(np.arange(0, 240, 4, np.uint8), (60, 1))
    for name in (*names, copy):
        (tmp_path / name).mkdir(parents=True)
        cv2.imwrite(str(tmp_path / name / "image1.png"), pixels)
    monkeypatch.chdir(tmp_path)
    for place in ("cleaned", "cleaned/tables"):
        (tmp_path / place).mkdir(exist_ok=True)
        table = write(tmp_path / place / "out.csv", rows)
        found = study_files.StudyFiles(table, names, None, None)
        assert found.folder == tmp_path / "cleaned"
        assert [bool(found.thumbnails(name)[0]) for name in names[-2:]] == [
            False,
            True,
        ]
    (tmp_path / "far" / "away").mkdir(parents=True)
    table = write(tmp_path / "far" / "away" / "out.csv", rows)
    report(run, table)
    assert f"gallery: radiographs from {tmp_path}/MURA-v1.1" in caplog.messages


def test_without_radiographs_the_gallery_has_a_note(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = predicted()
    page, _ = report(run, write(tmp_path / "out.csv", rows))
    assert not list(jpegs(page))
    remedy = "give the folder that their paths are relative to with --root"
    assert f"were not found: {remedy}." in page.text
    highest = max((row for row in rows if row[5]), key=lambda row: float(row[3]))
    assert highest[0] in page.text


def test_of_a_manifest_the_link_and_the_root_are_named(tmp_path, monkeypatch, caplog):
    """And what is named works."""
    (tmp_path / "images").mkdir()
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    rng = np.random.RandomState(0)
    cells = ["image,study,study_type,label"]
    for number in range(8):
        image = rng.randint(0, 256, (20, 20), np.uint8)
        cv2.imwrite(str(tmp_path / "images" / f"{number}.png"), image)
        cells.append(f"{number}.png,S{number},XR_HAND,{number % 2}")
    Path("hands.csv").write_text("\n".join(cells))
    rows = [[f"S{n}", "XR_HAND", 1, 0.1 * n, int(n > 5), n % 2] for n in range(8)]
    table = write(Path("out.csv"), rows)

    def ask(**options):
        options = {"overwrite": True, **options}
        reporting.report(ReportConfig(table, None, Path("r.html"), **options))
        return Page(Path("r.html").read_text())

    remedy = (
        "give the manifest of the studies with --link, and the folder of its images "
        "with --root"
    )
    assert f"Their radiographs were not found: {remedy}" in ask().text
    assert f"the radiographs were not found: {remedy}" in caplog.text
    root = tmp_path / "images"
    with pytest.raises(
        XenonError, match="contains none of the studies, such"
    ) as raised:
        ask(root=root)
    assert remedy in str(raised.value)
    with pytest.raises(XenonError, match="with --root"):
        ask(link=Path("hands.csv"))
    assert len(list(jpegs(ask(link=Path("hands.csv"), root=root)))) == 8


def test_no_name_leads_out_of_the_folder(tmp_path):
    inside = tmp_path / "inside"
    inside.mkdir()
    cv2.imwrite(str(tmp_path / "secret.png"), np.zeros((8, 8), np.uint8))
    (inside / "link.png").symlink_to(tmp_path / "secret.png")
    table = inside / "out.csv"
    (inside / "ring").symlink_to(inside / "ring")
    secret = str(tmp_path / "secret.png")
    for name in ("../secret.png", secret, "link.png", "ring", ".", "a" * 300, "\0"):
        with pytest.raises(XenonError, match="none of the studies"):
            study_files.StudyFiles(table, [name], inside, None)


@pytest.mark.parametrize("ending", ["", cam_folder.OVERLAY])
def test_no_link_in_a_study_leads_out_of_the_folder(radiographs, tmp_path, ending):
    table, rows = radiographs
    root, name = tmp_path / "data", rows[0][0]
    cam = write_cams(tmp_path / "maps", [f"{name}image1.png"])
    outside = tmp_path / "secret.png"
    cv2.imwrite(str(outside), np.full((8, 8), 255, np.uint8))
    (tmp_path / "more").mkdir()
    cv2.imwrite(str(tmp_path / "more" / "image5.png"), np.full((8, 8), 255, np.uint8))
    study = (cam if ending else root) / name
    # A third radiograph that the study lacks; or a second overlay that it lacks.
    (study / (f"image2.png{ending}" if ending else "image3.png")).symlink_to(outside)
    (study / "image4").symlink_to(tmp_path / "more")
    (study / "another").mkdir()  # a study of its own
    shutil.copy(
        study / f"image1.png{ending}", study / "another" / f"image7.png{ending}"
    )
    (study / f"image6.png{ending}").symlink_to(study / f"image1.png{ending}")
    (root / "MURA-v1.1" / "link").symlink_to(tmp_path / "more")
    found = study_files.StudyFiles(table, [name], root, cam)
    alts = [thumbnail.alt for thumbnail in found.thumbnails(name)[0]]
    views = 2 if ending else 3  # image6.png links to a radiograph of the same study
    assert [alt.split(" of ")[0] for alt in alts] == [
        "Radiograph, view 1",
        "Class activation map, view 1",
        *(f"Radiograph, view {number}" for number in range(2, views + 1)),
    ]
    assert all(f" of {views} of {name}" in alt for alt in alts)
    assert found.thumbnails("MURA-v1.1/link/") == ([], "")


def header(shape, **options):
    """Return the header of a float32 array in NumPy's file format 1.0."""
    entries = {"descr": "<f4", "fortran_order": False, "shape": shape, **options}
    out = io.BytesIO()
    np.lib.format.write_array_header_1_0(out, entries)
    return out.getvalue()


def zipped():
    out = io.BytesIO()
    np.savez(out, np.zeros((1, 1), np.float32))
    return out.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no array",
        zipped(),
        header(()) + bytes(4),
        header((2, 2, 2)) + bytes(32),
        header((0, 2)),
        header((-2, -2)) + bytes(16),
        header((3_000_000, 3_000_000)),  # 36 TiB
        header((3_000_000, 3_000_000), descr="|O"),
        header((1, 1))[:-20],
        header((1, 1)) + bytes(3),
        b"\x93NUMPY\x01\x00\xff\xff" + b"(" * 0xFFFF,
        b"\x93NUMPY\x02\x00\xff\xff\xff\xff" + bytes(99),
        "pipe",
        "link",
    ],
    ids=range(15),
)
def test_an_invalid_array_of_a_cam_is_a_warning(content, radiographs, tmp_path, caplog):
    """The array is not read as a whole, and no memory is allocated for it."""
    table, rows = radiographs
    name = rows[0][0]
    cam = write_cams(tmp_path / "maps", [f"{name}image1.png"])
    array = cam / name / f"image1.png{cam_folder.ARRAY}"
    array.unlink()
    if content == "pipe":
        os.mkfifo(array)
    elif content == "link":
        array.symlink_to(array)
    else:
        array.write_bytes(content)
    thumbnails, _ = study_files.StudyFiles(
        table, [name], tmp_path / "data", cam
    ).thumbnails(name)
    assert thumbnails[1].alt.startswith("Class activation map")
    messages = [record.getMessage() for record in caplog.records]
    assert messages == [f"{array}: not the array of an activation map"]


def test_the_size_of_a_cam_is_read_from_its_array(radiographs, tmp_path, caplog):
    table, rows = radiographs
    name = rows[0][0]
    cam = write_cams(tmp_path / "maps", [f"{name}image1.png"])
    found = study_files.StudyFiles(table, [name], tmp_path / "data", cam)
    found.thumbnails(name)
    assert found.coarseness.startswith("Maps of 2x2 cells")
    assert caplog.records == []


def test_an_unreadable_radiograph_is_left_out_with_a_warning(run, radiographs, caplog):
    table, rows = radiographs
    for file in table.parent.rglob("image1.png"):
        file.write_bytes(b"no image")
    page, _ = report(run, table)
    assert list(jpegs(page))
    assert "left out of the gallery" in caplog.text


def test_a_damaged_log_is_an_error(run):
    log = run / "log.csv"
    whole = log.read_text()
    for content in ("", "a,b\n", whole.replace("0.6", "x", 1), whole + "8,1\n"):
        log.write_text(content)
        with pytest.raises(XenonError, match="log.csv: damaged"):
            report(run)


def test_a_plot_is_legible_on_its_page():
    """WCAG 2.1, 1.4.3: letters have a contrast of at least 4.5:1."""

    def luminance(colour):
        values = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [
            v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in values
        ]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    for theme, page in ((plot_style.LIGHT, "#ffffff"), (plot_style.DARK, "#14191f")):
        for colour in (theme.ink, theme.first, theme.second, theme.third):
            light, dark = sorted((luminance(colour), luminance(page)))[::-1]
            assert (light + 0.05) / (dark + 0.05) >= 4.5, colour


# Chromium's new headless mode has no windows as narrow as a phone; a frame can be.
_FRAME = """<!doctype html><title>-</title><style>body {{ margin: 0 }} iframe {{
border: 0; display: block; width: {width}px; height: {height}px }}</style>
<iframe src="page.html"></iframe>
<script>onmessage = (event) => {{ document.title = event.data }}</script>"""
_MEASURE = """<script>addEventListener("load", () => parent.postMessage([
document.documentElement.scrollWidth, innerWidth,
[...document.images].every((i) => i.complete && i.naturalWidth > 0),
[...document.querySelectorAll(".wide")].every((e) => e.scrollWidth <= e.clientWidth),
getComputedStyle(document.querySelector(".wide tr")).display
].join(" "), "*"))</script></body>"""
_CHROMIUM = shutil.which("chromium")


def browse(profile, *arguments):
    """Run headless Chromium; return its stdout and the lines of its console."""
    done = subprocess.run(
        [
            _CHROMIUM,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            f"--user-data-dir={profile}",
            "--enable-logging=stderr",
            "--v=0",
            "--hide-scrollbars",
            *arguments,
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    lines = done.stderr.splitlines()
    return done.stdout, [line for line in lines if "CONSOLE" in line]


def comparisons(folder, rows):
    """Write another table and readers of the same studies; return the flags."""
    other = [[*row[:3], f"{1 - float(row[3]) / 2:.9g}", "", row[5]] for row in rows]
    for row in other:
        row[4] = int(float(row[3]) > 0.5)
    readers = [f"{row[0]},{row[5]},{i % 2},{i // 2 % 2}" for i, row in enumerate(rows)]
    text = "\n".join(["study,Dr. Adler,Dr. Berg,a resident", *readers, ""])
    (folder / "readers.csv").write_text(text)
    return {
        "against": write(folder / "other.csv", other),
        "readers": folder / "readers.csv",
        "margin": 0.05,
    }


@pytest.mark.slow
@pytest.mark.skipif(_CHROMIUM is None, reason="apt-get install chromium")
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(
    ("width", "height"), [(375, 800), (600, 900), (800, 900), (1280, 900)]
)
def test_a_browser_opens_the_page_at_any_width(
    run, radiographs, tmp_path, width, height, scheme
):
    table, rows = radiographs
    _, text = report(run, table, prevalence=0.1, **comparisons(tmp_path, rows))
    folder = tmp_path / "browser"
    folder.mkdir()
    page, frame = folder / "page.html", folder / "frame.html"
    frame.write_text(_FRAME.format(width=width, height=height))
    colours = f"--blink-settings=preferredColorScheme={int(scheme == 'light')}"
    shot = folder / "shot.png"
    page.write_text(text, encoding="utf-8")
    _, messages = browse(
        folder / "a", colours, f"--screenshot={shot}", "--window-size=1280,900",
        frame.as_uri(),
    )  # fmt: skip
    assert not messages
    pixels = cv2.imread(str(shot), cv2.IMREAD_GRAYSCALE)
    assert pixels.shape == (900, 1280)
    corner = int(pixels[5, 5])
    assert corner > 240 if scheme == "light" else corner < 40
    # The page forbids scripts: measure the width of a copy that allows one.
    measured = re.sub(r"<meta http-equiv=[^>]+>", "", text)
    page.write_text(measured.replace("</body>", _MEASURE), encoding="utf-8")
    dom, messages = browse(
        folder / "b", colours, "--dump-dom", "--virtual-time-budget=5000",
        frame.as_uri(),
    )  # fmt: skip
    assert not messages
    (title,) = re.findall(r"<title>(.+?)</title>", dom)
    shown_as = "block" if width < 600 else "table-row"  # a list, or a table
    assert title == f"{width} {width} true true {shown_as}"


_LINES = """<script>addEventListener("load", () => parent.postMessage(
[...document.querySelectorAll(".headline b, .headline .quiet")].map((e) =>
Math.round(e.offsetHeight / parseFloat(getComputedStyle(e).lineHeight))).join(""), "*"))
</script></body>"""


@pytest.mark.slow
@pytest.mark.skipif(_CHROMIUM is None, reason="apt-get install chromium")
@pytest.mark.skipif(
    shutil.which("pdftotext") is None, reason="apt-get install poppler-utils"
)
def test_an_undefined_metric_is_a_word_on_one_line(run, tmp_path):
    rows = [[*row[:3], "0.9", 1, row[5]] for row in predicted()]
    page, text = report(run, write(tmp_path / "out.csv", rows))
    assert ("NPV", "undefined", "") in page.tiles()
    whole = (run.parent / "report.html").as_uri()
    copy = re.sub(r"<meta http-equiv=[^>]+>", "", text).replace("</body>", _LINES)
    (tmp_path / "page.html").write_text(copy, encoding="utf-8")
    frame = tmp_path / "frame.html"
    for width in (375, 390, 600, 1280):
        frame.write_text(_FRAME.format(width=width, height=900))
        wait = "--virtual-time-budget=5000"
        dom, _ = browse(tmp_path / str(width), "--dump-dom", wait, frame.as_uri())
        (lines,) = re.findall(r"<title>(.+?)</title>", dom)
        assert set(lines) <= {"0", "1"}, width
        assert lines.count("1") >= 6
    pdf = tmp_path / "a.pdf"
    browse(tmp_path / "print", f"--print-to-pdf={pdf}", whole)
    words = subprocess.run(["pdftotext", pdf, "-"], capture_output=True, check=True)
    assert b"undefine\n" not in words.stdout
    assert b"undefined" in words.stdout


@pytest.mark.slow
@pytest.mark.skipif(_CHROMIUM is None, reason="apt-get install chromium")
@pytest.mark.skipif(
    shutil.which("pdftohtml") is None, reason="apt-get install poppler-utils"
)
def test_no_printed_letter_is_smaller_than_8_points(run, radiographs, tmp_path):
    table, rows = radiographs
    cam = write_cams(tmp_path / "maps", [f"{read_table(table).names[0]}image1.png"])
    report(run, table, prevalence=0.1, cam=cam, **comparisons(tmp_path, rows))
    pdf, page = tmp_path / "a.pdf", (run.parent / "report.html").as_uri()
    browse(
        tmp_path / "profile", f"--print-to-pdf={pdf}", "--no-pdf-header-footer", page
    )
    described = subprocess.run(
        ["pdftohtml", "-xml", "-stdout", "-i", str(pdf)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    # pdftohtml enlarges by 1.5.
    sizes = [int(size) / 1.5 for size in re.findall(r'size="(\d+)"', described)]
    assert len(sizes) > 3
    assert min(sizes) >= 8


_VNU = shutil.which("vnu")
_VNU_JAR = os.environ.get("VNU_JAR")


def check_html(file):
    """Return what the Nu HTML checker says of a file: a list of messages."""
    program = [_VNU] if _VNU else ["java", "-jar", str(_VNU_JAR)]
    done = subprocess.run(
        [*program, "--stdout", "--format", "json", "--exit-zero-always", str(file)],
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)["messages"]


@pytest.mark.slow
@pytest.mark.skipif(
    not _VNU and not (_VNU_JAR and shutil.which("java")),
    reason="needs the Nu HTML checker: vnu on the PATH, or Java and VNU_JAR=vnu.jar "
    "(npm pack vnu-jar)",
)
@pytest.mark.parametrize("kind", ["whole", "unlabelled", "training"])
def test_the_nu_html_checker_finds_no_error(run, radiographs, tmp_path, kind):
    table, rows = radiographs
    out = tmp_path / "report.html"
    if kind == "training":
        reporting.report(ReportConfig(unfinished_run(run, 10), None, out))
    elif kind == "unlabelled":
        write(table, [[*row[:5], ""] for row in rows])
        reporting.report(ReportConfig(run, table, out))
    else:
        images = of_images(tmp_path / "data" / "images.csv", rows)
        cam = write_cams(tmp_path / "maps", [f"{rows[0][0]}image1.png"])
        more = {"images": images, "cam": cam, **comparisons(tmp_path, rows)}
        reporting.report(ReportConfig(run, table, out, **more))
    messages = check_html(out)
    assert not [each["message"] for each in messages if each["type"] == "error"]
    # It takes the data URIs for violations of the policy that allows them.
    others = {m["message"] for m in messages if "Content Security" not in m["message"]}
    assert not others
    broken = tmp_path / "broken.html"
    text = out.read_text(encoding="utf-8").replace("<td ", '<td role="cell" ')
    broken.write_text(text, encoding="utf-8")
    if kind != "training":
        assert any(each["type"] == "error" for each in check_html(broken))


@pytest.mark.slow
@pytest.mark.skipif(_CHROMIUM is None, reason="apt-get install chromium")
def test_a_dark_screen_prints_the_same_as_a_light_one(run, radiographs, tmp_path):
    """The letters of plots are as dark in a PDF as those of the page."""
    table, _ = radiographs
    report(run, table)
    printed = {}
    for scheme in (0, 1):  # dark, light
        pdf = tmp_path / f"{scheme}.pdf"
        browse(
            tmp_path / f"profile{scheme}",
            f"--blink-settings=preferredColorScheme={scheme}",
            "--no-pdf-header-footer",
            f"--print-to-pdf={pdf}",
            (run.parent / "report.html").as_uri(),
        )
        # Chromium numbers the nodes of a page at random.
        changing = rb"/(?:Creation|Mod)Date \(.+?\)|node[0-9]{8}"
        printed[scheme] = re.sub(changing, b"", pdf.read_bytes())
    assert len(printed[0]) > 100_000
    assert printed[0] == printed[1]
