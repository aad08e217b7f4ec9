"""A line of text that says whether it is what was written: for notes beside a checkpoint, which no manifest names."""

from __future__ import annotations

import hashlib
from pathlib import Path

from vitlib import durable
from vitlib.runs.manifest import content_of


def write_line(path: Path, text: str) -> None:
    """Write the text, which holds no blank, and the beginning of its SHA-256 after it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with durable.whole(path) as file:
        file.write_text(f"{text} {_check(text)}\n", encoding="utf-8")


def read_line(path: Path) -> str | None:
    """The text; None where there is none, or it is damaged."""
    text, _, check = (content_of(path) or b"").decode(errors="replace").partition(" ")
    return text if check == f"{_check(text)}\n" else None


def _check(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
