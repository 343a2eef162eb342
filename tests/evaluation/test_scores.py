"""Figures and intervals against sums by hand, scikit-learn, SciPy and simulations."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sklearn_metrics
from sklearn.calibration import calibration_curve
from support import paths

from xenon_mx.data import mura
from xenon_mx.errors import XenonError
from xenon_mx.evaluation import bootstrap, metrics, prediction_tables, published
from xenon_mx.evaluation import scores as evaluation
from xenon_mx.evaluation.scores import Cases

PARTS = [name for name in published.REPRODUCTIONS if name != "overall"]


def cases_of(labels, prob, patients=None, study_types=None, **more):
    """Make cases, each a patient's own and of one study type unless told."""
    count = len(labels)
    return Cases(
        np.array(labels, dtype=int),
        np.array(prob, dtype=np.float64),
        list(patients or [f"patient{i:05d}" for i in range(count)]),
        list(study_types or ["XR_HAND"] * count),
        **more,
    )


def table(tp, fn, fp, tn, **more):
    """Make cases with these outcomes: .9 is called abnormal, .1 normal."""
    labels = [1] * (tp + fn) + [0] * (fp + tn)
    prob = [0.9] * tp + [0.1] * fn + [0.9] * fp + [0.1] * tn
    return cases_of(labels, prob, **more)


def noisy(count, seed, patients=None):
    """Draw cases whose probabilities know something of the label, ties among them."""
    random = np.random.RandomState(seed)
    labels = random.randint(0, 2, count)
    prob = metrics.sigmoid(random.normal(2 * labels - 1, 1.5)).round(2)
    names = [f"p{i}" for i in random.randint(0, patients or count, count)]
    return cases_of(labels, prob, names)


def named(figures):
    return {figure.name: figure for figure in figures}


# --- values -------------------------------------------------------------------------


def test_figures_of_a_table_worked_by_hand():
    # 20 + 15 right of 50, 25 abnormal, 30 called so: pa = .7, pe = .5
    found = named(evaluation.evaluate(table(tp=20, fn=5, fp=10, tn=15), repeats=0))
    expected = {
        "kappa": 0.4,
        "AUROC": 0.7,  # of two probabilities: the mean of the next two
        "sensitivity": 0.8,
        "specificity": 0.6,
        "accuracy": 0.7,
        "F1": 40 / 55,
        "Brier score": (35 * 0.01 + 15 * 0.81) / 50,
        # of those at .9 two thirds are abnormal, of those at .1 a quarter
        "calibration error": 0.6 * (0.9 - 2 / 3) + 0.4 * (0.25 - 0.1),
    }
    assert list(found) == list(expected) == list(metrics.METRICS)
    for name, value in expected.items():
        assert found[name].value == pytest.approx(value), name
        assert math.isnan(found[name].low)  # no repeats were asked for


def test_a_probability_at_the_threshold_is_normal():
    found = named(evaluation.evaluate(cases_of([1, 0], [0.5, 0.5]), repeats=0))
    assert (found["sensitivity"].value, found["specificity"].value) == (0, 1)
    found = named(evaluation.evaluate(cases_of([1, 0], [0.5, 0.5]), 0.4, repeats=0))
    assert (found["sensitivity"].value, found["specificity"].value) == (1, 0)


