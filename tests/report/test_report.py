"""The report: a real run and real predictions, on a page that a browser opens."""

from __future__ import annotations

import base64
import csv
import io
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
from markdown_it import MarkdownIt

from xenon_mx import cli
from xenon_mx.commands import report as reporting
from xenon_mx.config import ReportConfig
from xenon_mx.errors import ConfigError, XenonError
from xenon_mx.evaluation import scores as evaluation
from xenon_mx.evaluation.evaluation_set import read_table
from xenon_mx.inference import cam_folder
from xenon_mx.report import gallery, plots
from xenon_mx.runs.epoch_log import EpochRecord
from xenon_mx.runs.run_folder import Run
from xenon_mx.runs.run_meta import ARCHITECTURE, Preprocessing, RunMeta
from xenon_mx.runs.top_epochs import TopEpochs
from xenon_mx.runs.training_state import TrainingState

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


def make_run(folder):
    """Make a run as training does: seven epochs, of which five are kept."""
    made = Run.create(folder / "runs" / "a&b", RunMeta.from_json(META))
    best = TopEpochs(5)
    for number, loss in enumerate(LOSSES, 1):
        best.step(number, loss)
        net = {"a": np.full(3, number, np.float32)}
        row = EpochRecord(
            number, loss + 0.1, loss, 0.1 * number, 0.9, 1e-4, 10, 0.01, 60
        )
        made.save(row, TrainingState(number, net, net, number, {}, False), best.ranked)
    made.close()
    return made.folder


@pytest.fixture
def run(tmp_path):
    return make_run(tmp_path)


def study(number, label, kind, split="valid", name="study1"):
    end = ("negative", "positive")[label]
    return f"MURA-v1.1/{split}/{kind}/patient{number:05d}/{name}_{end}/"


def predicted(count=60, seed=0, **names):
    """Rows of a table whose probabilities follow the labels, with mistakes."""
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
    """What a page holds: its tags, words and tables; every tag is closed in order."""

    VOID = frozenset({"meta", "link", "img", "source", "wbr"})

    def __init__(self, text):
        super().__init__()
        self.tags, self.words, self.open, self.tables = [], [], [], []
        self.feed(text)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag, attrs):
        """Note a tag, and begin a table, a row or a cell."""
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
        """Check that what ends is what began last."""
        assert self.open.pop() == tag

    def handle_data(self, data):
        """Note words, in their cell too."""
        if self.tags[-1:] == [("wbr", {})]:
            self.words[-1] += data
        elif "style" not in self.open:
            self.words.append(data)
        if {"td", "th"} & set(self.open):
            self.tables[-1][-1][-1] += data

    @property
    def text(self):
        """All words, with one space between them."""
        return " ".join(" ".join(self.words).split())

    def all(self, tag):
        """The attributes of every such tag."""
        return [attrs for name, attrs in self.tags if name == tag]

    def table(self, caption):
        """The rows of the one table whose header has a cell of this name."""
        (found,) = [t for t in self.tables if t and caption in t[0]]
        return found


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
    kinds = [image["class"] for image in page.all("img")]
    assert kinds == ["on-light", "on-dark"] * 3


def test_a_run_without_a_finished_epoch_has_a_page(tmp_path):
    Run.create(tmp_path / "empty", RunMeta.from_json(META)).close()
    page, _ = report(tmp_path / "empty")
    assert "No epoch has been finished yet" in page.text


def test_every_section_is_there_and_the_warnings_come_first(whole):
    page = whole.page
    assert sections(page) == [
        "warnings", "training", "curves", "results", "types", "paper", "gallery",
        "limits",
    ]  # fmt: skip
    assert "also chose the checkpoints" in page.text
    assert "Not for medical use" in page.text
    links = {attrs["href"][1:] for attrs in page.all("a")}
    assert links <= set(sections(page))


