"""What a decision promises, against the truth of simulated patients.

`pytest -m slow -s tests/evaluation/test_promises.py` prints the tables of 2,000
repetitions; the ordinary tests are the same with fewer.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
from scipy import stats
from sklearn.base import BaseEstimator, ClassifierMixin
from support import clustered_patients as patients

from xenon_mx.errors import XenonError
from xenon_mx.evaluation import decided_threshold, referral

QUICK, THOROUGH = 200, 2000  # repetitions
SLOW = pytest.mark.slow
ERROR = 0.01  # of a test that all is as promised


class Scenario(NamedTuple):
    """How patients are drawn, and what is promised of them."""

    patients: int
    spread: float
    target: float
    informative: bool = False
    kind: str = "sensitivity"


# A spread of 10 makes the studies of a patient almost alike.
SCENARIOS = [
    Scenario(100, 0.0, 0.95),
    Scenario(100, 1.0, 0.95),
    Scenario(100, 3.0, 0.95),
    Scenario(100, 10.0, 0.95),
    Scenario(200, 1.0, 0.95),
    Scenario(200, 3.0, 0.95),
    Scenario(600, 1.0, 0.95),
    Scenario(600, 3.0, 0.95),
    Scenario(60, 1.0, 0.8),
    Scenario(200, 3.0, 0.8),
    Scenario(200, 1.0, 0.9, informative=True),
    Scenario(200, 3.0, 0.9, informative=True),
    Scenario(200, 1.0, 0.9, kind="specificity"),
    Scenario(200, 3.0, 0.9, informative=True, kind="specificity"),
]


def _truth(scenario: Scenario):
    """Return the function from a threshold to its true sensitivity or specificity."""
    is_abnormal = scenario.kind == "sensitivity"
    if is_abnormal and not scenario.informative:
        return lambda t: patients.true_sensitivity(t, scenario.spread)
    drawn = patients.draw(
        np.random.RandomState(1),
        patients.POPULATION,
        scenario.spread,
        scenario.informative,
        labels=int(is_abnormal),
    )
    prob = np.sort(patients.probability(drawn.logits))

    def share(threshold: float) -> float:
        above = patients.share_above(prob, threshold)
        return above if is_abnormal else 1 - above

    return share


def _count_kept(scenario: Scenario, repeats: int) -> tuple[int, int, float]:
    """Count thresholds found and promises kept; return their mean true value, too."""
    random, truth = np.random.RandomState(0), _truth(scenario)
    values = []
    for _ in range(repeats):
        drawn = patients.draw(
            random, scenario.patients, scenario.spread, scenario.informative
        )
        try:
            found = decided_threshold.promise(
                drawn.samples(), scenario.kind, scenario.target
            )
        except XenonError:  # refused, which breaks no promise
            continue
        values.append(truth(found.threshold))
    kept = sum(value >= scenario.target for value in values)
    return len(values), kept, float(np.mean(values)) if values else 1.0


@pytest.mark.parametrize(
    ("scenario", "repeats"),
    [
        *((scenario, QUICK) for scenario in (SCENARIOS[3], SCENARIOS[9])),
        *(pytest.param(each, THOROUGH, marks=SLOW) for each in SCENARIOS),
    ],
)
def test_the_true_value_is_at_or_above_the_target(scenario, repeats):
    found, kept, mean = _count_kept(scenario, repeats)
    print(  # noqa: T201
        f"\n{scenario.patients:5d} patients, spread {scenario.spread:4.1f}, "
        f"{'informative' if scenario.informative else 'independent'} sizes, "
        f"{scenario.kind} {scenario.target}: of {repeats} a threshold in {found}, "
        f"kept in {kept} ({kept / max(found, 1):.4f}), mean true value {mean:.4f}"
    )
    assert found > repeats / 10
    assert stats.binom.cdf(kept, found, 0.95) > ERROR


def test_the_simulation_would_notice_a_bound_that_ignores_patients(monkeypatch):
    """Studies taken for patients: the promise is broken far too often."""
    bounds = decided_threshold.clustered_bound.lower_bounds
    monkeypatch.setattr(
        decided_threshold.clustered_bound,
        "lower_bounds",
        lambda names: bounds([str(number) for number in range(len(names))]),
    )
    monkeypatch.setattr(patients, "SIZES", (1, 12))
    found, kept, _ = _count_kept(Scenario(200, 10.0, 0.8), QUICK)
    assert stats.binom.cdf(kept, found, 0.95) < ERROR


class Referred(NamedTuple):
    """How patients are drawn, and the share that may be missed."""

    patients: int
    spread: float
    alpha: float
    informative: bool = False


REFERRED = [
    Referred(40, 1.0, 0.1),
    Referred(100, 0.0, 0.05),
    Referred(100, 3.0, 0.05),
    Referred(100, 10.0, 0.1, informative=True),
    Referred(400, 1.0, 0.02),
    Referred(400, 3.0, 0.1, informative=True),
]


@pytest.mark.parametrize(
    ("scenario", "repeats"),
    [
        (REFERRED[2], QUICK),
        *(pytest.param(each, THOROUGH, marks=SLOW) for each in REFERRED),
    ],
)
@pytest.mark.parametrize("label", [1, 0])
def test_the_patients_of_whom_a_study_is_missed(scenario, repeats, label):
    """On average at most alpha; in 90% of repetitions, within the printed range."""
    crowd = patients.draw(
        np.random.RandomState(1),
        patients.POPULATION,
        scenario.spread,
        scenario.informative,
    ).worst(label)
    random = np.random.RandomState(0)
    rates, within = [], 0
    for _ in range(repeats):
        drawn = patients.draw(
            random, scenario.patients, scenario.spread, scenario.informative
        )
        found = referral.refer(drawn.samples(), scenario.alpha)
        limit = found.low if label else found.high
        share = patients.share_below if label else patients.share_above
        rates.append(share(crowd, limit.limit))
        low, high = limit.rate_range()
        within += low <= rates[-1] <= high
    mean, error = np.mean(rates), np.std(rates) / np.sqrt(repeats)
    print(  # noqa: T201
        f"\n{scenario.patients:5d} patients, spread {scenario.spread:4.1f}, "
        f"{'informative' if scenario.informative else 'independent'} sizes, alpha "
        f"{scenario.alpha}, {'abnormal' if label else 'normal'}: mean {mean:.4f} "
        f"(+-{error:.4f}), within the range in {within / repeats:.4f} of {repeats}"
    )
    assert mean <= scenario.alpha + stats.norm.ppf(1 - ERROR) * error
    assert stats.binomtest(within, repeats, 0.9).pvalue > ERROR


class _Given(ClassifierMixin, BaseEstimator):
    """A classifier whose only feature is the probability."""

    classes_ = np.array([0, 1])
    n_features_in_ = 1

    def fit(self, x, y):
        """Return the classifier, which there is nothing to fit in."""
        return self

    def predict(self, x):
        """Return 0 or 1."""
        return (x[:, 0] > 0.5).astype(int)

    def predict_proba(self, x):
        """Return the probabilities of 0 and 1."""
        return np.stack([1 - x[:, 0], x[:, 0]], axis=1)

    def __sklearn_is_fitted__(self):
        return True


@SLOW
@pytest.mark.filterwarnings("ignore::UserWarning:mapie")
@pytest.mark.parametrize("alpha", [0.02, 0.05, 0.1, 0.3])
@pytest.mark.parametrize("label", [1, 0])
def test_the_limits_are_mapies_where_every_patient_has_one_study(alpha, label):
    """MAPIE, one class at a time: which probabilities may be of the class."""
    mapie = pytest.importorskip(
        "mapie.classification", reason="compares with MAPIE: pip install mapie"
    )
    drawn = patients.draw(np.random.RandomState(1), 200, spread=0)
    samples = drawn._replace(patients=np.arange(len(drawn.labels))).samples()
    own = samples.labels == label
    conformal = mapie.SplitConformalClassifier(
        _Given(), confidence_level=1 - alpha, conformity_score="lac", prefit=True
    )
    conformal.conformalize(samples.prob[own][:, None], samples.labels[own])
    ordered = np.sort(samples.prob)
    # Between the studies, as MAPIE compares 1 - probability; our limits are halfway.
    grid = ordered[:-1] + np.diff(ordered) * (0.25 if label else 0.75)
    _, sets = conformal.predict_set(grid[:, None])
    theirs = sets[:, label, 0]
    found = referral.refer(samples, alpha)
    ours = grid >= found.low.limit if label else grid <= found.high.limit
    assert (ours == theirs).all()
