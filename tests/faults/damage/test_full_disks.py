"""A disk without room, or a quota that is used up, at every point of everything that writes: said by name, nothing half, nothing lost."""

import errno
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pandas as pd
import pytest

from tests.faults.counted import count
from tests.faults.damage import disks
from tests.faults.damage.children import in_a_child
from tests.faults.damage.operations import OPERATIONS
from tests.faults.damage.support import quiet
from vitlib.runs.archive import read
from vitlib.runs.execute import RunsFailedError
from vitlib.runs.manifest import DamagedError, StoreError
from vitlib.runs.store import Store
from vitlib.studies.headless import receipts

CODES = {"full": errno.ENOSPC, "quota": errno.EDQUOT}
LONG = {"an import": 20, "a run and its parents": 16, "a damaged run taken from an archive": 8}  # many points
PAGE, ROOM = 4096, "64m"
HARD = [name for name, operation in OPERATIONS.items() if not operation.soft]
Refused = Callable[[str], bool]  # whether the disk refused something, by what was said


def standing(folder: Path) -> dict[str, dict]:
    """What a reader finds: every archive, table and receipt is whole, and these runs are."""
    store, found = Store(folder / "results", writable=False), {}
    for run_id in store.ids():
        try:
            found[run_id] = store.read(run_id).metrics
        except DamagedError:
            assert (store.root / run_id / "arrays.npz").stat().st_size == 0, "damaged by the test, not by the disk"
    for path in store.root.glob("runs.tar*"):
        assert path.name.endswith(".partial") or read(path)
    for path in store.root.glob("out/*_1.csv"):
        assert len(pd.read_csv(path)) in (0, 200), "of a figure that draws no series, and of a table"
    assert not (store.root / receipts.RECEIPT).exists() or receipts.read(store.root)["seconds"] in (1.0, 2.0)
    return found


def said_of(act, folder: Path) -> str:
    """What was said of a refusal, or nothing."""
    try:
        act(folder)
    except (OSError, StoreError, RunsFailedError) as error:
        return str(error)
    return ""


def tried(folder: Path, name: str, disk: AbstractContextManager[Refused], code: int) -> bool:
    """Whether the disk refused the operation anything; it is done then once more, with room."""
    quiet()
    operation = OPERATIONS[name]
    folder.mkdir()
    operation.prepare(folder)
    before = standing(folder)
    with disk as refused:
        said = said_of(operation.act, folder)
        was_refused = refused(said)
    began = time.monotonic()
    assert before.items() <= standing(folder).items(), "what was stored stays"
    if not operation.soft:
        assert was_refused or not said
        assert not said or (os.strerror(code) in said and str(folder) in said), f"the place and the reason: {said!r}"
    if said or operation.soft:
        assert not said_of(operation.act, folder) or operation.soft
    operation.whole(folder)
    standing(folder)
    shutil.rmtree(folder)
    if was_refused:
        count(f"{os.strerror(code)} at a point of writing", recovery=time.monotonic() - began)
    return was_refused


@contextmanager
def pretended(folder: Path, after: int, code: int) -> Iterator[Refused]:
    """Everything that takes room is refused from a point on."""
    with pytest.MonkeyPatch.context() as patch:
        full = disks.Full(folder, after, code, patch)
        with disks.pretended(full):
            yield lambda said: full.met > after


def points(folder: Path, name: str, code: int, step: int) -> int:
    """How many points of an operation there are; data lie beside the disk."""
    after = 0
    folder /= "disk"
    folder.mkdir()
    while tried(folder / str(after), name, pretended(folder, after, code), code):
        after += step
    return after


@pytest.mark.parametrize("name", OPERATIONS)
def test_a_full_disk_is_named_and_nothing_half_written_counts(tmp_path, name):
    assert points(tmp_path, name, errno.ENOSPC, step=LONG.get(name, 4)) >= 1


@pytest.mark.faults
@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("name", OPERATIONS)
def test_a_full_disk_at_any_point_is_named_and_nothing_half_written_counts(tmp_path, name, code):
    assert points(tmp_path, name, CODES[code], step=1) >= 1


# ------------------------------------------------------------------------------------------------ really


@contextmanager
def memory(place: Path, pages: int) -> Iterator[Refused]:
    """A disk of memory on which some pages are free."""
    stat = os.statvfs(place)
    used = (stat.f_blocks - stat.f_bfree) * stat.f_frsize
    assert disks.mount_memory(place, size=max(used + pages * PAGE, PAGE), remount=True)
    yield bool
    assert disks.mount_memory(place, size=ROOM, remount=True)


def really(folder: Path, names: list[str], step: int) -> dict[str, int] | None:
    """Of each operation, how often the room did not suffice: none at first, and some pages more each time. None without such a disk."""
    folder /= "disk"
    if not (disks.apart() and disks.mount_memory(folder, size=ROOM)):
        return None
    tries = dict.fromkeys(names, 0)
    for name in names:
        while True:
            if not tried(folder / str(tries[name]), name, memory(folder, step * tries[name]), errno.ENOSPC):
                break
            tries[name] += 1
    return tries


def small_disks(forking, tmp_path, names, step) -> None:
    found = in_a_child(forking, really, tmp_path, names, step)
    if found is None:
        pytest.skip("this needs the right to mount")
    for name, tries in found.items():
        assert tries >= 1, name
        count("a disk that really has no room", tries=tries)


def test_a_disk_that_really_is_full_is_named(forking, tmp_path):
    small_disks(forking, tmp_path, [HARD[0], "a checkpoint", "an import"], step=5)


@pytest.mark.faults
@pytest.mark.parametrize("name", HARD)
def test_a_disk_that_really_is_full_at_any_page_is_named(forking, tmp_path, name):
    small_disks(forking, tmp_path, [name], step=1)
