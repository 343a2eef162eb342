"""The section of a report that holds a decision to what it promised."""

from __future__ import annotations

import csv
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss
from support import decisions
from test_against import section
from test_origin import WRITTEN, predicted
from test_report import Page, _drawn_once  # noqa: F401 - a fixture

from xenon_mx.commands import report as reporting
from xenon_mx.config import ReportConfig
from xenon_mx.evaluation import metrics
from xenon_mx.evaluation.applied_decision import AppliedDecision
from xenon_mx.evaluation.decision import Threshold
from xenon_mx.evaluation.prediction_tables import read_table
from xenon_mx.reporting import decision_section
from xenon_mx.runs import decision_file
from xenon_mx.runs.run_folder import Run
from xenon_mx.runtime import files

PROMISE = Threshold(0.5, "sensitivity", target=0.8, bound=0.81)


def _write(folder, labels, made, count=60):
    """Write a table as a decision answers it; patient 3 has studies 3, 13, 23, ..."""
    random = np.random.RandomState(0)
    prob = [round(float(value), 3) for value in random.rand(count)]
    cells = zip(made.calibrate(np.array(prob)), made.decide(np.array(prob)))
    lines = ["study,patient,probability,label,calibrated,decision"]
    for i, (calibrated, decided) in enumerate(cells):
        label = "" if labels is None else int(random.rand() < prob[i])
        lines.append(f"s{i},p{i % 30},{prob[i]},{label},{calibrated:.9g},{decided}")
    (folder / "out.csv").write_text("\n".join(lines) + "\n")
    return read_table(folder / "out.csv")


def _origin(made, runs=(), **changes):
    applied = replace(AppliedDecision.of(made, False, []), **changes)
    return SimpleNamespace(provenance=SimpleNamespace(decision=applied), runs=[*runs])


@pytest.fixture
def made():
    return replace(decisions.make(0.5, low=0.3, high=0.6), threshold=PROMISE)


def _column(table, name):
    return np.array([float(cell) for cell in table.extra[name]])


def test_counts_and_rates_are_those_of_the_table(tmp_path, made):
    table = _write(tmp_path, "all", made)
    found = decision_section.summarize(table, _origin(made))
    counts, promises, quality = found.tables
    called = np.array(table.extra["decision"])
    patients = np.array(table.patients)
    for label, row in zip((0, 1), counts.rows):
        own = table.labels == label
        shares = [(own & (called == n)).sum() for n in ("normal", "refer", "abnormal")]
        assert [int(cell) for cell in row[1:]] == [own.sum(), *shares]
    for label, other, row in ((1, "normal", 0), (0, "abnormal", 1)):
        own = table.labels == label
        missed = len({*patients[own & (called == other)]})
        assert missed
        all_of_them = len({*patients[own]})
        assert promises.rows[row][1] == f"at most {made.referral.alpha:g}"
        assert promises.rows[row][2].startswith(f"{missed / all_of_them:.3f}\n(")
        assert promises.rows[row][3] == f"{missed} of {all_of_them} patients"
    sensitivity = (table.prob > 0.5)[table.labels == 1].mean()
    assert promises.rows[2][:2] == (
        "sensitivity at the threshold of 0.5",
        "at least 0.8",
    )
    assert promises.rows[2][2].startswith(f"{sensitivity:.3f}\n(")
    calibrated = _column(table, "calibrated")
    for row, compute in zip(
        quality.rows, (brier_score_loss, metrics.calibration_error)
    ):
        for cell, prob in zip(row[1:], (table.prob, calibrated)):
            assert cell.startswith(f"{compute(table.labels, prob):.3f}\n(")


