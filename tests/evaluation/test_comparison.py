"""Differences of two predictions: closed forms, SciPy, simulations of known truth."""

from __future__ import annotations

import math
import sys

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sklearn_metrics
from support import scipys_bootstrap, two_nets
from support.evaluation_sets import make_samples, noisy_samples
from support.scipys_bootstrap import auroc_by_ranks

from xenon_mx.evaluation.comparison import (
    COMPARED,
    Difference,
    compare,
    compare_by_study_type,
    holm,
    is_non_inferior,
    mcnemar,
    two_sided_p,
)
from xenon_mx.evaluation.delong import delong
from xenon_mx.evaluation.estimates import Estimate, evaluate
from xenon_mx.evaluation.pairing import Pair

HALF = (0.5, 0.5)


def with_prob(samples, prob):
    return make_samples(samples.labels, prob, samples.patients, samples.study_types)


def two_predictions(count, seed, patients=None, noise=0.2):
    """Build two noisy predictions of the same samples."""
    first = noisy_samples(count, seed, patients)
    random = np.random.RandomState(seed + 1000)
    prob = np.clip(first.prob + random.normal(0, noise, count), 0, 1)
    return first, with_prob(first, prob)


def by_name(differences):
    return {each.name: each for each in differences}


# --- values and intervals ------------------------------------------------------------


def test_a_difference_worked_by_hand():
    # A: 3 of 4 abnormal found, 4 of 4 normal. B: 2 of 4, and 3 of 4.
    labels = [1, 1, 1, 1, 0, 0, 0, 0]
    first = make_samples(labels, [0.9, 0.9, 0.9, 0.2, 0.2, 0.2, 0.2, 0.2])
    second = make_samples(labels, [0.9, 0.9, 0.1, 0.1, 0.1, 0.1, 0.1, 0.9])
    found = by_name(compare(first, second, HALF))
    assert list(found) == list(COMPARED)
    assert found["sensitivity"].value == pytest.approx(0.25)
    assert found["specificity"].value == pytest.approx(0.25)
    assert found["kappa"].value == pytest.approx(0.75 - 0.25)
    # of 16 pairs: A orders 12, ties 4; B orders 6, ties 2 * 3 + 2 * 1, and loses 2
    assert found["AUROC"].value == pytest.approx(14 / 16 - 10 / 16)
    brier = (3 * 0.01 + 0.64 + 4 * 0.04) / 8, (5 * 0.01 + 3 * 0.81) / 8
    assert found["Brier score"].value == pytest.approx(brier[0] - brier[1])


def test_estimates_of_either_are_those_of_evaluate():
    first, second = two_predictions(90, seed=1, patients=40)
    for each in compare(first, second, (0.5, 0.4)):
        for samples, threshold, mine in (
            (first, 0.5, each.first),
            (second, 0.4, each.second),
        ):
            other = {e.name: e for e in evaluate(samples, threshold)}[each.name]
            assert mine == other


def test_every_prediction_has_its_own_threshold():
    first, _ = two_predictions(60, seed=2)
    half = with_prob(first, first.prob / 2)
    found = by_name(compare(first, half, (0.5, 0.25)))
    assert found["kappa"].value == found["AUROC"].value == 0
    assert by_name(compare(first, half, HALF))["sensitivity"].value > 0.5


def test_draws_are_the_same_for_both():
    # of one patient more or less: the difference in each draw, drawn here by hand
    first, second = two_predictions(60, seed=3, patients=20)
    names = sorted(set(first.patients))
    chosen = np.random.RandomState(7).randint(0, len(names), (200, len(names)))
    rows_of = {
        name: [i for i, each in enumerate(first.patients) if each == name]
        for name in names
    }
    differences = []
    for numbers in chosen:
        rows = [row for number in numbers for row in rows_of[names[number]]]
        labels = first.labels[rows]
        areas = [
            sklearn_metrics.roc_auc_score(labels, samples.prob[rows])
            for samples in (first, second)
        ]
        differences.append(areas[0] - areas[1])
    found = by_name(compare(first, second, HALF, repeats=200, seed=7))["AUROC"]
    low, high = np.quantile(differences, (0.025, 0.975))
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-12)
    assert found.p == pytest.approx(two_sided_p(np.array(differences)))