@pytest.mark.parametrize("threshold", [0.5, 0.31])
def test_weighted_figures_are_scikit_learns_of_the_cases_repeated(threshold):
    cases = noisy(60, seed=1)
    weights = np.random.RandomState(2).randint(0, 4, (20, 60))
    found = bootstrap.weighted_metrics(
        cases.labels, cases.prob, weights.astype(np.float64), threshold
    )
    for i, counts in enumerate(weights):
        labels, prob = np.repeat(cases.labels, counts), np.repeat(cases.prob, counts)
        called = (prob > threshold).astype(int)
        oracle = {
            "kappa": sklearn_metrics.cohen_kappa_score(labels, called),
            "AUROC": sklearn_metrics.roc_auc_score(labels, prob),
            "sensitivity": sklearn_metrics.recall_score(labels, called),
            "specificity": sklearn_metrics.recall_score(1 - labels, 1 - called),
            "accuracy": sklearn_metrics.accuracy_score(labels, called),
            "F1": sklearn_metrics.f1_score(labels, called),
            "Brier score": sklearn_metrics.brier_score_loss(labels, prob),
        }
        assert set(metrics.METRICS) - set(oracle) == {"calibration error"}
        for name, value in oracle.items():
            assert found[name][i] == pytest.approx(value, abs=1e-12), name
        # which scikit-learn lacks: its curve's points, weighted by hand
        share, mean = calibration_curve(labels, prob, n_bins=10)
        size = np.bincount(np.digitize(prob, np.linspace(0, 1, 11)[1:-1], right=True))
        error = (size[size > 0] * np.abs(share - mean)).sum() / len(labels)
        assert found["calibration error"][i] == pytest.approx(error, abs=1e-12)
        whole = metrics.compute_all(labels, prob, threshold)
        for name, value in whole.items():
            assert found[name][i] == pytest.approx(value, abs=1e-12), name


def test_reliability_gives_the_points_of_scikit_learns_curve():
    cases = noisy(200, seed=3)
    mean, share, count = evaluation.reliability(cases, bins=7)
    some = count > 0
    expected_share, expected_mean = calibration_curve(
        cases.labels, cases.prob, n_bins=7
    )
    np.testing.assert_allclose(share[some], expected_share)
    np.testing.assert_allclose(mean[some], expected_mean)
    assert count.sum() == 200


def test_reliability_of_an_empty_bin_is_undefined_and_edges_belong_below():
    mean, share, count = evaluation.reliability(
        cases_of([0, 1, 1, 0], [0.0, 0.5, 1.0, 0.5]), bins=4
    )
    np.testing.assert_array_equal(count, [1, 2, 0, 1])
    np.testing.assert_array_equal(mean, [0, 0.5, np.nan, 1])
    np.testing.assert_array_equal(share, [0, 0.5, np.nan, 1])


# --- intervals ----------------------------------------------------------------------


def test_the_interval_of_an_accuracy_is_the_binomials():
    # Drawing n patients of one study each anew draws the number right: binomial.
    cases = table(tp=70, fn=20, fp=30, tn=80)
    found = named(evaluation.evaluate(cases, repeats=4000))["accuracy"]
    low, high = stats.binom.ppf((0.025, 0.975), 200, 0.75) / 200
    assert found.low == pytest.approx(low, abs=0.0051)  # one study more or less
    assert found.high == pytest.approx(high, abs=0.0051)


def test_the_interval_of_an_auroc_is_scipys_bootstrap():
    cases = noisy(120, seed=4)
    mine = named(evaluation.evaluate(cases_of(cases.labels, cases.prob)))["AUROC"]
    theirs = stats.bootstrap(
        (cases.labels, cases.prob),
        sklearn_metrics.roc_auc_score,
        paired=True,
        vectorized=False,
        method="percentile",
        n_resamples=1000,
        random_state=np.random.RandomState(5),
    ).confidence_interval
    assert mine.low == pytest.approx(theirs.low, abs=0.01)
    assert mine.high == pytest.approx(theirs.high, abs=0.01)


def test_a_draw_takes_all_cases_of_a_patient_together():
    cases = noisy(40, seed=6, patients=9)
    drawn = bootstrap.bootstrap_metrics(
        cases.labels, cases.prob, cases.patients, 0.5, 50, 7
    )
    names = sorted(set(cases.patients))
    chosen = np.random.RandomState(7).randint(0, len(names), (50, len(names)))
    for i, numbers in enumerate(chosen):
        rows = [
            row
            for number in numbers
            for row, patient in enumerate(cases.patients)
            if patient == names[number]
        ]
        expected = metrics.compute_all(cases.labels[rows], cases.prob[rows], 0.5)
        for name, value in expected.items():
            assert drawn[name][i] == pytest.approx(value, abs=1e-12, nan_ok=True)