def test_the_figures_are_those_of_evaluation(whole):
    page = whole.page
    cases = evaluation.read_predictions(whole.table)
    expected = evaluation.evaluate_by_study_type(cases)
    header, *rows = page.table("calibration error")
    assert [row[0] for row in rows] == [*TYPES, "overall"]
    for row in rows:
        for figure, name, cell in zip(expected[row[0]], header[3:], row[3:]):
            assert name == figure.name
            assert cell == (
                f"{figure.value:.3f}\n({figure.low:.3f},\N{NO-BREAK SPACE}"
                f"{figure.high:.3f})"
            )
    called = cases.prob > 0.5
    matrix = page.table("predicted normal")
    for row, label in ((matrix[1], 0), (matrix[2], 1)):
        counts = [int(re.match(r"\d+", cell).group()) for cell in row[1:]]
        chosen = called[cases.labels == label]
        assert counts == [int((~chosen).sum()), int(chosen.sum())]


def of_all_types(count=140):
    """Rows as `predicted` makes them, of all seven study types of MURA."""
    types = sorted(set(evaluation.PAPER.kappa["model"]) - {"overall"})
    rows = predicted(count)
    for number, row in enumerate(rows):
        kind = types[number // 2 % 7]
        row[:2] = study(number, row[5], kind), kind
    return rows


def test_the_papers_pooled_figures_stand_beside_all_seven_types_only(run, tmp_path):
    """A kappa of hands alone is no kappa of all parts."""
    page, _ = report(run, write(tmp_path / "a.csv", of_all_types()))
    (row,) = (r for r in page.table("paper: model") if r[0] == "overall")
    assert row[2:] == ["0.705", "0.731", "0.763", "0.778"]
    page, _ = report(run, write(tmp_path / "b.csv", predicted()))
    (row,) = (r for r in page.table("paper: model") if r[0] == "overall")
    assert row[2:] == ["", "", "", ""]
    (alt,) = {i["alt"] for i in page.all("img") if i["alt"].startswith("ROC")}
    assert "paper" not in alt


def test_study_types_that_the_run_has_never_seen_are_said(run, tmp_path):
    page, _ = report(run, write(tmp_path / "a.csv", of_all_types()))
    assert "The run has never seen XR_FINGER, XR_FOREARM, XR_HUMERUS" in page.text


@pytest.mark.parametrize("flag", ["images", "figures"])
def test_flags_that_need_labels_are_refused_without(run, tmp_path, flag):
    rows = [[*row[:5], ""] for row in predicted()]
    table = write(tmp_path / "out.csv", rows)
    path = tmp_path / "x.csv"
    if flag == "images":
        of_images(path, rows)
    with pytest.raises(ConfigError, match=f"--{flag}: says nothing: .* no labels"):
        report(run, table, **{flag: path})


def test_the_paper_stands_beside_as_another_test_set(run, tmp_path):
    page, _ = report(run, write(tmp_path / "out.csv", of_all_types()))
    assert "another test set: 207 hidden studies" in page.text
    row = next(r for r in page.table("paper: model") if r[0] == "XR_WRIST")
    assert row[2:] == ["0.931", "0.791", "0.931", "0.931"]
    (alt,) = {i["alt"] for i in page.all("img") if i["alt"].startswith("ROC")}
    assert "another test set: sensitivity 0.815, specificity 0.887" in alt


def test_every_picture_has_words_and_nothing_is_loaded(whole):
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
    assert report(run)[1] == report(run)[1]


def test_one_class_only_is_undefined_and_not_a_number(run, tmp_path):
    rows = [row for row in predicted() if row[5] == 1]
    page, _ = report(run, write(tmp_path / "out.csv", rows))
    (overall,) = [r for r in page.table("calibration error") if r[0] == "overall"]
    assert overall[3:5] == ["undefined", "undefined"]  # kappa, AUROC
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
    """Write the table of two images of each study, whose mean is the study's."""
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


def test_images_are_called_images_and_stand_beside_nothing(run, tmp_path):
    page, text = report(run, of_images(tmp_path / "images.csv", predicted()))
    assert "120 images of 60 patients" in page.text
    assert "not comparable with studies" in page.text
    assert "Images by label and prediction" in page.text
    assert "paper" not in sections(page)
    (alt,) = {i["alt"] for i in page.all("img") if i["alt"].startswith("ROC")}
    assert "paper" not in alt


def test_figures_of_images_stand_beside_those_of_studies_and_say_so(run, tmp_path):
    rows = predicted()
    table = write(tmp_path / "out.csv", rows)
    images = of_images(tmp_path / "images.csv", rows)
    out = tmp_path / "figures.csv"
    page, _ = report(run, table, images=images, figures=out)
    assert sections(page).index("images") == sections(page).index("types") + 1
    assert (
        "120 images of 60 patients, 60 labelled abnormal; predicted by 1 net. "
        "These are figures of single images: not comparable with studies'." in page.text
    )
    with open(out, newline="") as stream:
        told = list(csv.DictReader(stream))
    for level, path in (("study", table), ("image", images)):
        cases = evaluation.read_predictions(path)
        for name, values in evaluation.evaluate_by_study_type(cases).items():
            labels = cases.labels if name == "overall" else cases.select(name).labels
            for figure in values:
                (row,) = (
                    row
                    for row in told
                    if (row["level"], row["study_type"], row["figure"])
                    == (level, name, figure.name)
                )
                assert int(row["cases"]) == len(labels)
                assert int(row["abnormal"]) == labels.sum()
                for key in ("value", "low", "high"):
                    expected = getattr(figure, key)
                    assert float(row[key]) == pytest.approx(expected, rel=1e-5)
    assert len(told) == 2 * 4 * 8


def test_undefined_figures_are_empty_in_a_table_for_programs(run, tmp_path):
    rows = [row for row in predicted() if row[5] == 1]
    out = tmp_path / "figures.csv"
    report(run, write(tmp_path / "out.csv", rows), figures=out)
    lines = out.read_text().splitlines()
    assert "study,overall,30,30,AUROC,,," in lines
    assert not [line for line in lines if "nan" in line]


@pytest.mark.parametrize("wrong", ["probability", "label", "fewer"])
def test_images_of_another_prediction_are_refused(run, tmp_path, wrong):
    """Of another net, or of fewer views: studies are the means of their images."""
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
def test_images_of_other_studies_are_refused(run, tmp_path, wrong):
    table = write(tmp_path / "out.csv", predicted())
    images = of_images(tmp_path / "images.csv", predicted(name="study2"))
    said = "is not of the same studies"
    if wrong == "studies":
        images, said = table, "wants what xenon-predict --images wrote"
    with pytest.raises(XenonError, match=said):
        report(run, table, images=images)


@pytest.mark.parametrize("flag", ["--images", "--figures", "--root", "--cam"])
def test_flags_that_need_predictions_are_refused_without(run, tmp_path, flag):
    arguments = [
        str(run),
        flag,
        str(tmp_path / "x.csv"),
        "-o",
        str(tmp_path / "r.html"),
    ]
    with pytest.raises(ConfigError, match="says nothing without PREDICTIONS"):
        cli._report.main(arguments, standalone_mode=False)
    assert not (tmp_path / "r.html").exists()


def test_the_competitions_scores_are_labelled_as_compatibility(whole):
    page = whole.page
    rows = page.table("part")
    scores = evaluation.competition_scores(evaluation.read_predictions(whole.table))
    assert [row[0] for row in rows[1:]] == [
        *("Elbow", "Finger", "Forearm", "Hand", "Humerus", "Shoulder", "Wrist"),
        "Overall",
    ]
    for part, kappa, interval in rows[1:]:
        mean = scores[f"{part}_Mean"]
        assert kappa == ("undefined" if np.isnan(mean) else f"{mean:.3f}")
        low, high = scores[f"{part}_Lower"], scores[f"{part}_Upper"]
        assert interval == (
            "" if np.isnan(mean) else f"({low:.3f},\N{NO-BREAK SPACE}{high:.3f})"
        )
    assert "far too narrow" in rows[0][2]
    assert "Compatibility only" in page.text


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("a,b\n1,2\n", "no table of xenon-predict"),
        ("", "no table of xenon-predict"),
        (f"{HEADER}\n", "holds no predictions"),
        (f"{HEADER}\n{study(1, 1, 'XR_A')},XR_A,1,x,1,1\n", "'x' is no number"),
    ],
)
def test_a_foreign_table_is_refused_in_one_line(run, tmp_path, content, said):
    (tmp_path / "out.csv").write_text(content)
    with pytest.raises(XenonError, match=said) as caught:
        report(run, tmp_path / "out.csv")
    assert str(tmp_path / "out.csv") in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (run.parent / "report.html").exists()


