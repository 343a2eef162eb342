"""Progress in a log file: whole lines, and nothing of a terminal."""

from __future__ import annotations

import io

from tqdm import tqdm

from xenon_mx.runtime import progress


def test_a_log_line_beside_a_bar_leaves_no_control_character():
    stream = io.StringIO()
    with progress.for_stream(stream)(total=4, desc="reading") as bar:
        bar.n = 2
        tqdm.write("a line", file=stream)
        bar.refresh()
    lines = stream.getvalue()
    assert "\r" not in lines
    assert lines.splitlines()[0] == "a line"
    assert lines.splitlines()[1].startswith("reading:  50% 2/4")


def test_a_bar_is_filled_where_less_was_done_than_announced():
    stream = io.StringIO()
    with progress.for_stream(stream)(total=7, desc="reading") as bar:
        bar.update(3)
        progress.fill(bar)
        assert bar.n == 7
    with progress.silent(total=7) as bar:
        progress.fill(bar)
