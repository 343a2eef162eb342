"""What a table says of a decision that was made on its own studies."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support import decisions

from xenon_mx.evaluation.applied_decision import AppliedDecision
from xenon_mx.evaluation.decision import DEFAULT, Threshold
from xenon_mx.evaluation.hashed_names import HashedNames

_BOTH = "calibration and threshold were decided"
_DECIDED = {"a": "one", "b": "one", "c": "two"}


def _applied(pairs, **more):
    decided = decisions.make(0.3, names=HashedNames.of(_DECIDED))
    decided = replace(decided, **more)
    return AppliedDecision.of(decided, False, pairs)


@pytest.mark.parametrize(
    ("pairs", "words"),
    [
        ([("a", "one")], f"1 study is, by its name, among those on which {_BOTH}"),
        (
            [("a", "one"), ("b", "one"), ("x", "other")],
            f"2 studies are, by name, among those on which {_BOTH}",
        ),
        ([("x", "two")], f"1 study is, by its name, of patients on whom {_BOTH}"),
        (
            [("x", "one"), ("y", "two")],
            f"2 studies are, by name, of patients on whom {_BOTH}",
        ),
        (
            [("a", "one"), ("b", "one"), ("x", "two")],
            f"2 studies are, by name, among those on which {_BOTH}, and 1 other study "
            f"is of their patients",
        ),
    ],
)
def test_studies_and_patients_that_decided_are_counted_apart(pairs, words):
    found = _applied(pairs)
    assert found.is_used_twice
    assert found.warning == f"{words}: metrics on them are too good"


def test_a_threshold_that_was_not_decided_is_not_said_to_be():
    found = _applied([("a", "one")], threshold=Threshold(0.5, DEFAULT))
    assert found.warning == (
        "1 study is, by its name, among those on which the calibration was decided: "
        "metrics of calibrated on them are too good"
    )


def test_other_studies_are_no_reason_to_warn():
    assert not _applied([("x", "other"), ("y", "")]).is_used_twice
