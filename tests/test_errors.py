"""The sentences of errors."""

from __future__ import annotations

import errno

from xenon_mx.errors import os_error


def test_an_os_error_names_the_path_and_the_reason():
    error = os_error("out.csv", OSError(errno.ENOSPC, "No space left on device"))
    assert str(error) == "out.csv: No space left on device"
    assert error.reason == "No space left on device"


def test_an_os_error_without_a_number_keeps_its_own_words():
    assert str(os_error("out", OSError("2 files left"))) == "out: 2 files left"