def test_another_threshold_than_the_table_was_made_with_is_refused(run, tmp_path):
    rows = [[*row[:4], int(float(row[3]) > 0.3), row[5]] for row in predicted()]
    table = write(tmp_path / "out.csv", rows)
    with pytest.raises(ConfigError, match="--threshold"):
        report(run, table)
    page, _ = report(run, table, threshold=0.3)
    assert "above 0.3" in page.text


@pytest.mark.parametrize("labelled", [True, False])
def test_hostile_names_are_words_and_nothing_else(run, tmp_path, labelled):
    """A study's name with labels; without, its type, too, which then is only words."""
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


def test_a_folders_name_has_no_meaning_in_the_card(tmp_path):
    """Read as GitHub reads Markdown: neither a link, nor a picture, nor a tag."""
    hostile = "![x](http:evil) <b>&amp; `c` | *d*\n# e"
    made = make_run(tmp_path).rename(tmp_path / hostile.replace("/", "-"))
    card = tmp_path / "card.md"
    table = write(tmp_path / "o|`u[t](x).csv", predicted())
    report(made, table, model_card=card)
    found = markdown(card.read_text())
    assert hostile.replace("\n", "\\n") in found.text
    assert not {"a", "img", "b", "em", "code"} & {tag for tag, _ in found.tags}
    assert [tag for tag, _ in found.tags].count("h1") == 1
    assert "its labels are radiologists' reports" in card.read_text()


