"""In which order a run is written: what a power cut may take back is not said to be stored, and an old result stays until then."""

import os
from pathlib import Path

import pytest

from tests.runs.support import FACTS, SPEC
from vitlib import durable
from vitlib.computing import Result
from vitlib.runs.manifest import MANIFEST


def watched(store, monkeypatch) -> list[tuple[str, Path]]:
    """What is synced and renamed, in order, below the store's folder."""
    events, fsync, rename = [], os.fsync, Path.rename

    def syncing(handle):
        events.append(("synced", Path(os.readlink(f"/proc/self/fd/{handle}"))))
        fsync(handle)

    def renaming(path, target):
        events.append(("renamed", path))
        return rename(path, target)

    monkeypatch.setattr(os, "fsync", syncing)
    monkeypatch.setattr(Path, "rename", renaming)
    return events


def test_files_and_their_folder_reach_the_disk_before_the_rename_and_the_rename_after_it(store, result, monkeypatch):
    events = watched(store, monkeypatch)
    store.put(SPEC, result, FACTS)
    ((place, aside),) = ((place, path) for place, (what, path) in enumerate(events) if what == "renamed")
    before, after = ({path for what, path in part if what == "synced"} for part in (events[:place], events[place:]))
    assert before >= {aside, *(aside / path.name for path in (store.root / SPEC.id).iterdir())}
    assert store.root in after


def test_while_a_result_is_replaced_the_old_one_stands_until_the_new_one_is_written(store, monkeypatch):
    store.put(SPEC, Result({"value": "old"}), FACTS)
    write, seen = durable.write, []

    def writing(path, content):
        write(path, content)
        seen.append(store.read(SPEC.id).metrics["value"])

    monkeypatch.setattr(durable, "write", writing)
    store.put(SPEC, Result({"value": "new"}), FACTS)
    assert seen == ["old"] * len(list((store.root / SPEC.id).iterdir()))
    assert store.read(SPEC.id).metrics == {"value": "new"}


@pytest.mark.parametrize("lacking", ["result.json", MANIFEST])
def test_what_a_killed_writer_left_in_part_is_no_result(store, folder, lacking):
    aside = store.root / ".partial" / f"{SPEC.id}~1-0"
    folder.rename(aside)
    (aside / lacking).unlink()
    with store.claim(SPEC.id) as mine:
        assert mine and SPEC.id not in store and not folder.exists() and not aside.exists()
