"""What is printed of an epoch."""

from __future__ import annotations

import math

from xenon_mx.runs.epoch_log import EpochRecord
from xenon_mx.training import epoch_lines

RECORD = EpochRecord(2, 0.41234, 0.5, 0.61, 0.9, 1e-4, 12.34, 0.2, 3725.4)


def test_a_finished_epoch_is_one_line():
    assert epoch_lines.finished(RECORD, 30, [5, 2]) == (
        "epoch 2/30  train 0.4123  valid 0.5000  kappa 0.610  AUROC 0.900  lr 1e-04  "
        "12.3 img/s  1:02:05  rank 2"
    )
    assert epoch_lines.finished(RECORD._replace(seconds=65.0), 30, [5]).endswith(
        " 1:05"
    )


def test_what_is_undefined_is_said_in_words():
    one_class = RECORD._replace(kappa=math.nan, auroc=math.nan)
    line = epoch_lines.finished(one_class, 30, [])
    assert "kappa undefined  AUROC undefined" in line


def test_an_epoch_that_waits_names_more_threads():
    assert epoch_lines.waiting(0.256, 2) == (
        "26% of the time was spent waiting for images: use more decoding threads, such "
        "as --threads 4"
    )
