"""The report of two tables, and of readers: page, card, --figures and terminal."""

from __future__ import annotations

import csv
import html
import re

import cv2
import numpy as np
import pytest
import synthetic
from click.testing import CliRunner
from support import two_nets
from support.tables import study_name, write_rows, write_table

from xenon_mx import cli
from xenon_mx.commands import report as reporting
from xenon_mx.config import ReportConfig
from xenon_mx.errors import ConfigError, XenonError
from xenon_mx.evaluation.comparison import COMPARED, compare_by_study_type, mcnemar
from xenon_mx.evaluation.delong import delong
from xenon_mx.evaluation.evaluation_set import read_predictions
from xenon_mx.evaluation.pairing import pair_tables
from xenon_mx.evaluation.prediction_tables import read_table
from xenon_mx.evaluation.reader_file import read_readers
from xenon_mx.evaluation.readers import compare_by_label, compare_by_others

TYPES = ("XR_HAND", "XR_WRIST")


def write_pair(folder, patients=30, separations=(3.0, 1.5)):
    """Write two tables of two studies per patient, and return their files."""
    random = np.random.RandomState(1)
    first, second = two_nets.simulate(random, patients, 2, separations)
    names = [
        study_name(i % 2, label, TYPES[i % 2], patient=i // 2)
        for i, label in enumerate(first.labels)
    ]
    return [
        write_table(folder / name, names, [f"{p:.9g}" for p in samples.prob])
        for name, samples in (("a.csv", first), ("b.csv", second))
    ]


def write_readers(folder, file, errors, unread=0.0):
    """Write readers of the studies of a table who err with some probability."""
    random = np.random.RandomState(2)
    found = read_table(file)
    rows = []
    for name, label in zip(found.names, found.labels):
        cells = [
            "" if random.rand() < unread else int(label) ^ int(random.rand() < share)
            for share in errors
        ]
        rows.append((name, *cells))
    header = ("study", *(f"Dr. {i}<b>" for i in range(len(errors))))
    return write_rows(folder / "readers.csv", header, *rows)


def report(first, **options):
    """Write a report; return its text, those of its sections, and what was shown."""
    out, shown = first.parent / "report.html", []
    reporting.report(ReportConfig(None, first, out, **options), shown.append)
    return out.read_text(encoding="utf-8"), shown


def section(page, name):
    """Return the text of a section, its tags replaced by spaces."""
    (found,) = re.findall(rf'<section id="{name}">.*?</section>', page, re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", found)).split())


def rows_of(figures):
    with open(figures, newline="") as stream:
        return list(csv.DictReader(stream))


def number(text):
    return float(text) if text else np.nan


# --- two tables ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """A report of two tables with everything, and what it must show."""
    folder = tmp_path_factory.mktemp("compared")
    first, second = write_pair(folder)
    page, shown = report(
        first,
        against=second,
        margin=0.05,
        figures=folder / "figures.csv",
        model_card=folder / "card.md",
    )
    pair = pair_tables(read_table(first), read_table(second), (0.5, 0.5))
    return folder, page, shown, pair, compare_by_study_type(pair)


def test_the_page_shows_the_differences_of_evaluation(compared):
    _, page, shown, _, found = compared
    text = section(page, "against")
    for each in found["overall"]:
        cells = f"{each.value:.3f} ({each.low:.2f} to {each.high:.2f}) {each.p:.3f}"
        assert f"({each.second.low:.2f} to {each.second.high:.2f}) {cells}" in text
    (overall,) = shown
    assert [row[0] for row in overall.rows] == list(COMPARED)
    assert overall.header == ("metric", "A", "B", "A - B", "p", "non-inferior (0.05)")
    assert "A is " in text
    assert "60 studies of 30 patients" in text
    assert text.count("of an unknown ensemble, called abnormal above 0.5") == 2
    assert page.count('href="#against"') == 1


def test_by_study_type_p_values_are_corrected_and_said_to_be(compared):
    _, page, _, _, found = compared
    text = section(page, "against")
    assert "corrected by Holm's method for the 2 study types" in text
    for metric in COMPARED:
        assert f"{metric} by study type" in text
    hands = found["XR_HAND"][0]
    assert f"{hands.high:.2f}) {hands.p:.3f} {hands.holm:.3f}" in text


def test_tests_are_named_as_what_they_assume(compared):
    _, page, _, pair, _ = compared
    text = section(page, "against")
    test = delong(pair.first.labels, pair.first.prob, pair.second.prob)
    calls = mcnemar(pair.first.labels, *pair.predictions)
    assert "Tests that assume independent studies" in text
    assert f"({test.low:.2f} to {test.high:.2f})" in text
    assert (
        f"accuracy: {calls.first_only} studies correct by A only, "
        f"{calls.second_only} by B only" in text
    )
    assert "These are not independent: 60 studies are of 30 patients." in text


def test_non_inferiority_is_in_plain_words(compared):
    _, page, _, _, _ = compared
    text = section(page, "against")
    assert "then by less than the margin of 0.05" in text
    assert "above -0.05 (Brier score: below 0.05)" in text
    assert "A margin counts only if it was chosen before the results were seen" in text


def test_disagreements_are_counted_by_who_is_correct(compared):
    _, page, _, pair, _ = compared
    text = section(page, "against")
    first, second = pair.predictions
    correct = first == (pair.first.labels == 1)
    only_a = int(((first != second) & correct).sum())
    only_b = int(((first != second) & ~correct).sum())
    assert only_a > only_b > 0
    assert f"Only A is correct {only_a} studies." in text
    assert f"Only B is correct {only_b} stud" in text
    assert f"the same for {60 - only_a - only_b} of 60 studies" in text
    row = next(row for row in pair.disagreements() if correct[row])
    label = ("normal", "abnormal")[pair.first.labels[row]]
    probabilities = f"A {pair.first.prob[row]:.3f}, B {pair.second.prob[row]:.3f}"
    types = pair.first.study_types[row]
    assert f"{types}, labelled {label}: {probabilities}" in text


def test_figures_hold_it_all(compared):
    folder, _, _, pair, found = compared
    rows = rows_of(folder / "figures.csv")
    test = delong(pair.first.labels, pair.first.prob, pair.second.prob)
    assert list(rows[0])[:8] == (
        "level study_type cases abnormal figure value low high".split()
    )
    for name, differences in found.items():
        for each in differences:
            (row,) = (
                row
                for row in rows
                if (row["study_type"], row["figure"], row["against"])
                == (name, f"difference in {each.name}", "b.csv")
            )
            numbers = [number(row[key]) for key in ("value", "low", "high", "p")]
            expected = (each.value, each.low, each.high, each.p)
            assert numbers == pytest.approx(expected, rel=1e-5, nan_ok=True)
            holm = number(row["p_holm"])
            assert holm == pytest.approx(each.holm, rel=1e-5, nan_ok=True)
            assert row["non_inferior"] in ("0", "1", "")
            (row,) = (
                row
                for row in rows
                if (row["study_type"], row["figure"], row["of"])
                == (name, each.name, "b.csv")
            )
            assert number(row["value"]) == pytest.approx(each.second.value, rel=1e-5)
    (row,) = (row for row in rows if row["figure"] == "DeLong's test of AUROC")
    assert number(row["p"]) == pytest.approx(test.p, rel=1e-5)


def test_the_card_has_the_differences(compared):
    folder, *_ = compared
    card = (folder / "card.md").read_text()
    assert "### A against B" in card
    assert "| metric | A | B | A - B | p | non-inferior (0.05) |" in card


def test_without_a_margin_and_with_one_study_type_there_is_less(tmp_path):
    rows = [(f"p{i}", (i % 7) / 7, i % 2) for i in range(40)]
    first, second = (
        write_rows(tmp_path / name, ("study", "probability", "label"), *each)
        for name, each in (
            ("a.csv", rows),
            ("b.csv", [(name, 1 - p / 2, label) for name, p, label in rows]),
        )
    )
    page, shown = report(first, against=second)
    text = section(page, "against")
    assert "on-inferior" not in text
    assert "Holm" not in text
    assert "Whether some of these are of the same patient is unknown" in text
    assert shown[0].header[-1] == "p"


@pytest.mark.parametrize("label", [0, 1])
def test_one_class_is_undefined(tmp_path, label):
    names = [study_name(i, label) for i in range(30)]
    first, second = (
        write_table(tmp_path / name, names, np.linspace(low, 1, 30))
        for name, low in (("a.csv", 0.0), ("b.csv", 0.2))
    )
    _, (overall,) = report(first, against=second, margin=0.1)
    by_metric = {row[0]: row[1:] for row in overall.rows}
    assert by_metric["AUROC"] == ("undefined",) * 5
    assert by_metric["kappa"] == ("undefined",) * 5
    assert "undefined" not in by_metric["Brier score"]


def test_one_patient_has_no_intervals(tmp_path):
    names = [study_name(i, i % 2, patient=7) for i in range(30)]
    first, second = (
        write_table(tmp_path / name, names, np.linspace(low, 1, 30))
        for name, low in (("a.csv", 0.0), ("b.csv", 0.2))
    )
    page, (overall,) = report(first, against=second, margin=0.1)
    for row in overall.rows:
        assert row[3].endswith("(no interval)")
        assert row[4:] == ("undefined", "undefined")
    assert "30 studies are of 1 patient." in section(page, "against")


def test_images_are_compared_as_images(tmp_path):
    names = [f"{study_name(i, i % 2)}image1.png" for i in range(30)]
    first, second = (
        write_rows(
            tmp_path / name,
            ("image", "probability"),
            *[(each, p) for each, p in zip(names, np.linspace(low, 1, 30))],
        )
        for name, low in (("a.csv", 0.0), ("b.csv", 0.2))
    )
    page, _ = report(first, against=second)
    assert "Tests that assume independent images" in section(page, "against")


def test_disagreements_show_their_radiographs(tmp_path):
    first, second = write_pair(tmp_path)
    pair = pair_tables(read_table(first), read_table(second), (0.5, 0.5))
    for i, name in enumerate(pair.names):
        file = tmp_path / "data" / name / "image1.png"
        file.parent.mkdir(parents=True)
        cv2.imwrite(str(file), synthetic.blobs(1, 32, seed=i)[0])
    page, _ = report(first, against=second, root=tmp_path / "data", gallery=2)
    (found,) = re.findall(r'<section id="against">.*?</section>', page, re.DOTALL)
    assert found.count("data:image/jpeg") == 4


def test_predictions_of_an_unknown_threshold_are_an_error(tmp_path):
    first, second = write_pair(tmp_path)
    found = read_table(second)
    predictions = (found.prob > 0.3).astype(int)
    write_table(second, found.names, found.prob, prediction=predictions)
    with pytest.raises(XenonError, match="do not follow from a threshold of 0.5: put"):
        report(first, against=second)
    with pytest.raises(XenonError, match=r"b\.csv\.json beside it"):
        report(first, against=second, threshold=0.3)


# --- readers -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def read(tmp_path_factory):
    """A report with three readers, of whom some did not read some studies."""
    folder = tmp_path_factory.mktemp("read")
    first, _ = write_pair(folder)
    readers = write_readers(folder, first, (0.1, 0.2, 0.3), unread=0.15)
    page, shown = report(
        first,
        readers=readers,
        margin=0.1,
        figures=folder / "figures.csv",
        model_card=folder / "card.md",
    )
    samples = read_predictions(first)
    return folder, page, shown, samples, read_readers(readers, read_table(first))


def test_the_page_shows_the_readers_of_evaluation(read):
    _, page, shown, samples, readers = read
    text = section(page, "readers")
    assert [shown.caption.split()[0] for shown in shown] == (
        ["kappa", "sensitivity", "specificity"]
    )
    label = compare_by_label(samples, readers, 0.5)
    others = compare_by_others(samples, readers, 0.5)
    for found, middle in ((label, ""), (others, "{} ")):
        for each in found:
            counts = f"{each.studies} {each.unread} "
            counts += middle.format(each.tied + each.alone)
            for difference in each.differences:
                one = difference.first
                value = f"{one.value:.3f} ({one.low:.2f} to {one.high:.2f})"
                assert f"{counts}{value}" in text
    assert f"{readers.unread} of 180 readings are missing" in text
    assert "The labels are the majority of these readers" not in text


def test_readers_are_points_on_the_roc_curve(read):
    _, page, _, samples, readers = read
    alt = re.findall(r'alt="(ROC curve [^"]*)"', page)[0]
    values = compare_by_label(samples, readers, 0.5)[0].differences
    expected = f"{values[1].second.value:.3f} and {values[2].second.value:.3f}"
    assert f"readers: Dr. 0&lt;b&gt; {expected};" in alt


def test_names_of_readers_are_escaped(read):
    folder, page, *_ = read
    assert "Dr. 0&lt;b&gt;" in page
    assert "Dr. 0<b>" not in page
    assert "Dr. 0<b>" not in (folder / "card.md").read_text()


def test_figures_hold_the_readers(read):
    folder, _, _, samples, readers = read
    rows = rows_of(folder / "figures.csv")
    for found, reference in (
        (compare_by_label(samples, readers, 0.5), ""),
        (compare_by_others(samples, readers, 0.5), "other readers"),
    ):
        for each in found:
            mine = [
                row
                for row in rows
                if row["subgroup"] == f"reader={each.reader}"
                and (row["study_type"], row["reference"]) == ("overall", reference)
            ]
            assert len(mine) == 9  # ensemble, reader, difference of three metrics
            assert {int(row["cases"]) for row in mine} == {each.studies}
            assert {int(row["abnormal"]) for row in mine} == {each.abnormal}
            values = [number(row["value"]) for row in mine]
            expected = [d.first.value for d in each.differences]
            expected += [d.second.value for d in each.differences]
            expected += [d.value for d in each.differences]
            assert values == pytest.approx(expected, rel=1e-5)
            name = each.reader
            assert [row["of"] for row in mine] == [*[""] * 3, *[name] * 3, *[""] * 3]
            assert [row["against"] for row in mine] == [""] * 6 + [name] * 3
    types = {row["study_type"] for row in rows if row["subgroup"]}
    assert types == {"XR_HAND", "XR_WRIST", "overall"}


def test_kappas_by_study_type_are_those_of_the_papers_table(tmp_path):
    first, _ = write_pair(tmp_path)
    page, _ = report(first, readers=write_readers(tmp_path, first, (0.1, 0.2)))
    _, _, found = page.partition("<caption>kappa against the label by study type")
    found, _, _ = found.partition("</table>")
    head = re.findall(r'<th scope="col">(.*?)</th>', found)
    assert head == [
        "study type", "studies", "this ensemble", "Dr. 0&lt;b&gt;", "Dr. 1&lt;b&gt;",
    ]  # fmt: skip
    assert re.findall(r'data-label="study type">(.*?)<', found) == [*TYPES, "overall"]


def test_labels_that_readers_decided_are_said_to_be_theirs(tmp_path):
    first, _ = write_pair(tmp_path)
    found = read_table(first)
    random = np.random.RandomState(3)
    rows = []
    for name, label in zip(found.names, found.labels):
        readings = [label, label, int(random.randint(2))]
        rows.append((name, *readings))
    readers = write_rows(tmp_path / "readers.csv", *rows)  # the competition's form
    page, _ = report(first, readers=readers)
    text = section(page, "readers")
    assert "3 readers of readers.csv: reader_1, reader_2, reader_3." in text
    assert "The labels are the majority of these readers" in text
    assert "in part compared with their own reading" in text


def test_one_reader_has_no_others(tmp_path):
    first, _ = write_pair(tmp_path)
    page, shown = report(first, readers=write_readers(tmp_path, first, (0.2,)))
    assert "other readers" not in section(page, "readers")
    assert len(shown) == 3


# --- flags, and the terminal ---------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"margin": 0.05}, "--margin: has no effect without --against or --readers"),
        ({"margin": 0.0}, "--margin: must be above 0, not 0"),
        ({"margin": -0.1}, "--margin: must be above 0, not -0.1"),
    ],
)
def test_a_margin_without_effect_is_an_error(tmp_path, options, message):
    first, _ = write_pair(tmp_path)
    with pytest.raises(ConfigError, match=message):
        report(first, **options)


