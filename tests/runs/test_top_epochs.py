"""The ranking of epochs against sequences written by hand."""

from __future__ import annotations

import math

import pytest

from xenon_mx.runs.top_epochs import RankedEpoch, TopEpochs

NAN = math.nan


def ranked(losses, keep=3):
    """Return the epochs kept, the best first, and those dropped after each loss."""
    top = TopEpochs(keep)
    dropped = [top.step(epoch, loss) for epoch, loss in enumerate(losses)]
    return [kept.epoch for kept in top.ranked], dropped


def test_all_are_kept_while_there_are_fewer():
    assert ranked([0.3, 0.1]) == ([1, 0], [[], []])


def test_the_worst_is_dropped():
    assert ranked([0.3, 0.1, 0.2, 0.25]) == ([1, 2, 3], [[], [], [], [0]])


def test_an_epoch_worse_than_all_is_dropped_at_once():
    assert ranked([0.3, 0.1, 0.2, 0.9]) == ([1, 2, 0], [[], [], [], [3]])


def test_the_earlier_of_a_tie_is_kept():
    assert ranked([0.2, 0.2, 0.2, 0.2])[0] == [0, 1, 2]
    assert ranked([0.5, 0.2, 0.2, 0.5])[0] == [1, 2, 0]


@pytest.mark.parametrize("loss", [NAN, math.inf])
def test_a_loss_that_is_not_finite_is_never_kept(loss):
    assert ranked([loss, 0.1, loss, 0.2, loss]) == ([1, 3], [[0], [], [2], [], [4]])


def test_the_state_keeps_the_keys_of_state_json():
    """Runs of xenon 0.1.0 resume from these."""
    top = TopEpochs(2)
    for epoch, loss in enumerate([0.3, 0.1, 0.2]):
        top.step(epoch, loss)
    state = {"ranked": [[0.1, 1], [0.2, 2]]}
    assert top.state_dict() == state
    restored = TopEpochs(2)
    restored.load_state_dict(state)
    assert restored.ranked == [RankedEpoch(0.1, 1), RankedEpoch(0.2, 2)]