def test_studies_that_only_repeat_a_patients_first_do_not_narrow_the_interval():
    once = noisy(80, seed=8)
    once = cases_of(once.labels, once.prob)
    four = cases_of(
        np.repeat(once.labels, 4),
        np.repeat(once.prob, 4),
        np.repeat(once.patients, 4).tolist(),
    )
    single, clustered = evaluation.evaluate(once), evaluation.evaluate(four)
    for one, other in zip(single, clustered):
        assert other[1:] == pytest.approx(one[1:], abs=1e-12), one.name
    apart = evaluation.evaluate(cases_of(four.labels, four.prob))
    for one, other in zip(single, apart):
        # as if there were four times as many patients: half as wide
        ratio = (other.high - other.low) / (one.high - one.low)
        assert 0.4 < ratio < 0.6, one.name


def simulated(random, patients, studies, together):
    """Draw studies that are called right with a probability of .8, at .2 or .8.

    Args:
        random: The generator.
        patients: How many.
        studies: Of each.
        together: Whether all studies of a patient are right, or none is.
    """
    count = patients * studies
    labels = random.randint(0, 2, count)
    right = random.rand(patients).repeat(studies) if together else random.rand(count)
    prob = np.where((right < 0.8) == (labels == 1), 0.8, 0.2)
    names = [f"p{i // studies:03d}" for i in range(count)]
    return labels, prob, names


# What the simulation's figures are in the long run: half of all cases are abnormal, and
# .8 of either half are called right, so that kappa is 2 x .8 - 1.
LONG_RUN = {
    "kappa": 0.6,
    "AUROC": 0.8,
    "sensitivity": 0.8,
    "specificity": 0.8,
    "accuracy": 0.8,
    "F1": 0.8,
    "Brier score": 0.8 * 0.04 + 0.2 * 0.64,
}


def coverage(together, whose):
    """Count how often an interval holds the figure of the long run, for each figure."""
    random = np.random.RandomState(9)
    trials = 300
    held = dict.fromkeys(LONG_RUN, 0)
    for trial in range(trials):
        labels, prob, names = simulated(random, 80, 4, together)
        drawn = bootstrap.bootstrap_metrics(labels, prob, whose(names), 0.5, 400, trial)
        for name, truth in LONG_RUN.items():
            interval = bootstrap.percentile_interval(drawn[name])
            held[name] += interval.low <= truth <= interval.high
    return {name: count / trials for name, count in held.items()}


@pytest.mark.parametrize("together", [False, True])
def test_95_of_100_intervals_hold_the_truth_whether_or_not_studies_agree(together):
    for name, share in coverage(together, whose=lambda names: names).items():
        # 300 trials of .95: four standard deviations, of .0126 each, below
        assert 0.90 <= share <= 0.985, name


def test_intervals_over_studies_would_hold_the_truth_too_seldom():
    apart = coverage(True, whose=lambda names: [str(i) for i in range(len(names))])
    # four equal studies: half the width, and P(|z| < .98) = .67
    assert 0.58 <= apart["accuracy"] <= 0.76
    # of sensitivity, two and a half are equal in the mean: P(|z| < 1.24) = .78
    assert 0.70 <= apart["sensitivity"] <= 0.86
    assert max(apart.values()) < 0.9, apart


def test_the_order_of_the_cases_changes_nothing():
    cases = noisy(150, seed=10, patients=60)
    order = np.random.RandomState(11).permutation(150)
    other = cases_of(
        cases.labels[order],
        cases.prob[order],
        [cases.patients[i] for i in order],
    )
    for one, two in zip(evaluation.evaluate(cases), evaluation.evaluate(other)):
        assert (one.low, one.high) == (two.low, two.high), one.name
        assert one.value == pytest.approx(two.value, abs=1e-12)


