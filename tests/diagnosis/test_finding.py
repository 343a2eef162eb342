"""The lines of the report."""

from __future__ import annotations

import pytest

from xenon_mx.diagnosis.finding import Finding, compared, fact


def test_a_line_ends_in_ok_or_in_what_is_wrong():
    assert fact("memory", "8 GB").line == "memory: 8 GB"
    assert Finding("disk", "fast").line == "disk: fast: ok"
    assert Finding("disk", "slow", "buy one").line == "disk: slow: WRONG: buy one"
    assert Finding("MXNet", "", "it is\nnot").line == r"MXNet: WRONG: it is\nnot"


@pytest.mark.parametrize(
    ("difference", "is_ok"),
    [(0.0, True), (0.1, True), (0.11, False), (float("inf"), False)],
)
def test_a_difference_above_its_limit_is_wrong(difference, is_ok):
    finding = compared("logits", difference, 0.1, "replace it")
    assert finding.wrong == ("" if is_ok else "replace it")
    assert "(limit 1.0e-01)" in finding.seen


def test_nan_is_wrong():
    assert compared("logits", float("nan"), 0.1, "replace it").wrong
