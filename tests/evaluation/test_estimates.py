"""Metrics and intervals against sums by hand, scikit-learn, SciPy and simulations."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sklearn_metrics
from sklearn.calibration import calibration_curve
from support import scipys_bootstrap
from support.evaluation_sets import by_name, from_outcomes, make_samples, noisy_samples
from support.scipys_bootstrap import auroc_by_ranks

from xenon_mx.evaluation import bootstrap, metrics
from xenon_mx.evaluation.estimates import evaluate, evaluate_by_study_type

# --- values --------------------------------------------------------------------------


def test_metrics_of_a_table_worked_by_hand():
    # 35 of 50 correct, 25 abnormal, 30 called abnormal: pa = .7, pe = .5
    estimates = by_name(evaluate(from_outcomes(tp=20, fn=5, fp=10, tn=15), repeats=0))
    expected = {
        "kappa": 0.4,
        "AUROC": 0.7,  # with two distinct probabilities: the mean of the next two
        "sensitivity": 0.8,
        "specificity": 0.6,
        "accuracy": 0.7,
        "F1": 40 / 55,
        "Brier score": (35 * 0.01 + 15 * 0.81) / 50,
        # two thirds of the samples at .9 are abnormal, a quarter of those at .1
        "calibration error": 0.6 * (0.9 - 2 / 3) + 0.4 * (0.25 - 0.1),
        "PPV": 20 / 30,
        "NPV": 15 / 20,
        # at .9 a recall of .8 with a precision of 2/3; at .1 the rest, with 25 of 50
        "average precision": 0.8 * 2 / 3 + 0.2 * 0.5,
    }
    assert list(estimates) == list(expected) == list(metrics.METRICS)
    for name, value in expected.items():
        assert estimates[name].value == pytest.approx(value), name
        assert math.isnan(estimates[name].low)  # without repeats


def test_a_probability_at_the_threshold_is_normal():
    estimates = by_name(evaluate(make_samples([1, 0], [0.5, 0.5]), repeats=0))
    assert (estimates["sensitivity"].value, estimates["specificity"].value) == (0, 1)
    estimates = by_name(evaluate(make_samples([1, 0], [0.5, 0.5]), 0.4, repeats=0))
    assert (estimates["sensitivity"].value, estimates["specificity"].value) == (1, 0)


@pytest.mark.parametrize("threshold", [0.5, 0.31])
def test_weighted_metrics_are_scikit_learns_of_the_samples_repeated(threshold):
    samples = noisy_samples(60, seed=1)
    weights = np.random.RandomState(2).randint(0, 4, (20, 60))
    estimates = bootstrap.weighted_metrics(
        samples.labels, samples.prob, weights.astype(np.float64), threshold
    )
    for i, counts in enumerate(weights):
        labels, prob = (
            np.repeat(samples.labels, counts),
            np.repeat(samples.prob, counts),
        )
        predictions = (prob > threshold).astype(int)
        oracle = {
            "kappa": sklearn_metrics.cohen_kappa_score(labels, predictions),
            "AUROC": sklearn_metrics.roc_auc_score(labels, prob),
            "sensitivity": sklearn_metrics.recall_score(labels, predictions),
            "specificity": sklearn_metrics.recall_score(1 - labels, 1 - predictions),
            "accuracy": sklearn_metrics.accuracy_score(labels, predictions),
            "F1": sklearn_metrics.f1_score(labels, predictions),
            "Brier score": sklearn_metrics.brier_score_loss(labels, prob),
            "PPV": sklearn_metrics.precision_score(labels, predictions),
            "NPV": sklearn_metrics.precision_score(1 - labels, 1 - predictions),
            "average precision": sklearn_metrics.average_precision_score(labels, prob),
        }
        assert set(metrics.METRICS) - set(oracle) == {"calibration error"}
        for name, value in oracle.items():
            assert estimates[name][i] == pytest.approx(value, abs=1e-12), name
        # not in scikit-learn: computed from the points of its calibration curve
        share, mean = calibration_curve(labels, prob, n_bins=10)
        size = np.bincount(np.digitize(prob, np.linspace(0, 1, 11)[1:-1], right=True))
        error = (size[size > 0] * np.abs(share - mean)).sum() / len(labels)
        assert estimates["calibration error"][i] == pytest.approx(error, abs=1e-12)
        whole = metrics.compute_all(labels, prob, threshold)
        for name, value in whole.items():
            assert estimates[name][i] == pytest.approx(value, abs=1e-12), name


# --- intervals -----------------------------------------------------------------------


def test_the_interval_of_an_accuracy_is_the_binomials():
    # With one study per patient, the number of correct draws is binomial.
    samples = from_outcomes(tp=70, fn=20, fp=30, tn=80)
    estimates = by_name(evaluate(samples, repeats=4000))["accuracy"]
    low, high = stats.binom.ppf((0.025, 0.975), 200, 0.75) / 200
    assert estimates.low == pytest.approx(low, abs=0.0051)  # within one study
    assert estimates.high == pytest.approx(high, abs=0.0051)


def test_the_interval_of_an_auroc_is_scipys_bootstrap():
    samples = noisy_samples(120, seed=4)
    assert auroc_by_ranks(samples.labels, samples.prob) == pytest.approx(
        sklearn_metrics.roc_auc_score(samples.labels, samples.prob)
    )
    ours = by_name(evaluate(make_samples(samples.labels, samples.prob)))["AUROC"]
    columns = (samples.labels, samples.prob)
    scipys = scipys_bootstrap.percentile_interval(columns, auroc_by_ranks)
    assert (ours.low, ours.high) == pytest.approx(scipys, abs=0.01)


def test_a_draw_has_all_samples_of_a_patient():
    samples = noisy_samples(40, seed=6, patients=9)
    draws = bootstrap.bootstrap_metrics(
        labels=samples.labels,
        prob=samples.prob,
        patients=samples.patients,
        threshold=0.5,
        repeats=50,
        seed=7,
    )
    names = sorted(set(samples.patients))
    chosen = np.random.RandomState(7).randint(0, len(names), (50, len(names)))
    for i, numbers in enumerate(chosen):
        rows = [
            row
            for number in numbers
            for row, patient in enumerate(samples.patients)
            if patient == names[number]
        ]
        expected = metrics.compute_all(samples.labels[rows], samples.prob[rows], 0.5)
        for name, value in expected.items():
            assert draws[name][i] == pytest.approx(value, abs=1e-12, nan_ok=True)


def test_studies_that_only_repeat_a_patients_first_do_not_narrow_the_interval():
    once = noisy_samples(80, seed=8)
    once = make_samples(once.labels, once.prob)
    four = make_samples(
        np.repeat(once.labels, 4),
        np.repeat(once.prob, 4),
        np.repeat(once.patients, 4).tolist(),
    )
    single, clustered = evaluate(once), evaluate(four)
    for one, other in zip(single, clustered):
        assert other[1:] == pytest.approx(one[1:], abs=1e-12), one.name
    apart = evaluate(make_samples(four.labels, four.prob))
    for one, other in zip(single, apart):
        # as if there were four times as many patients: half as wide
        ratio = (other.high - other.low) / (one.high - one.low)
        assert 0.4 < ratio < 0.6, one.name


def simulated(random, patients, studies, together):
    """Draw studies whose predictions are correct with a probability of .8.

    Args:
        random: The generator.
        patients: Number of patients.
        studies: Number of studies per patient.
        together: Whether either all or none of a patient's studies are correct.
    """
    count = patients * studies
    labels = random.randint(0, 2, count)
    draws = random.rand(patients).repeat(studies) if together else random.rand(count)
    prob = np.where((draws < 0.8) == (labels == 1), 0.8, 0.2)
    names = [f"p{i // studies:03d}" for i in range(count)]
    return labels, prob, names


# The simulation's expected metrics: half of all samples are abnormal, and .8 of either
# half are predicted correctly, so kappa is 2 x .8 - 1.
EXPECTED = {
    "kappa": 0.6,
    "AUROC": 0.8,
    "sensitivity": 0.8,
    "specificity": 0.8,
    "accuracy": 0.8,
    "F1": 0.8,
    "Brier score": 0.8 * 0.04 + 0.2 * 0.64,
}


def coverage(together, patients_of):
    """Return the share of intervals that contain the expected metric, by metric."""
    random = np.random.RandomState(9)
    trials = 300
    covered = dict.fromkeys(EXPECTED, 0)
    for trial in range(trials):
        labels, prob, names = simulated(random, 80, 4, together)
        draws = bootstrap.bootstrap_metrics(
            labels=labels,
            prob=prob,
            patients=patients_of(names),
            threshold=0.5,
            repeats=400,
            seed=trial,
        )
        for name, expected in EXPECTED.items():
            interval = bootstrap.percentile_interval(draws[name])
            covered[name] += interval.low <= expected <= interval.high
    return {name: count / trials for name, count in covered.items()}


@pytest.mark.parametrize("together", [False, True])
def test_95_of_100_intervals_cover_the_truth_whether_or_not_studies_agree(together):
    for name, share in coverage(together, patients_of=lambda names: names).items():
        # 300 trials of .95: four standard deviations, of .0126 each, below
        assert 0.90 <= share <= 0.985, name


def test_intervals_over_studies_would_cover_the_truth_too_seldom():
    apart = coverage(
        True, patients_of=lambda names: [str(i) for i in range(len(names))]
    )
    # of four equal studies: half the width, and P(|z| < .98) = .67
    assert 0.58 <= apart["accuracy"] <= 0.76
    # sensitivity: two and a half equal studies on average: P(|z| < 1.24) = .78
    assert 0.70 <= apart["sensitivity"] <= 0.86
    assert max(apart.values()) < 0.9, apart


def test_the_order_of_the_samples_changes_nothing():
    samples = noisy_samples(150, seed=10, patients=60)
    order = np.random.RandomState(11).permutation(150)
    other = make_samples(
        samples.labels[order],
        samples.prob[order],
        [samples.patients[i] for i in order],
    )
    for one, two in zip(evaluate(samples), evaluate(other)):
        assert one[1:] == pytest.approx(two[1:], abs=1e-12), one.name


def test_a_seed_repeats_and_another_one_differs():
    samples = noisy_samples(100, seed=12)
    assert evaluate(samples, seed=3) == evaluate(samples, seed=3)
    assert evaluate(samples, seed=3) != evaluate(samples, seed=4)


def test_draws_in_blocks_are_the_draws_at_once(monkeypatch):
    samples = noisy_samples(30, seed=13, patients=12)
    arguments = {
        "labels": samples.labels,
        "prob": samples.prob,
        "patients": samples.patients,
        "threshold": 0.5,
        "repeats": 100,
        "seed": 0,
    }
    whole = bootstrap.bootstrap_metrics(**arguments)
    monkeypatch.setattr(bootstrap, "_MAX_WEIGHTS", 30 * 7)  # the last block has two
    for name, values in bootstrap.bootstrap_metrics(**arguments).items():
        np.testing.assert_allclose(values, whole[name], rtol=0, atol=1e-12)


def calibrated(random, patients, studies, sharpness):
    """Draw studies of a net whose logits are `sharpness` times too large."""
    logits = random.normal(0, 2, patients).repeat(studies) + random.normal(
        0, 0.5, patients * studies
    )
    labels = (random.rand(len(logits)) < metrics.sigmoid(logits)).astype(int)
    names = [f"p{i // studies:03d}" for i in range(len(logits))]
    return make_samples(labels, metrics.sigmoid(sharpness * logits), names)


@pytest.mark.parametrize("sharpness", [1, 3])
@pytest.mark.parametrize("patients", [8, 25, 100])
def test_every_interval_holds_its_value(patients, sharpness):
    """Percentiles alone leave out up to 13% of the calibration errors."""
    random = np.random.RandomState(20)
    shown = 0
    for trial in range(40):
        samples = calibrated(random, patients, 2, sharpness)
        for each in evaluate(samples, repeats=200, seed=trial, prevalence=0.1):
            if math.isfinite(each.low):
                assert each.low <= each.value <= each.high, each
                shown += each.name == "calibration error"
    assert shown == 40


def test_the_interval_of_a_calibration_error_is_moved_by_the_bias_of_its_draws():
    draws = np.linspace(0.2, 0.4, 1001)
    interval = bootstrap.bias_corrected_interval(draws, 0.1)
    # The draws lie .2 above the value on average.
    assert interval[:2] == pytest.approx((0.205 - 0.2, 0.395 - 0.2))
    interval = bootstrap.bias_corrected_interval(draws, 0.05)
    assert interval[:2] == pytest.approx((0, 0.395 - 0.25))  # none is below 0
    nothing = bootstrap.bias_corrected_interval(np.full(100, np.nan), 0.1)
    assert np.isnan(nothing[:2]).all()


@pytest.mark.parametrize(("sharpness", "lowest"), [(1, 0.9), (3, 0.9)])
def test_intervals_of_calibration_errors_cover_what_is_expected(sharpness, lowest):
    """The expected value is the mean of the error over all simulations."""
    random = np.random.RandomState(21)
    found = []
    for trial in range(120):
        samples = calibrated(random, 150, 1, sharpness)
        found.append(by_name(evaluate(samples, repeats=200, seed=trial)))
    errors = [each["calibration error"] for each in found]
    expected = np.mean([each.value for each in errors])
    covered = np.mean([each.low <= expected <= each.high for each in errors])
    assert covered >= lowest


# --- predictive values ---------------------------------------------------------------


def test_predictive_values_at_the_prevalence_of_the_samples_are_those_of_the_samples():
    samples = from_outcomes(tp=20, fn=5, fp=10, tn=65)
    estimates = by_name(evaluate(samples, prevalence=0.25))
    for name in ("PPV", "NPV"):
        at = estimates[f"{name} at prevalence 0.25"]
        assert at.value == pytest.approx(estimates[name].value)


def test_predictive_values_at_another_prevalence_are_worked_by_hand():
    """Of 1,000 studies with 100 abnormal, 80 are found; of 900 normal, 360 are not."""
    samples = from_outcomes(tp=20, fn=5, fp=10, tn=15)
    estimates = by_name(evaluate(samples, prevalence=0.1))
    ppv, npv = (estimates[f"{name} at prevalence 0.1"] for name in ("PPV", "NPV"))
    assert ppv.value == pytest.approx(80 / (80 + 360))
    assert npv.value == pytest.approx(540 / (540 + 20))
    assert ppv.low < ppv.value < ppv.high < estimates["PPV"].value


def test_the_interval_of_a_predictive_value_is_of_the_same_draws():
    """With every normal study called normal, PPV is 1 at any prevalence."""
    estimates = by_name(evaluate(from_outcomes(20, 10, 0, 30), prevalence=0.3))
    ppv, npv = (estimates[f"{name} at prevalence 0.3"] for name in ("PPV", "NPV"))
    assert ppv.value == 1
    assert math.isnan(ppv.low)  # no draw has another value
    of_draws = estimates["sensitivity"]
    for end, sensitivity in ((npv.low, of_draws.low), (npv.high, of_draws.high)):
        # with a specificity of 1, NPV rises with the sensitivity
        expected = 0.7 / (0.7 + 0.3 * (1 - sensitivity))
        assert end == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("undefined", ["PPV", "NPV"])
def test_without_a_prediction_its_predictive_value_is_undefined(undefined):
    counts = {"PPV": (0, 10, 0, 10), "NPV": (10, 0, 10, 0)}[undefined]
    estimates = by_name(evaluate(from_outcomes(*counts), prevalence=0.2, repeats=0))
    for name in (undefined, f"{undefined} at prevalence 0.2"):
        assert math.isnan(estimates[name].value)


# --- what is undefined ---------------------------------------------------------------


@pytest.mark.parametrize("label", [0, 1])
def test_one_class_only_leaves_undefined_what_compares_the_classes(label):
    samples = make_samples([label] * 30, np.linspace(0.05, 0.95, 30))
    estimates = by_name(evaluate(samples))
    missing = {
        name for name, estimate in estimates.items() if math.isnan(estimate.value)
    }
    of_one_class = {"specificity"} if label else {"sensitivity", "F1"}
    of_both = {"kappa", "AUROC", "average precision", "PPV", "NPV"}
    assert missing == of_both | of_one_class
    for name, estimate in estimates.items():
        assert (
            math.isnan(estimate.low) == math.isnan(estimate.high) == (name in missing)
        )
    assert estimates["accuracy"].value == 0.5


@pytest.mark.parametrize("label", [0, 1])
def test_one_study_has_no_intervals(label):
    estimates = by_name(evaluate(make_samples([label], [0.75])))
    assert estimates["accuracy"].value == label
    assert estimates["Brier score"].value == pytest.approx((0.75 - label) ** 2)
    assert math.isnan(estimates["kappa"].value)
    assert math.isnan(estimates["AUROC"].value)
    assert all(math.isnan(estimate.low) for estimate in estimates.values())
    assert all(math.isnan(estimate.high) for estimate in estimates.values())


def test_one_patient_of_many_studies_has_metrics_but_no_intervals():
    samples = noisy_samples(50, seed=14)
    samples = make_samples(samples.labels, samples.prob, ["patient00001"] * 50)
    for estimate in evaluate(samples):
        assert not math.isnan(estimate.value)
        assert math.isnan(estimate.low)
        assert math.isnan(estimate.high)


def test_without_samples_everything_is_undefined():
    for estimate in evaluate(make_samples([], [])):
        assert np.isnan(estimate[1:]).all()


def test_without_a_mistake_there_is_no_interval_of_width_0():
    estimates = by_name(evaluate(from_outcomes(tp=20, fn=0, fp=0, tn=20)))
    for name in ("kappa", "AUROC", "sensitivity", "specificity", "accuracy", "F1"):
        assert estimates[name].value == 1
        assert math.isnan(estimates[name].low)


def test_without_abnormal_predictions_f1_and_kappa_are_zero():
    estimates = by_name(evaluate(from_outcomes(tp=0, fn=10, fp=0, tn=10), repeats=0))
    assert (
        estimates["F1"].value
        == estimates["kappa"].value
        == estimates["sensitivity"].value
        == 0
    )


def test_undefined_draws_are_left_out_up_to_5_percent():
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
    # missing in (1 - 1/50)^50 = 36% of the draws
    estimates = by_name(evaluate(make_samples([1] + [0] * 49, np.linspace(1, 0, 50))))
    assert estimates["AUROC"].value == 1
    assert math.isnan(estimates["AUROC"].low)
    assert not math.isnan(estimates["specificity"].low)


@pytest.mark.parametrize(("patients", "has_interval"), [(4, False), (5, True)])
def test_intervals_need_five_patients(patients, has_interval):
    rng = np.random.RandomState(0)
    labels = np.arange(8 * patients) % 2
    prob = np.clip(0.3 + 0.4 * labels + rng.normal(0, 0.3, len(labels)), 0, 1)
    names = [f"patient{i // 8}" for i in range(len(labels))]
    for estimate in evaluate(make_samples(labels, prob, names)):
        assert math.isfinite(estimate.value)
        assert math.isfinite(estimate.low) == has_interval


# --- study types ---------------------------------------------------------------------


def test_study_types_are_sorted_and_overall_is_last():
    hands, wrists = noisy_samples(40, seed=15), noisy_samples(50, seed=16)
    both = make_samples(
        np.concatenate([wrists.labels, hands.labels]),
        np.concatenate([wrists.prob, hands.prob]),
        wrists.patients + hands.patients,
        ["XR_WRIST"] * 50 + ["XR_HAND"] * 40,
    )
    estimates = evaluate_by_study_type(both, repeats=200, seed=1)
    assert list(estimates) == ["XR_HAND", "XR_WRIST", "overall"]
    assert estimates["XR_HAND"] == evaluate(hands, repeats=200, seed=1)
    assert estimates["overall"] == evaluate(both, repeats=200, seed=1)