def markdown(text):
    """What a reader of CommonMark with tables makes of it."""
    return Page(MarkdownIt("commonmark").enable("table").render(text))


def test_the_model_card_holds_the_facts_of_the_page(whole):
    page, card = whole.page, whole.card
    heads = re.findall(r"^## (.+)$", card, re.MULTILINE)
    assert heads == [
        "Intended use",
        "What it is, and what it was trained on",
        "How good it is",
        "Warnings",
        "Limits",
    ]
    assert "**Not for medical use.**" in card
    (overall,) = [r for r in page.table("calibration error") if r[0] == "overall"]
    line = "| " + " | ".join(overall) + " |"
    assert " ".join(line.split()) in card
    assert "also chose the checkpoints" in card


def test_what_others_wrote_is_not_overwritten(run, tmp_path):
    out = run.parent / "report.html"
    out.write_text("<p>my own page</p>")
    with pytest.raises(XenonError, match="not written by xenon-report: name another"):
        report(run, overwrite=False)
    assert out.read_text() == "<p>my own page</p>"
    out.unlink()
    report(run, overwrite=False)
    _, page = report(run, overwrite=False)  # its own it replaces
    out.write_text(page.replace("<title>", "<title>My own: "))
    with pytest.raises(XenonError, match="was changed since xenon-report wrote it"):
        report(run, overwrite=False)
    report(run, overwrite=True)
    with pytest.raises(XenonError, match="made from other inputs or another run"):
        report(run, write(tmp_path / "a.csv", predicted()), overwrite=False)


def test_a_card_with_a_word_of_the_users_is_not_overwritten(run, tmp_path):
    card = tmp_path / "MODEL_CARD.md"
    report(run, model_card=card, overwrite=False)
    card.write_text(card.read_text().replace("# Model card", "# Our model card"))
    with pytest.raises(XenonError, match=r"MODEL_CARD\.md: exists and was changed"):
        report(run, model_card=card, overwrite=False)
    assert "# Our model card" in card.read_text()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"out": Path("report.txt")}, "not named .html"),
        ({"out": Path("nowhere/report.html")}, "does not exist"),
        ({"model_card": Path("report.html")}, "not named .md"),
    ],
)
def test_an_output_that_cannot_be_is_refused(run, options, said):
    with pytest.raises(XenonError, match=said):
        reporting.report(ReportConfig(run, None, **options))


