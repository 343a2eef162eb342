"""The learning rate schedule against sequences written by hand."""

from __future__ import annotations

import json
import math

import pytest

from xenon_mx.training.lr_schedule import ReduceLROnPlateau

NAN = math.nan


def learning_rates(losses, **options):
    """Return the learning rate after each loss; "end" where training ends."""
    schedule = ReduceLROnPlateau(
        **{"lr": 1e-4, "patience": 1, "min_lr": 1e-6, **options}
    )
    lrs = []
    for loss in losses:
        if not schedule.step(loss):
            return [*lrs, "end"]
        lrs.append(schedule.lr)
    return lrs


def test_plateau_resumes_after_losses_that_are_nan():
    schedule = ReduceLROnPlateau(lr=1e-4, patience=5)
    assert schedule.step(NAN)
    state = json.loads(json.dumps(schedule.state_dict(), allow_nan=False))
    for lowest in (state["best"], math.inf):  # which xenon 0.1.0 wrote as Infinity
        resumed = ReduceLROnPlateau(lr=1e-4, patience=5)
        resumed.load_state_dict({**state, "best": lowest})
        assert resumed.step(9.0)
        assert resumed.state_dict() == {"best": 9.0, "waited": 0, "divisions": 0}


def test_plateau_keeps_the_rate_while_the_loss_falls():
    assert learning_rates([0.9, 0.8, 0.7]) == [1e-4, 1e-4, 1e-4]


def test_plateau_divides_by_ten_after_one_epoch_without_a_new_best():
    assert learning_rates([0.5, 0.6, 0.55, 0.4]) == pytest.approx(
        [1e-4, 1e-5, 1e-6, 1e-6]
    )


def test_plateau_compares_with_the_best_and_not_with_the_last_loss():
    # .55 is below .6 but not below the best, .5
    assert learning_rates([0.5, 0.6, 0.55])[-1] == pytest.approx(1e-6)


def test_plateau_counts_a_tie_as_no_new_best():
    assert learning_rates([0.5, 0.5]) == pytest.approx([1e-4, 1e-5])


def test_plateau_waits_as_many_epochs_as_its_patience():
    losses = [0.5, 0.6, 0.6, 0.4, 0.5, 0.5]
    expected = [1e-4, 1e-4, 1e-5, 1e-5, 1e-5, 1e-6]
    assert learning_rates(losses, patience=2) == pytest.approx(expected)


def test_plateau_needs_a_fall_of_min_delta():
    assert learning_rates([0.5, 0.45], min_delta=0.1) == pytest.approx([1e-4, 1e-5])
    assert learning_rates([0.5, 0.35], min_delta=0.1) == pytest.approx([1e-4, 1e-4])


def test_plateau_counts_nan_as_no_new_best():
    assert learning_rates([0.5, NAN, 0.4]) == pytest.approx([1e-4, 1e-5, 1e-5])


def test_plateau_ends_where_the_rate_would_fall_below_the_minimum():
    assert learning_rates([0.5, 0.6, 0.6, 0.6]) == [
        pytest.approx(1e-4),
        pytest.approx(1e-5),
        pytest.approx(1e-6),  # the minimum itself is still trained with
        "end",
    ]


def test_the_state_keeps_the_keys_of_state_json():
    """Runs of xenon 0.1.0 resume from these."""
    schedule = ReduceLROnPlateau(1e-4, patience=2)
    for loss in (0.5, 0.6, 0.7, 0.8):
        schedule.step(loss)
    state = {"best": 0.5, "waited": 1, "divisions": 1}
    assert schedule.state_dict() == state
    restored = ReduceLROnPlateau(1e-4, patience=2)
    restored.load_state_dict(state)
    assert restored.lr == schedule.lr == pytest.approx(1e-5)
    assert restored.step(0.6)
    assert restored.lr == pytest.approx(1e-6)
