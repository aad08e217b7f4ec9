"""Data sets of a profile that stand for those of the document: settings with a field `stands_for`, the document's set by ours."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any


def require_stand_ins(stands_for: dict[str, str], **groups: Collection[str]) -> None:
    """Refuse a set without its counterpart, or a counterpart without its set; a validator's error.

    Args:
        groups: fields of the settings with the names of their sets.
    """
    names = {name for group in groups.values() for name in group}
    if unknown := names ^ set(stands_for):
        raise ValueError(f"stands_for: {', '.join(sorted(unknown))}; allowed: the names of {' and '.join(groups)}, each once")


def titled(settings: Any, name: str, *, lines: int = 1) -> str:
    """'digits (for CIFAR-10)', in one line or two."""
    return f"{name}{' ' if lines == 1 else chr(10)}(for {settings.stands_for[name]})"
