"""What stored runs were described with, read as far as it is asked, the newest first."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vitlib.runs.manifest import json_table

NAMES = {"source": "fingerprint", "file": "sha256"}  # a field that names data or a file of weights: the field beside it that says which
NAMED = re.compile(rb'"(?:source|file)": "(?:[^"\\]|\\.)*"')


class Described:
    """For machines that hold results but no data: what the runs below a folder say of sets of images and of files of weights."""

    def __init__(self, root: Path):
        self._unread = _newest_first(root)
        self._known: dict[tuple[str, str], str] = {}
        self._seen: set[bytes] = set()

    def known(self, field: str, value: str) -> str:
        """What stands beside a field of that value in the newest run that has it: the fingerprint of a source, or the SHA-256 of a file.

        Empty where no run says it.
        """
        while (field, value) not in self._known and (path := next(self._unread, None)):
            self._note(path)
        return self._known.get((field, value), "")

    def _note(self, path: Path) -> None:
        """What a run names for the first time; most name what others did."""
        try:
            content = path.read_bytes()
        except OSError:
            return
        named = set(NAMED.findall(content))
        if named <= self._seen or (spec := json_table(content)) is None:
            return
        for field, wanted in NAMES.items():
            for value, found in pairs(spec, field, wanted):
                self._known.setdefault((field, value), found)
        self._seen |= {name for name in named if _told(name, self._known)}


def pairs(spec: Any, field: str, wanted: str) -> Iterator[tuple[str, str]]:
    """Values of two fields that stand beside each other, anywhere in what a run was described with; none of them empty."""
    if isinstance(spec, dict):
        if isinstance(spec.get(field), str) and spec.get(wanted):
            yield spec[field], spec[wanted]
        for inner in spec.values():
            yield from pairs(inner, field, wanted)
    elif isinstance(spec, list):
        for inner in spec:
            yield from pairs(inner, field, wanted)


def _told(name: bytes, known: dict[tuple[str, str], str]) -> bool:
    pair = json_table(b"{" + name + b"}") or {}
    return any(item in known for item in pair.items())


def _newest_first(root: Path) -> Iterator[Path]:
    try:
        with os.scandir(root) as entries:
            folders = [(entry.stat().st_mtime_ns, entry.name) for entry in entries if not entry.name.startswith(".")]
    except FileNotFoundError:
        return
    for _, name in sorted(folders, reverse=True):
        yield root / name / "spec.json"
