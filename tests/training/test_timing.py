"""The estimate of a run's duration, with a clock that the tests set."""

from __future__ import annotations

import logging
import time

import pytest

from xenon_mx.training import timing


@pytest.fixture
def clock(monkeypatch, caplog):
    """Return a function that moves the clock."""
    caplog.set_level(logging.INFO)
    now = [1000.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])

    def advance(seconds):
        now[0] += seconds

    return advance


def steps(timer, clock, durations):
    for seconds in durations:
        clock(seconds)
        timer.step(8)


def test_the_first_steps_do_not_count(clock, caplog):
    """Then 20 steps of 1 s: 1600 images and 1200 / 3 take 250 s."""
    timer = timing.RunTimer(epochs=6, valid_images=1200)
    timer.start_epoch(1, images=1600)
    steps(timer, clock, [60, 60, 60, *[1] * 19])
    assert caplog.messages == []
    steps(timer, clock, [1] * 5)
    assert caplog.messages == [
        "an epoch takes about 4.2 min, and the 6 that remain 25 min at most"
    ]


def test_slow_steps_are_enough_after_half_a_minute(clock, caplog):
    """40 s for 8 images: 8000 images take 11.1 h, and 8 epochs 3.7 days."""
    timer = timing.RunTimer(epochs=10, valid_images=0)
    timer.start_epoch(3, images=8000)
    steps(timer, clock, [40] * 4)
    assert caplog.messages == [
        "an epoch takes about 11 h, and the 8 that remain 3.7 days at most"
    ]


def test_short_epochs_are_measured_together_and_without_what_is_between(clock, caplog):
    timer = timing.RunTimer(epochs=100, valid_images=0)
    for epoch in (1, 2, 3):
        clock(500)
        timer.start_epoch(epoch, images=80)
        steps(timer, clock, [1] * 10)
    assert caplog.messages == [
        "an epoch takes about 10 s, and the 98 that remain 16 min at most"
    ]


def test_a_short_run_needs_no_estimate(clock, caplog):
    timer = timing.RunTimer(epochs=2, valid_images=0)
    timer.start_epoch(1, images=800)
    steps(timer, clock, [0.1] * 100)
    assert caplog.messages == []