def test_a_seed_repeats_and_another_one_differs():
    cases = noisy(100, seed=12)
    assert evaluation.evaluate(cases, seed=3) == evaluation.evaluate(cases, seed=3)
    assert evaluation.evaluate(cases, seed=3) != evaluation.evaluate(cases, seed=4)


def test_draws_in_blocks_are_the_draws_at_once(monkeypatch):
    cases = noisy(30, seed=13, patients=12)
    arguments = (cases.labels, cases.prob, cases.patients, 0.5, 100, 0)
    whole = bootstrap.bootstrap_metrics(*arguments)
    monkeypatch.setattr(bootstrap, "_CELLS", 30 * 7)  # the last block is of two
    for name, values in bootstrap.bootstrap_metrics(*arguments).items():
        np.testing.assert_allclose(values, whole[name], rtol=0, atol=1e-12)


# --- what is undefined --------------------------------------------------------------


@pytest.mark.parametrize("label", [0, 1])
def test_one_class_only_leaves_undefined_what_compares_the_classes(label):
    cases = cases_of([label] * 30, np.linspace(0.05, 0.95, 30))
    found = named(evaluation.evaluate(cases))
    missing = {name for name, figure in found.items() if math.isnan(figure.value)}
    alone = {"specificity"} if label else {"sensitivity", "F1"}
    assert missing == {"kappa", "AUROC"} | alone
    for name, figure in found.items():
        assert math.isnan(figure.low) == math.isnan(figure.high) == (name in missing)
    assert found["accuracy"].value == 0.5


@pytest.mark.parametrize("label", [0, 1])
def test_one_study_has_no_intervals(label):
    found = named(evaluation.evaluate(cases_of([label], [0.75])))
    assert found["accuracy"].value == label
    assert found["Brier score"].value == pytest.approx((0.75 - label) ** 2)
    assert math.isnan(found["kappa"].value)
    assert math.isnan(found["AUROC"].value)
    assert all(math.isnan(figure.low) for figure in found.values())
    assert all(math.isnan(figure.high) for figure in found.values())


def test_one_patient_of_many_studies_has_figures_but_no_intervals():
    cases = noisy(50, seed=14)
    cases = cases_of(cases.labels, cases.prob, ["patient00001"] * 50)
    for figure in evaluation.evaluate(cases):
        assert not math.isnan(figure.value)
        assert math.isnan(figure.low)
        assert math.isnan(figure.high)


def test_no_case_at_all_leaves_everything_undefined():
    for figure in evaluation.evaluate(cases_of([], [])):
        assert np.isnan(figure[1:]).all()


def test_figures_without_a_mistake_have_no_interval_of_no_width():
    found = named(evaluation.evaluate(table(tp=20, fn=0, fp=0, tn=20)))
    for name in ("kappa", "AUROC", "sensitivity", "specificity", "accuracy", "F1"):
        assert found[name].value == 1
        assert math.isnan(found[name].low)


def test_nothing_called_abnormal_is_an_f1_and_a_kappa_of_zero():
    found = named(evaluation.evaluate(table(tp=0, fn=10, fp=0, tn=10), repeats=0))
    assert found["F1"].value == found["kappa"].value == found["sensitivity"].value == 0


def test_draws_without_a_figure_are_left_out_until_they_are_too_many():
    values = np.concatenate([np.linspace(0, 1, 96), np.full(4, np.nan)])
    low, high, defined = bootstrap.percentile_interval(values)
    assert (low, high) == pytest.approx((0.025, 0.975))
    assert defined == 96
    values[:2] = np.nan
    low, high, defined = bootstrap.percentile_interval(values)
    assert math.isnan(low)
    assert math.isnan(high)
    assert defined == 94
    assert math.isnan(bootstrap.percentile_interval(np.linspace(0, 1, 39)).low)