def test_the_interval_of_independent_studies_is_scipys_paired_bootstrap():
    first, second = two_predictions(150, seed=4)
    names = [f"p{i}" for i in range(150)]
    first = make_samples(first.labels, first.prob, names)
    second = with_prob(first, second.prob)

    def difference(labels, one, other):
        return auroc_by_ranks(labels, one) - auroc_by_ranks(labels, other)

    columns = (first.labels, first.prob, second.prob)
    scipys = scipys_bootstrap.percentile_interval(columns, difference)
    ours = by_name(compare(first, second, HALF))["AUROC"]
    assert (ours.low, ours.high) == pytest.approx(scipys, abs=0.01)


def test_the_interval_of_independent_studies_is_about_delongs():
    random = np.random.RandomState(6)
    first, second = two_nets.simulate(random, 400, 1, (2.0, 1.7))
    ours = by_name(compare(first, second, HALF))["AUROC"]
    theirs = delong(first.labels, first.prob, second.prob)
    assert ours.value == pytest.approx(theirs.first - theirs.second)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.006)


def test_exchanging_the_predictions_exchanges_the_signs():
    first, second = two_predictions(80, seed=8, patients=30)
    for one, other in zip(compare(first, second, HALF), compare(second, first, HALF)):
        assert (other.value, other.p) == pytest.approx((-one.value, one.p))
        assert (other.low, other.high) == pytest.approx((-one.high, -one.low))


def test_samples_of_other_patients_or_labels_are_not_compared():
    first, second = two_predictions(20, seed=9)
    others = make_samples(first.labels, second.prob, second.patients[::-1])
    with pytest.raises(ValueError, match="same samples"):
        compare(first, others, HALF)
    with pytest.raises(ValueError, match="same samples"):
        compare(first, make_samples(1 - first.labels, first.prob, first.patients), HALF)


# --- what is undefined ---------------------------------------------------------------


@pytest.mark.parametrize("patients", [1, 4])
def test_fewer_than_five_patients_have_differences_but_no_intervals(patients):
    first, second = two_predictions(40, seed=10)
    names = [f"p{i % patients}" for i in range(40)]
    first = make_samples(first.labels, first.prob, names)
    for each in compare(first, with_prob(first, second.prob), HALF):
        assert math.isfinite(each.value)
        assert all(math.isnan(number) for number in (each.low, each.high, each.p))


@pytest.mark.parametrize("label", [0, 1])
def test_one_class_leaves_undefined_what_compares_the_classes(label):
    first, second = two_predictions(40, seed=11)
    first = make_samples([label] * 40, first.prob)
    found = by_name(compare(first, with_prob(first, second.prob), HALF))
    missing = {name for name, each in found.items() if math.isnan(each.value)}
    assert missing == {"kappa", "AUROC", ("sensitivity", "specificity")[1 - label - 1]}
    for name, each in found.items():
        assert math.isnan(each.p) == math.isnan(each.low) == (name in missing)


def test_equal_predictions_differ_by_0_without_an_interval():
    first, _ = two_predictions(40, seed=12)
    for each in compare(first, first, HALF):
        assert each.value == 0
        assert math.isnan(each.low)
        assert math.isnan(each.p)


# --- p-values ------------------------------------------------------------------------


def test_p_counts_the_draws_on_the_rarer_side():
    draws = np.array([-1.0] * 3 + [1.0] * 96)
    assert two_sided_p(draws) == pytest.approx(2 * 4 / 100)
    assert two_sided_p(-draws) == pytest.approx(2 * 4 / 100)
    assert two_sided_p(np.append(draws, [np.nan] * 20)) == pytest.approx(2 * 4 / 100)
    assert two_sided_p(np.ones(999)) == pytest.approx(2 / 1000)  # and never 0
    # a draw of 0, or of 0 but for rounding, counts on both sides
    assert two_sided_p(np.array([0.0, 1e-15] + [1] * 5)) == pytest.approx(2 * 3 / 8)
    assert two_sided_p(np.zeros(99)) == 1


