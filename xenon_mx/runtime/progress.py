"""What a long job shows while it works. Owns the bars, knows no job.

A verb takes a `bar`, a factory with tqdm's own signature, and never asks where it is
drawn: a terminal gets a bar, a log file gets a line now and then, a library nothing.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Callable, Iterable, Iterator, Sized, TextIO, TypeVar

from tqdm import tqdm

Bar = Callable[..., Any]
Batch = TypeVar("Batch", bound=Sized)

LINE_INTERVAL_S = 10.0  # chosen here: six lines a minute keep a night's log readable
# tqdm's own, but for a rate that never turns into seconds an image.
_COUNTS = "{n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_noinv_fmt}{postfix}]"


class _Lines(tqdm):
    """A bar for a stream that is not a terminal: whole lines, far apart."""

    def display(self, msg: str | None = None, pos: int | None = None) -> None:
        # tqdm clears a bar by displaying an empty one, and begins with one at 0: a
        # line once written stays.
        if msg != "" and self.n:
            self.fp.write(f"{msg or self}\n")
            self.fp.flush()


def silent(*args: Any, **kwargs: Any) -> Any:
    """A bar that shows nothing: the default of every verb as a library call."""
    return tqdm(*args, **{**kwargs, "disable": True})


def for_stream(stream: TextIO) -> Bar:
    """The bar that suits `stream`: redrawn in place on a terminal, else lines."""
    if stream.isatty():
        bar = "{l_bar}{bar}| " + _COUNTS
        options = {"dynamic_ncols": True, "leave": False, "bar_format": bar}
        return partial(tqdm, file=stream, **options)
    return partial(
        _Lines,
        file=stream,
        mininterval=LINE_INTERVAL_S,
        maxinterval=LINE_INTERVAL_S,
        bar_format="{desc}: {percentage:3.0f}% " + _COUNTS,
        leave=False,
    )


def track(batches: Iterable[Batch], shown: Any) -> Iterator[Batch]:
    """Pass batches on, and move a bar by the length of each once it is dealt with."""
    for batch in batches:
        yield batch
        shown.update(len(batch))
