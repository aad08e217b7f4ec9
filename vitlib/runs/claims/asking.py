"""What drivers at work ask of a store: the stored runs that they were asked for or go on from, which nobody may remove meanwhile."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from vitlib import durable
from vitlib.runs.claims.kinds import ASKED
from vitlib.runs.store import Store


@contextmanager
def asking(store: Store, run_ids: Iterable[str]) -> Iterator[None]:
    """Note these runs for as long as this process needs them; a note whose writer died does not count."""
    name = f"driver-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    note = store.root / ASKED / name
    with store.claim(name):
        note.parent.mkdir(exist_ok=True)
        half = note.with_name(f".{name}")
        with durable.naming(half):
            half.write_text("\n".join(run_ids), encoding="utf-8")
        half.rename(note)
        try:
            yield
        finally:
            note.unlink(missing_ok=True)


class Asking:
    """What live drivers ask for, as it is now; each note is read once."""

    def __init__(self, store: Store):
        self.store = store
        self._notes: dict[str, set[str]] = {}

    def now(self) -> set[str]:
        """Ids of runs; notes of drivers that died are removed."""
        folder = self.store.root / ASKED
        names = {name for name in os.listdir(folder) if not name.startswith(".")} if folder.is_dir() else set()
        self._notes = {name: ids for name, ids in self._notes.items() if name in names}
        for name in names - self._notes.keys():
            self._notes[name] = self._live(name)
        return set().union(*self._notes.values())

    def _live(self, name: str) -> set[str]:
        note = self.store.root / ASKED / name
        with self.store.claim(name) as dead:
            if dead:
                note.unlink(missing_ok=True)
                return set()
        try:
            return set(note.read_text(encoding="utf-8", errors="replace").split())
        except FileNotFoundError:
            return set()