@pytest.mark.parametrize("flag", ["against", "readers"])
def test_without_labels_there_is_nothing_to_compare(tmp_path, flag):
    first = write_table(tmp_path / "a.csv", ["x", "y"], [0.1, 0.9])
    other = write_rows(tmp_path / "o.csv", ("study", "r"), ("x", 1))
    with pytest.raises(ConfigError, match=f"--{flag}: has no effect"):
        report(first, **{flag: other})


@pytest.mark.parametrize("flag", ["against", "readers"])
def test_an_input_is_never_an_output(tmp_path, flag):
    first, second = write_pair(tmp_path)
    readers = write_readers(tmp_path, first, (0.1,))
    other = {"against": second, "readers": readers}[flag]
    before = other.read_bytes()
    with pytest.raises(XenonError, match="is an input of this command"):
        report(first, figures=other, overwrite=True, **{flag: other})
    assert other.read_bytes() == before


def test_the_terminal_prints_the_differences(tmp_path, monkeypatch):
    first, second = write_pair(tmp_path)
    monkeypatch.chdir(tmp_path)
    arguments = ["a.csv", "--against", "b.csv", "--margin", "0.05", "--gallery", "0"]
    result = CliRunner().invoke(cli.COMMANDS["report"], arguments)
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    start = lines.index("A against B over 60 studies, with 95% intervals:")
    assert lines[start - 2 : start] == [
        f"{name} is {file}: of an unknown ensemble, called abnormal above 0.5."
        for name, file in (("A", "a.csv"), ("B", "b.csv"))
    ]
    assert lines[start + 1].split() == "metric A B A - B p non-inferior (0.05)".split()
    found = lines[start + 1 : start + 7]
    assert [line.split("  ")[0] for line in found] == ["metric", *COMPARED]
    assert len({len(line) for line in found}) == 1  # aligned