def test_figures_have_the_same(tmp_path, made):
    table = _write(tmp_path, "all", made)
    rows = {r.metric: r for r in decision_section.summarize(table, _origin(made)).rows}
    counts = [row.value for name, row in rows.items() if name.startswith("labelled")]
    assert sum(counts) == len(table.labels)
    assert len(counts) == 6
    rate = rows["patients with an abnormal study who have one called normal"]
    assert 0 < rate.low < rate.value < rate.high < 1
    brier = brier_score_loss(table.labels, _column(table, "calibrated"))
    assert rows["Brier score of calibrated"].value == pytest.approx(brier)
    assert "calibration error of calibrated" in rows
    assert "sensitivity at the decided threshold" in rows


def test_without_a_third_answer_nothing_is_promised_of_patients(tmp_path):
    made = decisions.make(0.5)
    found = decision_section.summarize(_write(tmp_path, "all", made), _origin(made))
    assert list(found.tables[0].header[2:]) == ["called normal", "called abnormal"]
    assert [row[1] for row in found.tables[1].rows[:2]] == ["nothing"] * 2
    assert "no study is referred" in found.about[0]
    assert "mean over many sets" not in " ".join(found.about)


def test_without_labels_there_are_only_counts(tmp_path, made):
    table = _write(tmp_path, None, made)
    found = decision_section.summarize(table, _origin(made))
    assert [row[0] for row in found.tables[0].rows] == ["overall"]
    assert (len(found.tables), found.plots, found.rows) == (1, [], [])


def test_columns_of_another_origin_are_no_decision(tmp_path, made):
    table = _write(tmp_path, "all", made)
    for provenance in (None, SimpleNamespace(decision=None)):
        origin = SimpleNamespace(provenance=provenance, runs=[])
        assert decision_section.summarize(table, origin) is None


def test_limits_are_those_of_the_decision_that_was_applied(tmp_path, made):
    table = _write(tmp_path, "all", made)
    runs = [SimpleNamespace(folder=tmp_path)]
    file = tmp_path / decision_file.DECISION_JSON
    files.write_json(file, made.to_json())
    (about, _) = decision_section.summarize(table, _origin(made, runs)).about
    assert "called normal only below 0.3, called abnormal only above 0.6" in about
    assert "the threshold that was decided, 0.5" in about
    for change in (
        lambda: files.write_json(file, replace(made, time="2030").to_json()),
        lambda: file.write_text("{}"),
        file.unlink,
    ):
        change()
        (about, _) = decision_section.summarize(table, _origin(made, runs)).about
        assert "limits of the third answer are not shown" in about


def test_page_card_and_figures_have_the_decision(tmp_path):
    run = tmp_path / "run"
    shutil.copytree(WRITTEN / "run", run)
    members = tuple(member.sha256 for member in Run.open(run).members())
    made = replace(decisions.make(0.5, low=0.3, high=0.6), members=members)
    files.write_json(run / decision_file.DECISION_JSON, made.to_json())
    table = predicted(tmp_path / "valid", run)
    out, card, figures = (tmp_path / n for n in ("page.html", "card.md", "f.csv"))
    config = ReportConfig(None, table, out, model_card=card, figures=figures)
    reporting.report(config)
    text = out.read_text(encoding="utf-8")
    words = section(text, "decision")
    assert "Studies by label and decision" in words
    assert "called normal only below 0.3" in words
    assert "Calibration of the calibrated probabilities" in words
    assert "Calibration of the probabilities as predicted" in section(text, "results")
    assert {"href": "#decision"} in Page(text).all("a")
    assert "**Decision:** Of " in card.read_text()
    with figures.open(newline="") as stream:
        *_, last = csv.DictReader(stream)
    assert last["figure"] == "calibration error of calibrated"


def test_without_a_decision_there_is_no_section(tmp_path):
    table = tmp_path / "out.csv"
    table.write_text("study,probability,label\na,0.2,0\nb,0.8,1\n")
    config = ReportConfig(None, table, tmp_path / "page.html")
    reporting.report(config)
    assert 'id="decision"' not in (tmp_path / "page.html").read_text()