def test_one_abnormal_patient_of_many_leaves_auroc_without_an_interval():
    # he is missing in (1 - 1/50)^50 = 36% of the draws
    found = named(evaluation.evaluate(cases_of([1] + [0] * 49, np.linspace(1, 0, 50))))
    assert found["AUROC"].value == 1
    assert math.isnan(found["AUROC"].low)
    assert not math.isnan(found["specificity"].low)


# --- study types --------------------------------------------------------------------


def test_study_types_come_in_order_and_pooled_figures_last():
    hands, wrists = noisy(40, seed=15), noisy(50, seed=16)
    both = cases_of(
        np.concatenate([wrists.labels, hands.labels]),
        np.concatenate([wrists.prob, hands.prob]),
        wrists.patients + hands.patients,
        ["XR_WRIST"] * 50 + ["XR_HAND"] * 40,
    )
    found = evaluation.evaluate_by_study_type(both, repeats=200, seed=1)
    assert list(found) == ["XR_HAND", "XR_WRIST", "overall"]
    assert found["XR_HAND"] == evaluation.evaluate(hands, repeats=200, seed=1)
    assert found["overall"] == evaluation.evaluate(both, repeats=200, seed=1)


# --- the competition and the paper --------------------------------------------------


def test_the_competitions_interval_is_the_one_that_the_paper_prints():
    # The paper's operating point on 207 studies: sensitivity 75/92 = .815, specificity
    # 102/115 = .887. It prints kappa .705 (.700, .710).
    cases = table(tp=75, fn=17, fp=13, tn=102)
    scores = evaluation.competition_scores(cases)
    overall = [scores[f"Overall_{key}"] for key in ("Mean", "Lower", "Upper")]
    printed = published.PAPER.kappa["model"]["overall"]
    assert [round(value, 3) for value in overall] == list(printed)
    # Ours: about as the standard error gives it with its square root, (.608, .803).
    kappa = named(evaluation.evaluate(cases))["kappa"]
    assert kappa.value == pytest.approx(overall[0])
    assert (kappa.low, kappa.high) == pytest.approx((0.608, 0.803), abs=0.015)


def test_the_competition_scores_each_part_and_pools_the_studies():
    kinds = ["XR_HAND"] * 50 + ["XR_WRIST"] * 4
    labels = [1] * 25 + [0] * 25 + [1, 1, 0, 0]
    prob = [0.9] * 20 + [0.1] * 5 + [0.9] * 10 + [0.1] * 15 + [0.9, 0.9, 0.1, 0.1]
    scores = evaluation.competition_scores(cases_of(labels, prob, study_types=kinds))
    keys = ("Mean", "Lower", "Upper")
    hand = [scores[f"Hand_{key}"] for key in keys]
    margin = 1.96 * 0.7 * 0.3 / (50 * 0.5**2)  # pa = .7, pe = .5, no square root
    assert hand == pytest.approx([0.4, 0.4 - margin, 0.4 + margin])
    assert [scores[f"Wrist_{key}"] for key in keys] == [1, 1, 1]
    pooled = sklearn_metrics.cohen_kappa_score(labels, np.array(prob) > 0.5)
    assert scores["Overall_Mean"] == pytest.approx(pooled)
    assert math.isnan(scores["Elbow_Mean"])
    parts = [name[3:].title() for name in PARTS]
    assert list(scores) == [f"{p}_{k}" for p in [*parts, "Overall"] for k in keys]


def test_the_competition_does_not_score_images():
    with pytest.raises(XenonError, match="scores studies"):
        evaluation.competition_scores(cases_of([0, 1], [0.1, 0.9], level="image"))


def test_the_papers_kappas_lie_inside_their_intervals_and_add_up():
    paper = evaluation.PAPER
    assert set(paper.kappa) == {"model", *(f"radiologist {i}" for i in (1, 2, 3))}
    for column in paper.kappa.values():
        assert list(column) == [*PARTS, "overall"]
        for kappa in column.values():
            middle = (kappa.low + kappa.high) / 2
            assert kappa.value == pytest.approx(middle, abs=0.00101)
    parts = [published.REPRODUCTIONS[name] for name in PARTS]
    overall = published.REPRODUCTIONS["overall"]
    assert sum(part.normal for part in parts) == overall.normal == 661
    assert sum(part.abnormal for part in parts) == overall.abnormal == 538


