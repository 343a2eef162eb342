"""decision.json: its content, and the rule by which it answers."""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import replace

import numpy as np
import pytest
from support import decisions

from xenon_mx.evaluation import decision_words, studies
from xenon_mx.evaluation.decision import Decision, Threshold
from xenon_mx.evaluation.hashed_names import HashedNames

PROB = np.linspace(0, 1, 101)


def _answers(threshold, low=None, high=None):
    return decisions.make(threshold, low, high).decide(PROB)


def test_without_a_third_answer_the_threshold_decides():
    answers = _answers(0.3)
    assert answers == ["normal"] * 31 + ["abnormal"] * 70


def test_between_the_limits_a_study_is_referred():
    answers = _answers(0.5, low=0.2, high=0.7)
    assert answers == ["normal"] * 20 + ["refer"] * 51 + ["abnormal"] * 30


def test_limits_that_crossed_refer_nothing():
    answers = _answers(0.5, low=0.7, high=0.2)
    assert answers == ["normal"] * 51 + ["abnormal"] * 50


@pytest.mark.parametrize(
    ("threshold", "low", "high", "expected"),
    [
        (0.1, 0.2, 0.7, (11, 60, 30)),  # .11 to .70 are referred
        (0.8, 0.2, 0.7, (20, 61, 20)),  # .20 to .80
        (0.1, 0.7, 0.2, (11, 10, 80)),  # .11 to .20, though the limits crossed
        (0.8, 0.7, 0.2, (70, 11, 20)),  # .70 to .80
    ],
)
def test_a_threshold_outside_of_the_limits_widens_what_is_referred(
    threshold, low, high, expected
):
    answers = _answers(threshold, low, high)
    assert tuple(map(answers.count, ("normal", "refer", "abnormal"))) == expected
    assert answers == sorted(answers, key=("normal", "refer", "abnormal").index)


@pytest.mark.parametrize(
    ("threshold", "low", "high"),
    [*itertools.product((0.0, 0.2, 0.5, 0.7, 0.9), (0.2, 0.5, 0.7), (0.2, 0.5, 0.7))],
)
def test_no_answer_contradicts_the_prediction_or_a_limit(threshold, low, high):
    decision = decisions.make(threshold, low, high)
    predicted = studies.predict(PROB, threshold)
    for prob, called, answer in zip(PROB, predicted, decision.decide(PROB)):
        assert (called, answer) not in ((1, "normal"), (0, "abnormal"))
        assert answer != "normal" or prob < low
        assert answer != "abnormal" or prob > high


def test_the_digits_of_the_table_decide():
    """A reader of the table has no others."""
    decision = decisions.make(0.3, low=0.3, high=0.3)
    assert decision.decide(np.array([0.3 + 1e-12, 0.3 - 1e-12])) == ["refer", "refer"]


def test_it_is_read_back_from_json_without_nan():
    decision = replace(
        decisions.make(0.3, low=0.2, high=0.7),
        names=HashedNames.of({"a": "b"}),
    )
    text = json.dumps(decision.to_json(), allow_nan=False)
    assert Decision.from_json(json.loads(text)) == decision
    plain = decisions.make(0.3)
    assert Decision.from_json(json.loads(json.dumps(plain.to_json()))) == plain


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"calibration": {"slope": 1}},
        {"threshold": {"value": math.nan}},
        {"threshold": {"value": "0.5"}},
        {"refer": {"alpha": True}},
        {"members": [1]},
        {"answers": {"normal": 1}},
    ],
)
def test_what_is_not_valid_is_not_read(change):
    content = decisions.make(0.3, low=0.2, high=0.7).to_json()
    for key, value in change.items():
        is_object = isinstance(value, dict)
        content[key] = {**content[key], **value} if is_object else value
    if "answers" in change:
        content["answers"] = change["answers"]
    if "slope" in str(change):
        del content["calibration"]["intercept"]
    with pytest.raises((KeyError, TypeError, ValueError)):
        Decision.from_json(content)


def test_it_is_about_its_members_in_whatever_order():
    decision = decisions.make(0.3, members=("b", "a"))
    assert decision.is_of(["a", "b"])
    assert not decision.is_of(["a"])
    assert not decision.is_of(["a", "b", "c"])


@pytest.mark.parametrize(
    ("threshold", "words"),
    [
        (Threshold(0.3, "sensitivity", 0.95, 0.951), "at least 0.9510, which holds"),
        (Threshold(0.3, "kappa", cross_fitted=0.5), "0.500 if chosen on other"),
        (Threshold(0.3, "kappa"), "undefined if chosen on other"),
        (Threshold(0.3, "refer"), "as few referred studies as possible"),
        (Threshold(0.5, "default"), "not decided"),
    ],
)
def test_its_words_tell_what_is_promised(threshold, words):
    decision = replace(decisions.make(0.3, low=0.2, high=0.7), threshold=threshold)
    lines = list(decision_words.lines(decision))
    assert any(words in line for line in lines)
    assert any("at most 10%" in line and "an abnormal" in line for line in lines)


def test_a_calibration_that_does_not_help_is_told():
    decision = decisions.make(0.3)
    assert not any("warning" in line for line in decision_words.lines(decision))
    worse = replace(decision, before=decision.after, after=decision.before)
    assert any("warning" in line for line in decision_words.lines(worse))
