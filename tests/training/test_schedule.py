"""The plateau and the five best against sequences written by hand."""

from __future__ import annotations

import math

import pytest

from xenon_mx.training.schedule import ReduceLROnPlateau, TopEpochs

NAN = math.nan


def rates(losses, **options):
    """The learning rate that each epoch after a loss is trained with, until the end."""
    plateau = ReduceLROnPlateau(
        **{"lr": 1e-4, "patience": 1, "min_lr": 1e-6, **options}
    )
    seen = []
    for loss in losses:
        if not plateau.step(loss):
            return [*seen, "end"]
        seen.append(plateau.lr)
    return seen


def test_plateau_keeps_the_rate_while_the_loss_falls():
    assert rates([0.9, 0.8, 0.7]) == [1e-4, 1e-4, 1e-4]


def test_plateau_divides_by_ten_after_one_epoch_without_a_new_best():
    assert rates([0.5, 0.6, 0.55, 0.4]) == pytest.approx([1e-4, 1e-5, 1e-6, 1e-6])


def test_plateau_compares_with_the_best_and_not_with_the_last_loss():
    # .55 is below .6 but not below the best, .5
    assert rates([0.5, 0.6, 0.55])[-1] == pytest.approx(1e-6)


def test_plateau_takes_a_tie_for_no_new_best():
    assert rates([0.5, 0.5]) == pytest.approx([1e-4, 1e-5])


def test_plateau_waits_as_many_epochs_as_its_patience():
    losses = [0.5, 0.6, 0.6, 0.4, 0.5, 0.5]
    expected = [1e-4, 1e-4, 1e-5, 1e-5, 1e-5, 1e-6]
    assert rates(losses, patience=2) == pytest.approx(expected)


def test_plateau_wants_the_minimum_change():
    assert rates([0.5, 0.45], min_delta=0.1) == pytest.approx([1e-4, 1e-5])
    assert rates([0.5, 0.35], min_delta=0.1) == pytest.approx([1e-4, 1e-4])


def test_plateau_counts_nan_as_no_new_best():
    assert rates([0.5, NAN, 0.4]) == pytest.approx([1e-4, 1e-5, 1e-5])


def test_plateau_ends_where_the_rate_would_fall_below_the_minimum():
    assert rates([0.5, 0.6, 0.6, 0.6]) == [
        pytest.approx(1e-4),
        pytest.approx(1e-5),
        pytest.approx(1e-6),  # the minimum itself is still trained with
        "end",
    ]


def ranked(losses, keep=3):
    best = TopEpochs(keep)
    dropped = [best.step(epoch, loss) for epoch, loss in enumerate(losses)]
    return [each.epoch for each in best.ranked], dropped


def test_best_keeps_all_while_fewer_have_finished():
    assert ranked([0.3, 0.1]) == ([1, 0], [[], []])


def test_best_drops_the_worst():
    assert ranked([0.3, 0.1, 0.2, 0.25]) == ([1, 2, 3], [[], [], [], [0]])


def test_best_drops_the_newcomer_that_is_worse_than_all():
    assert ranked([0.3, 0.1, 0.2, 0.9]) == ([1, 2, 0], [[], [], [], [3]])


def test_best_keeps_the_earlier_of_a_tie():
    assert ranked([0.2, 0.2, 0.2, 0.2])[0] == [0, 1, 2]
    assert ranked([0.5, 0.2, 0.2, 0.5])[0] == [1, 2, 0]


@pytest.mark.parametrize("loss", [NAN, math.inf])
def test_best_never_keeps_what_is_not_finite(loss):
    assert ranked([loss, 0.1, loss, 0.2, loss]) == ([1, 3], [[0], [], [2], [], [4]])