@pytest.mark.parametrize("missing", ["matplotlib", "jinja2"])
def test_what_is_not_installed_is_named_with_the_extra(run, missing):
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
    assert "pip install 'xenon-mx[report]'" in done.stderr
    assert not (run.parent / "report.html").exists()


def test_a_run_of_an_odd_name_has_a_page(run):
    odd = run.rename(run.with_name(os.fsdecode(b"r\xff\n\x1b")))
    card = run.with_name("card.md")
    _, page = report(odd, model_card=card)
    assert r"r\xff\n\x1b" in page
    assert r"r\\xff\\n\\x1b" in card.read_text(encoding="utf-8")


def test_the_surest_of_each_outcome_are_chosen(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    labels = [1, 1, 1, 0, 0, 0, 1, 1]
    probs = [0.1, 0.9, 0.3, 0.8, 0.2, 0.5, 0.95, 0.4]
    rows = [
        [study(i, label, "XR_A"), "XR_A", 1, prob, int(prob > 0.5), label]
        for i, (label, prob) in enumerate(zip(labels, probs))
    ]
    table = write(tmp_path / "out.csv", rows)
    config = ReportConfig(run, table, gallery=2)
    rooms, _ = gallery.build_gallery(config, read_table(table))
    found = {
        room.title: [int(re.search(r"patient(\d+)", c.study)[1]) for c in room.cases]
        for room in rooms
    }
    assert found == {
        "Missed": [0, 2],
        "False alarms": [3],
        "Found": [6, 1],
        "Rightly normal": [4, 5],  # 0.5 is not above 0.5
    }
    assert [room.wrong for room in rooms] == [True, True, False, False]


@pytest.fixture
def films(tmp_path):
    """Radiographs of every study of `predicted`, in colours that tell them apart."""
    rows = predicted()
    for number, row in enumerate(rows):
        folder = tmp_path / "data" / row[0]
        folder.mkdir(parents=True)
        for view in (1, 2):
            film = np.full((600, 300), 4 * number + view, np.uint8)
            cv2.imwrite(str(folder / f"image{view}.png"), film)
    return write(tmp_path / "data" / "out.csv", rows), rows


def jpegs(page):
    for image in page.all("img"):
        head, _, data = image["src"].partition(",")
        if head == "data:image/jpeg;base64":
            pixels = np.frombuffer(base64.b64decode(data), np.uint8)
            yield image["alt"], cv2.imdecode(pixels, cv2.IMREAD_COLOR)


def test_the_gallery_shows_the_films_of_the_study_that_it_names(run, films):
    table, rows = films
    page, _ = report(run, table)
    shown = list(jpegs(page))
    assert len(shown) >= 2 * 4
    gray = {row[0]: 4 * number for number, row in enumerate(rows)}
    for alt, pixels in shown:
        view, name = re.fullmatch(r"Radiograph, view (\d) of 2 of (.+)", alt).groups()
        assert pixels.shape[:2] == (320, 160)
        assert abs(float(pixels.mean()) - gray[name] - int(view)) < 1.5


def test_maps_stand_beside_the_films_that_they_are_of(run, films, tmp_path):
    table, rows = films
    for row in rows:
        folder = tmp_path / "maps" / row[0]
        folder.mkdir(parents=True)
        red = np.zeros((600, 300, 3), np.uint8)
        red[..., 2] = 255
        for view in (1, 2):
            name = str(folder / f"image{view}.png.cam.png")
            cv2.imwrite(name, red)
    page, _ = report(run, table, cam=tmp_path / "maps", root=tmp_path / "data")
    alts = [alt for alt, _ in jpegs(page)]
    assert [a.split(",")[0] for a in alts[:2]] == ["Radiograph", "Activation map"]
    assert alts[0].split(", ")[1] == alts[1].split(", ")[1]
    for alt, pixels in jpegs(page):
        if alt.startswith("Activation"):
            assert pixels[..., 2].mean() > 200 > 60 > pixels[..., 0].mean()


def draw_maps(cam, paths):
    """Write a red map of each image, where xenon-predict --cam would."""
    film, red = np.zeros((60, 30), np.uint8), np.ones((2, 2), np.float32)
    seen = Preprocessing(32, "stretch")
    with cam_folder.CamFolder(cam, paths, seen, (0, 32), 1, "0" * 64) as folder:
        for path in paths:
            folder.add(path, film, red)
        folder.seal()
    return cam


def test_a_table_of_images_has_films_and_maps_too(run, films, tmp_path):
    table, rows = films
    images = of_images(tmp_path / "data" / "images.csv", rows)
    names = [f"{row[0]}image{view}.png" for row in rows for view in (1, 2)]
    page, _ = report(run, images, cam=draw_maps(tmp_path / "maps", names))
    alts = [alt.partition(", view 1 of 1 of ") for alt, _ in jpegs(page)]
    assert len(alts) == 2 * 4 * 4
    for (kind, _, film), (other, _, seen) in zip(alts[::2], alts[1::2]):
        assert (kind, other) == ("Radiograph", "Activation map")
        assert film == seen
        assert film in names


@pytest.mark.parametrize("level", ["study", "image"])
def test_films_and_maps_of_absolute_paths_are_found(films, tmp_path, level):
    table, rows = films
    study = f"{tmp_path / 'data' / rows[3][0]}/"
    views = [f"{study}image{view}.png" for view in (1, 2)]
    cam = draw_maps(tmp_path / "maps", views)
    name = study if level == "study" else views[0]
    shelf = gallery.StudyFiles(table, [name], tmp_path / "data", cam)
    pictures, _ = shelf.pictures(name)
    count = 2 if level == "study" else 1
    assert [p.alt.split(",")[0] for p in pictures] == [
        "Radiograph",
        "Activation map",
    ] * count
    pixels = np.frombuffer(pictures[0].bytes, np.uint8)
    assert cv2.imdecode(pixels, 0).mean() == pytest.approx(4 * 3 + 1, abs=1)


def test_an_absolute_path_is_none_below_the_root(tmp_path):
    """The file of that name below the root is another film."""
    secret, root = tmp_path / "secret.png", tmp_path / "root"
    other = root / secret.relative_to("/")
    other.parent.mkdir(parents=True)
    for file in (secret, other):
        cv2.imwrite(str(file), np.zeros((8, 8), np.uint8))
    with pytest.raises(XenonError, match="none of the studies"):
        gallery.StudyFiles(root / "out.csv", [str(secret)], root, None)


def test_without_labels_the_surest_calls_are_shown(run, films):
    table, rows = films
    write(table, [[*row[:5], ""] for row in rows])
    page, _ = report(run, table)
    assert "The surest calls" in page.text
    highest = max(rows, key=lambda row: float(row[3]))[0]
    lowest = min(rows, key=lambda row: float(row[3]))[0]
    shown = [alt.partition(" of 2 of ")[2] for alt, _ in jpegs(page)]
    assert shown[0] == highest
    assert shown[8] == lowest  # behind four studies of two views each
    assert "called normal" in page.text.lower()


def test_coarse_maps_are_called_so(run, films, tmp_path):
    table, rows = films
    for row in rows:
        folder = tmp_path / "maps" / row[0]
        folder.mkdir(parents=True)
        for view in (1, 2):
            name = str(folder / f"image{view}.png.cam")
            cv2.imwrite(f"{name}.png", np.zeros((600, 300, 3), np.uint8))
            np.save(f"{name}.npy", np.zeros((3, 3), np.float32))
    page, _ = report(run, table, cam=tmp_path / "maps")
    assert "Maps of 3x3 cells are too coarse to show where something lies." in page.text


@pytest.mark.parametrize("option", ["root", "cam"])
def test_a_folder_that_is_not_there_is_called_so(run, films, tmp_path, option):
    table, _ = films
    (tmp_path / "file").write_text("")
    for name in ("none", "file"):
        with pytest.raises(XenonError, match=f"{name}: no such folder"):
            report(run, table, **{option: tmp_path / name})


def test_a_folder_that_holds_none_of_the_studies_is_refused(run, films, tmp_path):
    table, _ = films
    (tmp_path / "other").mkdir()
    for option in ("root", "cam"):
        with pytest.raises(XenonError, match="none of the studies"):
            report(run, table, **{option: tmp_path / "other"})


def test_without_films_the_gallery_has_names_and_says_so(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = predicted()
    page, _ = report(run, write(tmp_path / "out.csv", rows))
    assert not list(jpegs(page))
    assert "were not found; --root names their folder" in page.text
    surest = max((row for row in rows if row[5]), key=lambda row: float(row[3]))
    assert surest[0] in page.text


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
            gallery.StudyFiles(table, [name], inside, None)


@pytest.mark.parametrize("ending", ["", cam_folder.OVERLAY])
def test_no_link_in_a_study_leads_out_of_the_folder(films, tmp_path, ending):
    table, rows = films
    root, name = tmp_path / "data", rows[0][0]
    cam = draw_maps(tmp_path / "maps", [f"{name}image1.png"])
    outside = tmp_path / "secret.png"
    cv2.imwrite(str(outside), np.full((8, 8), 255, np.uint8))
    (tmp_path / "more").mkdir()
    cv2.imwrite(str(tmp_path / "more" / "image5.png"), np.full((8, 8), 255, np.uint8))
    study = (cam if ending else root) / name
    # Of a film that the study has no third of; of a map that its second film lacks.
    (study / (f"image2.png{ending}" if ending else "image3.png")).symlink_to(outside)
    (study / "image4").symlink_to(tmp_path / "more")
    (study / "another").mkdir()  # is a study by itself
    shutil.copy(
        study / f"image1.png{ending}", study / "another" / f"image7.png{ending}"
    )
    (study / f"image6.png{ending}").symlink_to(study / f"image1.png{ending}")
    (root / "MURA-v1.1" / "link").symlink_to(tmp_path / "more")
    shelf = gallery.StudyFiles(table, [name], root, cam)
    alts = [picture.alt for picture in shelf.pictures(name)[0]]
    views = 2 if ending else 3  # image6.png leads to a film of the same study
    assert [alt.split(" of ")[0] for alt in alts] == [
        "Radiograph, view 1",
        "Activation map, view 1",
        *(f"Radiograph, view {number}" for number in range(2, views + 1)),
    ]
    assert all(f" of {views} of {name}" in alt for alt in alts)
    assert shelf.pictures("MURA-v1.1/link/") == ([], "")


def header(shape, **options):
    """Begin an array of float32 as NumPy's file format 1.0 does."""
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
def test_what_is_no_array_of_a_map_is_a_warning(content, films, tmp_path, caplog):
    """And is neither read as a whole nor made room for."""
    table, rows = films
    name = rows[0][0]
    cam = draw_maps(tmp_path / "maps", [f"{name}image1.png"])
    array = cam / name / f"image1.png{cam_folder.ARRAY}"
    array.unlink()
    if content == "pipe":
        os.mkfifo(array)
    elif content == "link":
        array.symlink_to(array)
    else:
        array.write_bytes(content)
    pictures, _ = gallery.StudyFiles(table, [name], tmp_path / "data", cam).pictures(
        name
    )
    assert pictures[1].alt.startswith("Activation map")
    said = [record.getMessage() for record in caplog.records]
    assert said == [f"{array}: not the array of an activation map"]


def test_the_size_of_a_map_is_read_from_its_array(films, tmp_path, caplog):
    table, rows = films
    name = rows[0][0]
    cam = draw_maps(tmp_path / "maps", [f"{name}image1.png"])
    shelf = gallery.StudyFiles(table, [name], tmp_path / "data", cam)
    shelf.pictures(name)
    assert shelf.caution.startswith("Maps of 2x2 cells")
    assert caplog.records == []


def test_an_unreadable_film_is_left_out_with_a_warning(run, films, caplog):
    table, rows = films
    for file in table.parent.rglob("image1.png"):
        file.write_bytes(b"no image")
    page, _ = report(run, table)
    assert list(jpegs(page))
    assert "left out of the gallery" in caplog.text


def test_a_log_that_training_did_not_write_is_refused(run):
    log = run / "log.csv"
    whole = log.read_text()
    for content in ("", "a,b\n", whole.replace("0.6", "x", 1), whole + "8,1\n"):
        log.write_text(content)
        with pytest.raises(XenonError, match="log.csv: damaged"):
            report(run)


def test_a_drawing_is_legible_on_its_page():
    """WCAG 2.1, 1.4.3: letters have a contrast of 4.5 at least."""

    def luminance(colour):
        values = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [
            v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in values
        ]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    for theme, page in ((plots.LIGHT, "#ffffff"), (plots.DARK, "#14191f")):
        for colour in (theme.ink, theme.first, theme.second, theme.third):
            light, dark = sorted((luminance(colour), luminance(page)))[::-1]
            assert (light + 0.05) / (dark + 0.05) >= 4.5, colour


# New headless Chromium makes no window as narrow as a phone; a frame in it is one.
_FRAME = """<!doctype html><title>-</title><style>body {{ margin: 0 }} iframe {{
border: 0; display: block; width: {width}px; height: {height}px }}</style>
<iframe src="page.html"></iframe>
<script>onmessage = (event) => {{ document.title = event.data }}</script>"""
_MEASURE = """<script>addEventListener("load", () => parent.postMessage([
document.documentElement.scrollWidth, innerWidth,
[...document.images].every((i) => i.complete && i.naturalWidth > 0),
[...document.querySelectorAll(".wide")].every((e) => e.scrollWidth <= e.clientWidth)
].join(" "), "*"))</script></body>"""
_CHROMIUM = shutil.which("chromium")


def browse(profile, *arguments):
    """Run headless Chromium; give what it printed, and the lines of its console."""
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


@pytest.mark.slow
@pytest.mark.skipif(_CHROMIUM is None, reason="apt-get install chromium")
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("width", "height"), [(375, 800), (1280, 900)])
def test_a_browser_opens_the_page_at_any_width(
    run, films, tmp_path, width, height, scheme
):
    table, _ = films
    _, text = report(run, table)
    place = tmp_path / "browser"
    place.mkdir()
    page, frame = place / "page.html", place / "frame.html"
    frame.write_text(_FRAME.format(width=width, height=height))
    colours = f"--blink-settings=preferredColorScheme={int(scheme == 'light')}"
    shot = place / "shot.png"
    page.write_text(text, encoding="utf-8")
    _, said = browse(
        place / "a", colours, f"--screenshot={shot}", "--window-size=1280,900",
        frame.as_uri(),
    )  # fmt: skip
    assert not said
    pixels = cv2.imread(str(shot), cv2.IMREAD_GRAYSCALE)
    assert pixels.shape == (900, 1280)
    corner = int(pixels[5, 5])
    assert corner > 240 if scheme == "light" else corner < 40
    # The page forbids scripts: a copy that allows one says how wide it is.
    measured = re.sub(r"<meta http-equiv=[^>]+>", "", text)
    page.write_text(measured.replace("</body>", _MEASURE), encoding="utf-8")
    shown, said = browse(
        place / "b", colours, "--dump-dom", "--virtual-time-budget=5000",
        frame.as_uri(),
    )  # fmt: skip
    assert not said
    (title,) = re.findall(r"<title>(.+?)</title>", shown)
    assert title == f"{width} {width} true true"


@pytest.mark.slow
@pytest.mark.skipif(_CHROMIUM is None, reason="apt-get install chromium")
def test_a_dark_screen_prints_dark_letters_on_white_paper(run, films, tmp_path):
    """The letters of a drawing are as dark in a PDF as those of the page."""
    table, _ = films
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
        # Chromium numbers the nodes of a page by chance.
        changing = rb"/(?:Creation|Mod)Date \(.+?\)|node[0-9]{8}"
        printed[scheme] = re.sub(changing, b"", pdf.read_bytes())
    assert len(printed[0]) > 100_000
    assert printed[0] == printed[1]