def test_holms_correction_of_a_worked_example():
    # Holm's own steps for 3 p-values: .01 * 3, .02 * 2, .04 * 1, never falling
    assert holm([0.04, 0.01, 0.02]) == pytest.approx([0.04, 0.03, 0.04])
    # as R: p.adjust(c(0.01, 0.02, 0.03, 0.04), "holm")
    assert holm([0.01, 0.02, 0.03, 0.04]) == pytest.approx([0.04, 0.06, 0.06, 0.06])
    assert holm([0.6, 0.7]) == [1, 1]
    assert holm([]) == []
    corrected = holm([math.nan, 0.01, 0.04])
    assert math.isnan(corrected[0])
    assert corrected[1:] == pytest.approx([0.02, 0.04])


def test_mcnemars_test_is_scipys_binomial_test():
    labels = np.array([1] * 20 + [0] * 20)
    first, second = labels.copy(), labels.copy()
    first[:3] = 0  # three errors of the first alone
    second[10:22] = 1 - second[10:22]  # twelve of the second alone
    first[38:] = second[38:] = 1  # and two of both
    found = mcnemar(labels, first, second)
    assert (found.first_only, found.second_only) == (12, 3)
    assert found.p == pytest.approx(2 * stats.binom.cdf(3, 15, 0.5))
    assert found.p == pytest.approx(2 * (1 + 15 + 105 + 455) / 2**15)
    assert mcnemar(labels, second, first)[:2] == (3, 12)
    assert mcnemar(labels, first == 1, second == 1) == found
    assert mcnemar(labels, 1 - labels, labels) == (0, 40, 2 * 0.5**40)
    assert math.isnan(mcnemar(labels, first, first).p)
    balanced = mcnemar(np.array([1, 0]), np.array([1, 1]), np.array([0, 0]))
    assert balanced == (1, 1, 1.0)


# --- non-inferiority -----------------------------------------------------------------


def difference(name, low, high):
    nothing = Estimate(name, 0, 0, 0)
    return Difference(name, nothing, nothing, (low + high) / 2, low, high, 0.5)


@pytest.mark.parametrize(
    ("name", "low", "high", "expected"),
    [
        ("AUROC", -0.04, 0.01, True),
        ("AUROC", -0.06, 0.01, False),
        ("AUROC", -0.05, 0.01, False),  # not above
        ("kappa", 0.06, 0.2, True),
        ("Brier score", -0.2, 0.04, True),  # lower is better
        ("Brier score", -0.01, 0.06, False),
        ("kappa", math.nan, math.nan, None),
    ],
)
def test_non_inferior_if_the_bad_end_of_the_interval_is_within_the_margin(
    name, low, high, expected
):
    assert is_non_inferior(difference(name, low, high), 0.05) is expected


# --- study types ---------------------------------------------------------------------


def typed_pair(seed=13):
    """Build a pair of three study types, in one of which the predictions differ."""
    random = np.random.RandomState(seed)
    sets = []
    for separations in ((3.0, 0.5), (2.0, 2.0), (2.0, 1.6)):
        sets.append(two_nets.simulate(random, 60, 2, separations))
    types = [name for name in ("XR_WRIST", "XR_HAND", "XR_ELBOW") for _ in range(120)]
    labels = np.concatenate([pair[0].labels for pair in sets])
    patients = [f"{i}{p}" for i, pair in enumerate(sets) for p in pair[0].patients]
    first, second = (
        make_samples(
            labels, np.concatenate([pair[k].prob for pair in sets]), patients, types
        )
        for k in (0, 1)
    )
    return Pair([f"s{i}" for i in range(360)], first, second, HALF)


def test_study_types_are_compared_alone_and_corrected_together():
    pair = typed_pair()
    found = compare_by_study_type(pair)
    assert list(found) == ["XR_ELBOW", "XR_HAND", "XR_WRIST", "overall"]
    for name, differences in found.items():
        alone = compare(pair.first.select(name), pair.second.select(name), HALF)
        assert [each[:7] for each in alone] == [each[:7] for each in differences]
    for column, metric in enumerate(COMPARED):
        of_types = [found[name][column] for name in list(found)[:3]]
        assert [each.name for each in of_types] == [metric] * 3
        assert [each.holm for each in of_types] == holm([each.p for each in of_types])
        assert math.isnan(found["overall"][column].holm)
    kappa = found["XR_WRIST"][0]
    assert kappa.holm == pytest.approx(3 * kappa.p)  # the smallest of three


def test_one_study_type_needs_no_correction():
    first, second = two_predictions(60, seed=14, patients=30)
    found = compare_by_study_type(Pair(["s"] * 60, first, second, HALF))
    assert list(found) == ["XR_HAND", "overall"]
    assert all(math.isnan(each.holm) for each in found["XR_HAND"])


