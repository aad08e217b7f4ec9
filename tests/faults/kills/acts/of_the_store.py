"""The store, its claims, and archives: runs put, forced, mended, swept, sent and taken."""

import contextlib
import io
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from tests.faults.kills.acts.places import ONE, THREE, TWO, place_of, store_of, stored
from tests.runs.support import FACTS
from tests.support import Number, Total, context
from vitlib.computing import Result, result_of
from vitlib.runs import archive
from vitlib.runs.claims import leases
from vitlib.runs.claims.kinds import BY_LEASE
from vitlib.runs.execute import execute
from vitlib.studies.fsck import command as checking
from vitlib.studies.sweeping import removal

SUM = Total(left=ONE, right=Total(left=TWO, right=ONE))


def put(folder: Path) -> None:
    store = store_of(folder)
    with store.claim(ONE.id) as mine:
        if mine and ONE.id not in store:
            store.put(ONE, result_of(ONE, context(folder / "data")), FACTS)


def put_again(folder: Path) -> None:
    """As mode 'force' does, over another result."""
    store = store_of(folder)
    with store.claim(ONE.id):
        store.put(ONE, result_of(ONE, context(folder / "data")), FACTS)


def other_result(folder: Path) -> None:
    store_of(folder).put(ONE, Result({"value": "old"}, arrays={"a": np.zeros(5)}), FACTS)


def compute(folder: Path) -> float:
    return execute([SUM], place_of(folder))[SUM.id].metrics["value"]


def read_two(folder: Path) -> list[float]:
    return sorted(run.metrics["value"] for run in execute([ONE, TWO], place_of(folder)).values())


def one_damaged(folder: Path) -> None:
    stored(ONE, TWO)(folder)
    path = folder / "results" / ONE.id / "result.json"
    path.write_bytes(path.read_bytes()[:-3])


def record_failure(folder: Path) -> None:
    store_of(folder).record_failure(ONE.id, "ArithmeticError: " + "told to fail " * 1000, "Traceback\n" * 2000)


def failed(folder: Path) -> None:
    stored(TWO)(folder)
    record_failure(folder)


def forget_failure(folder: Path) -> None:
    store_of(folder).forget_failure(ONE.id)


def left_behind(folder: Path) -> None:
    """A run written whole and not renamed, half of another, a checkpoint of a stored one, claims of processes that died."""
    stored(ONE, TWO, THREE)(folder)
    root = folder / "results"
    (root / ".partial").mkdir(exist_ok=True)
    (root / ONE.id).rename(root / ".partial" / f"{ONE.id}~99-aaaaaaaa")
    (root / TWO.id).rename(root / ".partial" / f"{TWO.id}~99-bbbbbbbb")
    (root / ".partial" / f"{TWO.id}~99-bbbbbbbb" / "manifest.json").unlink()
    for run in (ONE, THREE):
        (root / ".scratch" / run.id).mkdir(parents=True)
        (root / ".scratch" / run.id / "checkpoint.pt").write_bytes(b"0" * 100)
        (root / ".claims").mkdir(exist_ok=True)
        (root / ".claims" / run.id).write_text("{}")


def sweep(folder: Path) -> None:
    store_of(folder).sweep()


def collect(folder: Path) -> None:
    """What `gc --delete` does once it knows what goes."""
    store = store_of(folder)
    removal.empty(store)
    removal.remove_runs(store, [run.id for run in (ONE, THREE) if run.id in store])
    removal.remove_leftovers(store, list(removal.leftovers(store, {TWO.id}, 0.0)))


def to_collect(folder: Path) -> None:
    failed(folder)
    stored(ONE, THREE)(folder)


# ------------------------------------------------------------------------------------------------ archives and repair


def of_two_runs(folder: Path) -> None:
    """An archive of two runs, from a store elsewhere; one of them lies here, damaged."""
    stored(ONE, TWO)(folder / "data")
    archive.export(store_of(folder / "data"), [ONE.id, TWO.id], folder / "data" / "runs.tar")
    one_damaged(folder)
    (folder / "results" / TWO.id).rename(folder / "data" / "gone")


def import_(folder: Path) -> None:
    archive.import_(store_of(folder), folder / "data" / "runs.tar")


def an_earlier_archive(folder: Path) -> None:
    stored(ONE, TWO)(folder)
    archive.export(store_of(folder), [ONE.id], folder / "figures" / "runs.tar.xz")


def export(folder: Path) -> None:
    archive.export(store_of(folder), [ONE.id, TWO.id], folder / "figures" / "runs.tar.xz")


def to_repair(folder: Path) -> None:
    """One damaged run that an archive has, another that none has, and what killed processes left."""
    left_behind(folder)
    seven, eight = Number(value=7), Number(value=8)
    stored(seven, eight)(folder)
    archive.export(store_of(folder), [seven.id], folder / "figures" / "deit" / "smoke" / "results.tar.xz")
    for run in (seven, eight):
        (folder / "results" / run.id / "arrays.npz").write_bytes(b"\0" * 500)


def repair(folder: Path) -> None:
    with contextlib.redirect_stdout(io.StringIO()):
        checking.fsck(SimpleNamespace(results_dir=folder / "results", figures_dir=folder / "figures", repair=True))


# ------------------------------------------------------------------------------------------------ claims


def claim(folder: Path) -> bool:
    """Leases of those that died are over by then."""
    leases.BEAT, leases.EXPIRES = 0.1, 0.3
    if any((folder / "results" / ".claims").glob("*")):
        time.sleep(leases.EXPIRES)
    until = time.monotonic() + 20
    while time.monotonic() < until:
        with store_of(folder).claim(ONE.id) as mine:
            if mine:
                return True
        time.sleep(0.05)
    return False


def by_lease(folder: Path) -> None:
    store_of(folder)
    (folder / "results" / BY_LEASE).touch()
