"""Which images a figure is about: noted while its function asks for results."""

from __future__ import annotations

from contextvars import ContextVar

NOTED: ContextVar[set | None] = ContextVar("noted", default=None)  # by the figure function at work


def note(images: set) -> None:
    """Images that results are about: a figure function that asks for results draws them."""
    noted = NOTED.get()
    if noted is not None:
        noted |= images