# --- simulations with clustered patients and a known truth ---------------------------


def simulated(repetitions, separations, seed, repeats=400):
    """Return how often intervals hold the true difference, and how often p < .05.

    Returns:
        By metric: the share of intervals that hold the truth, the share of p < .05 of
        the paired bootstrap; and that of DeLong's test.
    """
    random = np.random.RandomState(seed)
    truth = [two_nets.true_values(separation) for separation in separations]
    held = dict.fromkeys(COMPARED, 0)
    found = dict.fromkeys(COMPARED, 0)
    delongs = 0
    for trial in range(repetitions):
        first, second = two_nets.simulate(random, 80, 4, separations)
        for each in compare(first, second, HALF, repeats=repeats, seed=trial):
            expected = truth[0][each.name] - truth[1][each.name]
            held[each.name] += each.low <= expected <= each.high
            found[each.name] += each.p < 0.05
        delongs += delong(first.labels, first.prob, second.prob).p < 0.05
    shares = [
        {name: count / repetitions for name, count in counts.items()}
        for counts in (held, found)
    ]
    return shares[0], shares[1], delongs / repetitions


def test_the_truth_of_the_simulation_is_what_many_patients_show():
    (samples, _) = two_nets.simulate(np.random.RandomState(15), 50000, 4, (2.0, 1.0))
    expected = two_nets.true_values(2.0)
    for estimate in evaluate(samples, repeats=0):
        if estimate.name in expected:
            assert estimate.value == pytest.approx(expected[estimate.name], abs=0.005)


def test_intervals_hold_the_true_difference_of_clustered_patients():
    held, found, _ = simulated(60, (2.0, 1.4), seed=16, repeats=200)
    for name in COMPARED:
        # 60 trials of .95: four standard deviations, of .0281 each, below
        assert 0.83 <= held[name], name
    assert found["AUROC"] > 0.5  # and the difference is found


@pytest.mark.slow
@pytest.mark.parametrize("separations", [(2.0, 2.0), (2.0, 1.4)])
def test_intervals_hold_the_truth_in_95_of_100_of_2000_simulations(separations):
    held, found, delongs = simulated(2000, separations, seed=17, repeats=1000)
    lines = [f"separations {separations}"]
    for name in COMPARED:
        lines.append(f"{name:12} held {held[name]:.4f}  p < .05 {found[name]:.4f}")
    lines.append(f"DeLong, as of independent studies: p < .05 {delongs:.4f}")
    sys.stdout.write("\n".join(["", *lines, ""]))  # pytest -s shows it
    for name in COMPARED:
        # A percentile interval of 80 patients holds a little less than 95% (Efron and
        # Tibshirani 1993, section 14.1): two points are allowed for, and below them
        # three standard deviations of 2,000 trials.
        assert 0.93 - 3 * 0.0049 <= held[name] <= 0.965, name
        if separations[0] == separations[1]:
            assert found[name] <= 0.07 + 3 * 0.0049, name


@pytest.mark.slow
def test_delongs_test_claims_too_much_of_clustered_patients():
    # A patient's studies repeat the first: as if there were four times as many.
    random = np.random.RandomState(18)
    claimed = dict.fromkeys(("DeLong", "McNemar", "bootstrap"), 0)
    for trial in range(80):
        once = two_nets.simulate(random, 60, 1, (1.5, 1.5))
        first, second = (
            make_samples(
                np.repeat(each.labels, 4),
                np.repeat(each.prob, 4),
                np.repeat(each.patients, 4).tolist(),
            )
            for each in once
        )
        calls = [each.prob > 0.5 for each in (first, second)]
        p = {
            "DeLong": delong(first.labels, first.prob, second.prob).p,
            "McNemar": mcnemar(first.labels, *calls).p,
            "bootstrap": compare(
                first, second, HALF, names=("AUROC",), repeats=200, seed=trial
            )[0].p,
        }
        for name, value in p.items():
            claimed[name] += value < 0.05
    # |z| > 1.96 / sqrt 4 in 33% of the cases
    assert claimed["DeLong"] / 80 > 0.18
    assert claimed["McNemar"] / 80 > 0.15
    assert claimed["bootstrap"] / 80 < 0.13
