"""Progress bars: redrawn on a terminal, occasional lines in a log file, or none.

Owns the bars; must not know the work. A command's function has a parameter `bar`, a
factory with tqdm's signature, and need not know where the bar is displayed.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Callable, Iterable, Iterator, Sized, TextIO, TypeVar

from tqdm import tqdm

Bar = Callable[..., Any]
Batch = TypeVar("Batch", bound=Sized)

LINE_INTERVAL_S = 10.0  # chosen here: six lines per minute keep a log readable
# tqdm's default, except that the rate is never inverted to seconds per image.
_COUNTS = "{n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_noinv_fmt}{postfix}]"


class _Lines(tqdm):
    """A progress display of whole lines, for a stream that is not a terminal."""

    def display(self, msg: str | None = None, pos: int | None = None) -> None:
        # tqdm displays an empty message to clear a bar, and first a bar at 0; a written
        # line cannot be cleared, so neither is written.
        if msg != "" and self.n:
            self.fp.write(f"{msg or self}\n")
            self.fp.flush()

    def clear(self, nolock: bool = False) -> None:
        """Leave written lines as they are; tqdm would return to their first column."""


def silent(*args: Any, **kwargs: Any) -> Any:
    """Return a disabled bar, the default when a command is called as a library."""
    return tqdm(*args, **{**kwargs, "disable": True})


def for_stream(stream: TextIO) -> Bar:
    """Return a factory of bars for `stream`: redrawn on a terminal, else lines."""
    if stream.isatty():
        layout = "{l_bar}{bar}| " + _COUNTS
        options = {"dynamic_ncols": True, "leave": False, "bar_format": layout}
        return partial(tqdm, file=stream, **options)
    return partial(
        _Lines,
        file=stream,
        mininterval=LINE_INTERVAL_S,
        maxinterval=LINE_INTERVAL_S,
        bar_format="{desc}: {percentage:3.0f}% " + _COUNTS,
        leave=False,
    )


def track(batches: Iterable[Batch], progress_bar: Any) -> Iterator[Batch]:
    """Yield batches, and advance a bar by the length of each after its use."""
    for batch in batches:
        yield batch
        progress_bar.update(len(batch))


def fill(progress_bar: Any) -> None:
    """Advance a bar to its end."""
    progress_bar.update(progress_bar.total - progress_bar.n)