@pytest.mark.parametrize(("patients", "sure"), [(4, False), (5, True)])
def test_of_a_handful_of_patients_there_is_no_interval(patients, sure):
    rng = np.random.RandomState(0)
    labels = np.arange(8 * patients) % 2
    prob = np.clip(0.3 + 0.4 * labels + rng.normal(0, 0.3, len(labels)), 0, 1)
    names = [f"patient{i // 8}" for i in range(len(labels))]
    for figure in evaluation.evaluate(cases_of(labels, prob, names)):
        assert math.isfinite(figure.value)
        assert math.isfinite(figure.low) == sure


# --- warnings -----------------------------------------------------------------------


def public_valid(kappas):
    """Make MURA's public validation set, called with about these kappas."""
    every = []
    for name in PARTS:
        normal, abnormal, _ = published.REPRODUCTIONS[name]
        # With both classes missed alike by a share m, kappa is about 1 - 2 m.
        missed = (1 - kappas[name]) / 2
        fn, fp = round(abnormal * missed), round(normal * missed)
        every.append(table(abnormal - fn, fn, fp, normal - fp))
    return cases_of(
        np.concatenate([each.labels for each in every]),
        np.concatenate([each.prob for each in every]),
        None,
        [name for name, each in zip(PARTS, every) for _ in each.labels],
    )


HEALTHY = {
    "XR_ELBOW": 0.75,
    "XR_FINGER": 0.61,
    "XR_FOREARM": 0.71,
    "XR_HAND": 0.55,
    "XR_HUMERUS": 0.78,
    "XR_SHOULDER": 0.58,
    "XR_WRIST": 0.75,
}


def said(cases, **more):
    return evaluation.leakage_warnings(
        cases, evaluation.evaluate_by_study_type(cases), **more
    )


def test_the_best_honest_figures_on_muras_validation_set_are_no_leakage():
    assert said(public_valid(HEALTHY)) == []


def test_the_papers_figures_for_hand_and_wrist_there_look_like_leakage():
    lines = said(public_valid({**HEALTHY, "XR_HAND": 0.85, "XR_WRIST": 0.93}))
    assert [line.split(":")[0] for line in lines] == ["XR_HAND", "XR_WRIST"]
    assert all("looks like leakage" in line for line in lines)


def test_figures_without_a_mistake_there_look_like_leakage_in_all():
    lines = said(public_valid(dict.fromkeys(PARTS, 1.0)))
    assert [line.split(":")[0] for line in lines] == [*PARTS, "overall"]


def test_a_copy_that_lacks_a_few_studies_is_still_muras_validation_set():
    """One unreadable film would silence the warning otherwise."""
    whole = public_valid(dict.fromkeys(PARTS, 0.95))
    kept = np.ones(len(whole.labels), bool)
    for name in PARTS:
        kept[whole.study_types.index(name)] = False
    kinds = [kind for kind, keep in zip(whole.study_types, kept) if keep]
    fewer = cases_of(whole.labels[kept], whole.prob[kept], None, kinds)
    assert len(fewer.labels) == 1199 - 7
    assert [line.split(":")[0] for line in said(fewer)] == [*PARTS, "overall"]


def test_other_data_with_such_kappas_is_no_leakage():
    assert said(table(tp=60, fn=0, fp=0, tn=101)) == []
    hands = table(tp=66, fn=0, fp=0, tn=101)
    images = cases_of(hands.labels, hands.prob, level="image")
    assert said(images) == []
    assert len(said(hands)) == 1


