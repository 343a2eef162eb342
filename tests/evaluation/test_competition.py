"""Scores of the competition, and published results, against hand calculations."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics
from support.evaluation_sets import by_name, from_outcomes, make_samples

from xenon_mx.errors import XenonError
from xenon_mx.evaluation import published
from xenon_mx.evaluation.competition import competition_scores
from xenon_mx.evaluation.estimates import evaluate

PARTS = [name for name in published.REPRODUCTIONS if name != "overall"]


def test_the_competitions_interval_is_the_one_that_the_paper_prints():
    # The paper's operating point on 207 studies: sensitivity 75/92 = .815, specificity
    # 102/115 = .887. The paper prints kappa .705 (.700, .710).
    samples = from_outcomes(tp=75, fn=17, fp=13, tn=102)
    scores = competition_scores(samples)
    overall = [scores[f"Overall_{key}"] for key in ("Mean", "Lower", "Upper")]
    printed = published.PAPER.kappa["model"]["overall"]
    assert [round(value, 3) for value in overall] == list(printed)
    # Our interval is about that of the standard error, with square root: (.608, .803).
    kappa = by_name(evaluate(samples))["kappa"]
    assert kappa.value == pytest.approx(overall[0])
    assert (kappa.low, kappa.high) == pytest.approx((0.608, 0.803), abs=0.015)


def test_the_competition_scores_each_part_and_pools_the_studies():
    study_types = ["XR_HAND"] * 50 + ["XR_WRIST"] * 4
    labels = [1] * 25 + [0] * 25 + [1, 1, 0, 0]
    prob = [0.9] * 20 + [0.1] * 5 + [0.9] * 10 + [0.1] * 15 + [0.9, 0.9, 0.1, 0.1]
    scores = competition_scores(make_samples(labels, prob, study_types=study_types))
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
        competition_scores(make_samples([0, 1], [0.1, 0.9], level="image"))


def test_the_papers_kappas_lie_inside_their_intervals_and_add_up():
    paper = published.PAPER
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
