"""Notice that this process is to end soon: SIGTERM or SIGUSR1, as a batch system sends before a time limit, or a driver's word.

It brings the deadline forward to now: a training under way writes its checkpoint and is interrupted, and nothing more begins. The same
command goes on from there.
"""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

from vitlib.computing import Context

WORD = '"end"\n'  # what a driver says to a worker
SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
_moment = math.inf
_expected = False
_under_way: list[Context] = []


def give() -> None:
    """From now on nothing begins; what is under way is interrupted as at a deadline."""
    global _moment
    _moment = min(_moment, time.monotonic())
    for context in _under_way:
        context.deadline = min(context.deadline, _moment)


def given() -> bool:
    return _moment < math.inf


def expected() -> bool:
    """Whether it may be given: who waits for something then looks up now and then."""
    return _expected


def moment() -> float:
    """When it was given, by `time.monotonic`; infinite before."""
    return _moment


@contextmanager
def heeded_by(context: Context) -> Iterator[None]:
    """A run computed in this context ends when notice is given."""
    _under_way.append(context)
    context.deadline = min(context.deadline, _moment)
    try:
        yield
    finally:
        _under_way.remove(context)


@contextmanager
def by_signals() -> Iterator[None]:
    """Within, the signals are notice: for a command, not for a notebook, whose kernel ends at SIGTERM."""
    global _moment, _expected
    _expected = True
    before = {number: signal.signal(number, lambda *_: give()) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _moment, _expected = math.inf, False


def by_word() -> None:
    """In a worker, its driver's word is notice, and the signals, which a batch system sends to every process of a job, are not."""
    global _expected
    _expected = True
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
