"""Progress of a study: a bar in a terminal and in JupyterLab, a line every few seconds in a log.

Shown: runs done of all, the current run in words, its epoch, images/s, time left.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TextIO

from tqdm import tqdm

NO_TITLES: Mapping[str, str] = MappingProxyType({})
PREFIX = "runs "  # every line of a log begins with it
Settled = Callable[[str], None]


class Progress:
    """Counts runs, the current one by its share of epochs.

    Args:
        total: runs to compute.
        titles: of runs by id, in words; a run without one is named by its id.
        settled: is told each run that is finished.
        stream: where a terminal bar or log lines go.
        every: seconds between two lines of a log.
    """

    def __init__(
        self,
        total: int,
        titles: Mapping[str, str] = NO_TITLES,
        settled: Settled = lambda run: None,
        stream: TextIO | None = None,
        every: float = 10.0,
    ):
        self._titles, self._settled, self._stream = titles, settled, stream or sys.stderr
        self._bar = _bar(total, self._stream)
        self._total, self._every, self._start = total, every, time.monotonic()
        self._done, self._share, self._images = 0, {}, 0
        self._given: dict[str, float] = {}  # share of a run that stood when it was taken up again: none of this time's work
        self._said = self._window = self._start
        self._rate = 0.0

    def tick(self, run: str, epoch: int, epochs: int, images: int) -> None:
        """`images` more images went through `run`, now in `epoch` (from 0) of `epochs`."""
        self._share[run] = epoch / epochs
        self._given.setdefault(run, epoch / epochs)
        self._images += images
        now = time.monotonic()
        if now - self._window >= 1.0:
            self._rate, self._images, self._window = self._images / (now - self._window), 0, now
            self._show(f"{self._titles.get(run, run)}, epoch {epoch + 1}/{epochs} | {self._rate:,.0f} images/s", now)

    def finished(self, run: str) -> None:
        self._done += 1
        self._share.pop(run, None)
        self._show(self._titles.get(run, run), time.monotonic(), last=self._done == self._total)
        self._settled(run)

    def more(self, runs: int) -> None:
        """So many are to be computed beside those that were."""
        self._total += runs
        if self._bar is not None:
            self._bar.total = self._total

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()

    def _show(self, what: str, now: float, last: bool = False) -> None:
        reached = self._done + sum(self._share.values())
        worked = reached - sum(self._given.values())
        left = _clock((now - self._start) * (self._total - reached) / worked if worked else float("nan"))
        if self._bar is not None:
            self._bar.n = round(reached, 2)
            self._bar.set_postfix_str(f"{left} left, {what}", refresh=True)
        elif last or now - self._said >= self._every:
            self._said = now
            print(f"{PREFIX}{self._done}/{self._total} | {what} | {left} left", file=self._stream, flush=True)


def seldom(say: Callable[[int, int, int], None], every: float = 0.5) -> Callable[[int, int, int], None]:
    """A `tick` that says `epoch, epochs, images` at most every so many seconds, images added up; the first at once, for it says where a
    resumed run stands.
    """
    said, gathered = float("-inf"), 0

    def tick(epoch: int, epochs: int, images: int) -> None:
        nonlocal said, gathered
        gathered += images
        if time.monotonic() - said >= every:
            say(epoch, epochs, gathered)
            said, gathered = time.monotonic(), 0

    return tick


def _bar(total: int, stream: TextIO) -> tqdm | None:
    """tqdm's widget bar in JupyterLab, its text bar in a terminal, None in a log."""
    style = {"total": total, "unit": "run", "bar_format": "{l_bar}{bar}| {n:g}/{total} runs [{elapsed}{postfix}]"}
    if "JPY_SESSION_NAME" in os.environ and "ipykernel" in sys.modules:  # set by Jupyter servers, not by papermill or nbval
        from tqdm.notebook import tqdm as notebook_bar

        return notebook_bar(**style)
    return tqdm(file=stream, **style) if stream.isatty() else None


def _clock(seconds: float) -> str:
    if seconds != seconds:
        return "--:--"
    hours, minutes = divmod(int(seconds) // 60, 60)
    return f"{hours}:{minutes:02d}:{int(seconds) % 60:02d}" if hours else f"{minutes:02d}:{int(seconds) % 60:02d}"
