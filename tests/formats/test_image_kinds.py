"""Image files of every kind against Pillow, libpng and tifffile: there is no third way.

Every file is either refused by name or equal to what it shows and to the independent
reading, within one gray level.
"""

from __future__ import annotations

import random
import sys
from typing import Callable, Iterator

import numpy as np
import pytest
from support import image_kinds
from support.format_table import READ, Outcomes
from support.image_kinds import Sample

from xenon_mx.data import images
from xenon_mx.errors import FileError

pytestmark = pytest.mark.slow

NUMBERS: dict[Callable[..., Iterator[Sample]], int] = {
    image_kinds.pngs: 800,
    image_kinds.jpegs: 600,
    image_kinds.bmps: 300,
    image_kinds.tiffs: 1300,
    image_kinds.others: 110,
}


def outcome(sample: Sample) -> str:
    """Return `read`, the reason of a refusal, or what is wrong after a `!`."""
    try:
        decoded = images.decode(sample.data, "film")
    except FileError as error:
        return error.reason
    except Exception as error:
        return f"! {error!r}"
    if not np.array_equal(decoded, images.decode(sample.data)):
        return "! decoded twice, it differs"
    if sample.shown is not None and is_equal(decoded, sample.shown):
        return READ
    try:
        reading = image_kinds.independent(sample.data, sample.format)
    except Exception as error:
        return f"! read, but an independent reader says: {error!r}"
    if not is_equal(decoded, reading):
        return "! read as something else than by an independent reader"
    is_other = sample.shown is not None and sample.kind not in image_kinds.DAMAGES
    return "! read as something else than was written" if is_other else READ


def is_equal(decoded: np.ndarray, expected: np.ndarray) -> bool:
    if decoded.shape != expected.shape:
        return False
    return bool(np.abs(decoded - expected).max() <= 1)


def test_every_file_is_read_right_or_refused(
    capfd: pytest.CaptureFixture[str],
) -> None:
    outcomes = Outcomes(image_kinds.DAMAGES)
    for generate, number in NUMBERS.items():
        for sample in generate(random.Random(1712), number):
            outcomes.add(sample.format, sample.kind, outcome(sample))
    assert capfd.readouterr().err == ""  # no decoder writes on the terminal
    with capfd.disabled():
        sys.stdout.write(f"\n{outcomes.listing()}\n{outcomes.total} files\n")
    outcomes.check()


def test_the_writers_agree_with_the_independent_readers() -> None:
    """What the test takes for right is not only its own word."""
    confirmed = 0
    for generate in (image_kinds.pngs, image_kinds.bmps, image_kinds.tiffs):
        for sample in generate(random.Random(2017), 200):
            if sample.shown is None or sample.kind in image_kinds.DAMAGES:
                continue
            try:
                reading = image_kinds.independent(sample.data, sample.format)
            except Exception:  # a kind that Pillow or tifffile does not read
                continue
            assert np.abs(reading - sample.shown).max() < 1, sample.kind
            confirmed += 1
    assert confirmed > 350