def test_a_validation_set_that_chose_the_checkpoints_is_named():
    cases = cases_of([0, 1], [0.2, 0.9], splits=["valid", "valid"])
    (line,) = said(cases, validated_on="valid")
    assert "chose the checkpoints" in line
    assert said(cases, validated_on="holdout") == []
    (line,) = said(cases)
    assert line.startswith("if the run was validated on valid")
    untold = cases_of([0, 1], [0.2, 0.9], splits=["", ""])
    (line,) = said(untold, validated_on="valid")
    assert "do not tell whether these studies are of it" in line
    other = cases_of([0, 1], [0.2, 0.9], splits=["test", "test"])
    assert said(other, validated_on="valid") == []


def test_studies_of_the_training_folder_are_named():
    cases = cases_of([0, 1, 1], [0.2, 0.9, 0.9], splits=["train", "valid", "train"])
    (line,) = said(cases, validated_on="holdout")
    assert line.startswith("2 of the 3 studies lie in train/")


# --- reading ------------------------------------------------------------------------

PATHS = (
    "MURA-v1.1/valid/XR_WRIST/patient11185/study1_positive/image1.png",
    "MURA-v1.1/valid/XR_WRIST/patient11185/study1_positive/image2.png",
    "MURA-v1.1/valid/XR_HAND/patient11185/study1_negative/image1.png",
    "train/XR_HAND/patient00007/study2_negative/image1.png",
)
MEMBERS = np.array([[0.9, 0.7], [0.6, 0.4], [0.25, 0.35], [0.1, 0.2]])


@pytest.fixture
def written(tmp_path):
    """What xenon-predict itself writes of four images: OUT.csv and --images."""
    images = [mura.parse(path, Path(path)) for path in PATHS]
    out, by_image = tmp_path / "out.csv", tmp_path / "images.csv"
    out.write_bytes(prediction_tables.studies_csv(images, MEMBERS, 0.5))
    by_image.write_bytes(prediction_tables.images_csv(images, MEMBERS, 0.5))
    return out, by_image


def test_studies_are_read_as_xenon_predict_writes_them(written):
    cases = evaluation.read_predictions(written[0])
    assert cases.level == "study"
    np.testing.assert_array_equal(cases.labels, [1, 0, 0])
    np.testing.assert_allclose(cases.prob, [0.65, 0.3, 0.15])
    assert cases.prob.dtype == np.float64
    # one name is one patient, a hand and a wrist of his notwithstanding
    assert cases.patients == ["patient11185", "patient11185", "patient00007"]
    assert cases.study_types == ["XR_WRIST", "XR_HAND", "XR_HAND"]
    assert cases.splits == ["valid", "valid", "train"]


def test_images_are_read_as_xenon_predict_writes_them(written):
    cases = evaluation.read_predictions(written[1])
    assert cases.level == "image"
    np.testing.assert_array_equal(cases.labels, [1, 1, 0, 0])
    np.testing.assert_allclose(cases.prob, [0.8, 0.5, 0.3, 0.15])
    assert cases.patients == ["patient11185"] * 3 + ["patient00007"]
    assert cases.splits == ["valid"] * 3 + ["train"]


def test_a_patients_studies_are_drawn_together_whatever_their_study_type(written):
    cases = evaluation.read_predictions(written[0])
    drawn = bootstrap.bootstrap_metrics(
        cases.labels, cases.prob, cases.patients, 0.5, 200, 0
    )
    # One of the two has the only abnormal study: a quarter of the draws is without him.
    assert set(drawn["sensitivity"][~np.isnan(drawn["sensitivity"])]) == {1.0}
    assert np.isnan(drawn["sensitivity"]).mean() == pytest.approx(0.25, abs=0.1)


HEADER = "study,study_type,images,probability,prediction,label\n"
STUDY = "valid/XR_HAND/patient1/study1_negative/"
GOOD = f"{STUDY},XR_HAND,1,0.25,0,0\n"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "is no table of xenon-predict's"),
        ("a,b\n1,2\n", "is no table of xenon-predict's"),
        (f"{STUDY},0\n", "is no table of xenon-predict's"),  # a submission
        (HEADER.replace("images", "views"), "is no table of xenon-predict's"),
        (HEADER, "holds no predictions"),
        (HEADER + f"{STUDY},XR_HAND,1,0.25,0,\n", "1 of 1 rows have no label"),
        (HEADER + GOOD + "a/b.png,,1,0.25,0,\n", "1 of 2 rows have no label"),
        (HEADER + GOOD + GOOD, "holds 1 study twice, such as valid/XR_HAND"),
        (HEADER + GOOD + "x,y\n", "line 3: not as many columns"),
        (HEADER + GOOD.replace("\n", ",9\n"), "line 2: not as many columns"),
        (HEADER + GOOD.replace(",0\n", ",2\n"), "line 2: label '2' is neither"),
        (HEADER + GOOD.replace("0.25", "1.5"), "probability '1.5' is no number"),
        (HEADER + GOOD.replace("0.25", "nan"), "probability 'nan' is no number"),
        (HEADER + GOOD.replace("0.25", "high"), "probability 'high' is no number"),
        (HEADER + "a/b/,XR_HAND,1,0.25,0,0\n", "line 2: no patient can be read"),
        (HEADER + '"' + GOOD, "damaged"),
        (HEADER.encode() + b"\xff\xfe\n", "no CSV in UTF-8"),
    ],
)
def test_what_is_no_table_of_labelled_predictions_is_refused(tmp_path, text, reason):
    csv = tmp_path / "x.csv"
    csv.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(XenonError, match=reason) as caught:
        evaluation.read_predictions(csv)
    assert str(caught.value).startswith(str(csv))
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_or_is_a_folder_is_refused(tmp_path):
    for path in (tmp_path / "none.csv", tmp_path):
        with pytest.raises(XenonError, match=str(path)):
            evaluation.read_predictions(path)


@pytest.mark.parametrize(
    ("labels", "prob", "patients"),
    [
        ([0, 1], [0.5], "ab"),
        ([0, 2], [0.5, 0.5], "ab"),
        ([0, 1], [0.5, math.nan], "ab"),
    ],
)
def test_cases_that_would_give_wrong_figures_cannot_be_made(labels, prob, patients):
    with pytest.raises(ValueError, match="lengths|labels|probabilities"):
        cases_of(labels, prob, patients)


def test_the_example_of_the_readme_prints_every_figure(written, monkeypatch, capsys):
    readme = paths.ROOT / "README.md"
    _, _, section = readme.read_text(encoding="utf-8").partition("### How sure the")
    lines = section.partition("\nprints")[0].splitlines()[1:]
    written[0].rename(written[0].with_name("valid.csv"))
    monkeypatch.chdir(written[0].parent)
    exec("\n".join(line[4:] for line in lines), {})  # noqa: S102 - the README's words
    printed = capsys.readouterr().out.splitlines()
    kinds = ("XR_HAND", "XR_WRIST", "overall")
    expected = [f"study {kind} {name}" for kind in kinds for name in metrics.METRICS]
    assert all(map(str.startswith, printed, expected))
    first, second = printed[len(expected) :]
    assert first.startswith("1 of the 3 studies lie in train/")
    assert "also chose the checkpoints" in second


def test_a_table_with_excels_byte_order_mark_is_read(written):
    plain = evaluation.read_predictions(written[0])
    written[0].write_bytes(b"\xef\xbb\xbf" + written[0].read_bytes())
    found = evaluation.read_predictions(written[0])
    np.testing.assert_array_equal(found.prob, plain.prob)


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [("study_type", "XR_ELBOW", "not of study type 'XR_ELBOW'"), ("label", "0", "its")],
)
def test_a_row_that_contradicts_its_path_is_refused(written, column, value, said):
    header, first, *rest = written[0].read_text().splitlines()
    cells = first.split(",")
    cells[header.split(",").index(column)] = value
    written[0].write_text("\n".join([header, ",".join(cells), *rest]))
    with pytest.raises(XenonError, match=f"line 2: .*{said}"):
        evaluation.read_predictions(written[0])
