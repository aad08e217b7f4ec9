"""What writes files: each operation with the folder that it starts from, and what a reader finds there at any moment."""

import contextlib
import hashlib
import io
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd

from tests.runs.support import FACTS
from tests.support import Number, Total, context
from vitlib.computing import Result, result_of
from vitlib.dumped import rebuild
from vitlib.runs import archive
from vitlib.runs.claims import leases
from vitlib.runs.claims.kinds import BY_LEASE
from vitlib.runs.execute import execute
from vitlib.runs.manifest import DamagedError
from vitlib.runs.plan import Place
from vitlib.runs.store import Store
from vitlib.studies.fsck import command as checking
from vitlib.studies.sweeping import removal

ONE, TWO, THREE = (Number(value=value) for value in (1, 2, 3))
SUM = Total(left=ONE, right=Total(left=TWO, right=ONE))
Seen = dict[str, Any]


def nothing(folder: Path) -> None:
    pass


def runs(folder: Path) -> Seen:
    """Stored runs by what they hold but for times, and reasons of failures."""
    store = Store(folder / "results", writable=False)
    found = {run_id: _run(store, run_id) for run_id in store.ids()}
    failed = (folder / "results" / ".failed").glob("[!.]*")
    found |= {path.name: path.read_text() for path in failed}
    return found


def _run(store: Store, run_id: str) -> str:
    try:
        spec = store.read(run_id).spec
        files = store.files(run_id)
    except DamagedError:
        return "damaged"
    if rebuild(spec).timed:
        return "stored"
    return hashlib.sha256(
        repr(sorted((name, content) for name, content in files.items() if name != "provenance.json")).encode()
    ).hexdigest()


def files(folder: Path) -> Seen:
    """What lies among the figures: every file that a person would open."""
    found = sorted(path for path in (folder / "figures").rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in found if not path.name.startswith(".")}


@dataclass(frozen=True)
class Operation:
    """`prepare(folder)`, then `act(folder)`, which gives what it computed; what they share is the folder alone.

    Attributes:
        seen: what a reader finds, by name: each is as before or as after it, at any moment.
        absent: whether a reader may find nothing for a while, until the next driver begins, or the same is done again.
        lasting: whether what it did is on the disk when it returns.
        counted: whether it computes what is not stored, and only that.
        share: of its points that are tried in `make test`.
        most: of them that are tried at length.
    """

    act: Callable[[Path], Any]
    prepare: Callable[[Path], None] = nothing
    seen: Callable[[Path], Seen] = runs
    absent: bool = False
    lasting: bool = True
    counted: bool = False
    share: float = 0.1
    most: int = 10**6


def store_of(folder: Path) -> Store:
    return Store(folder / "results")


def place_of(folder: Path) -> Place:
    return Place(folder / "results", folder / "data", device="cpu")


def stored(*specs: Number) -> Callable[[Path], None]:
    def prepare(folder: Path) -> None:
        for spec in specs:
            store_of(folder).put(spec, result_of(spec, context(folder / "data")), FACTS)

    return prepare


# ------------------------------------------------------------------------------------------------ the store


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


def compute_two(folder: Path) -> None:
    execute([ONE, TWO], place_of(folder))


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


# ------------------------------------------------------------------------------------------------ a training

UPDATES = 4


def train(folder: Path) -> str:
    """Weights and history as a digest; each update leaves a line and a checkpoint, and so does the end of each epoch."""
    from tests.support import MICRO
    from vitlib.computing import Context
    from vitlib.inputs.data import seed_everything, training_batches
    from vitlib.inputs.models import build, weights_of
    from vitlib.inputs.sources import Data
    from vitlib.recipe import Recipe
    from vitlib.runs.workers.one import one_thread
    from vitlib.training import loop

    data = Data(source="digits", image_size=8, per_class=2, mean=(0.3,), std=(0.4,))
    recipe = Recipe(epochs=2, batch_size=8, lr=0.01, ema_decay=0.9)
    scratch = store_of(folder).scratch("student-0")
    with one_thread("cpu"):
        seed_everything(0)
        model = build(MICRO, image_size=8, channels=1, num_classes=10)
        batches = training_batches(data, recipe, seed=0, device="cpu", data_dir=folder)
        context = Context("cpu", folder, scratch, lambda run: None, lambda *_: leave_step(folder), checkpoint_every=0.0)
        trained = loop.train(model, batches, loop.cross_entropy, recipe, num_classes=10, context=context)
    assert batches.steps * recipe.epochs == UPDATES
    weights = sorted((name, array.tobytes()) for name, array in weights_of(model).items())
    return hashlib.sha256(repr([weights, trained.history.to_csv()]).encode()).hexdigest()


def leave_step(folder: Path) -> None:
    with (folder / "data" / "steps").open("a") as log:
        log.write("a step\n")


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
    """Waits for a lease whose holder died."""
    leases.BEAT, leases.EXPIRES = 0.1, 0.4
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


# ------------------------------------------------------------------------------------------------ what is shown


def render(folder: Path) -> None:
    """A table, a figure and its narrow form, as `python -m vitlib render` writes them; the first two lie there, of other numbers."""
    _draw(folder, 2.0, columns=True)


def drawn_before(folder: Path) -> None:
    _draw(folder, 1.0)


def _draw(folder: Path, factor: float, columns: bool = False) -> None:
    from vitlib.report import figures, tables

    @figures.style()
    def line():
        figure, axes = figures.canvas()
        axes.plot([1, 2, 3], factor * np.arange(3), label="a")
        return figure

    frame, place = pd.DataFrame({"name": ["a", "b"], "top1": factor * np.array([1.5, np.nan])}), folder / "figures" / "deit"
    tables.save(frame, place / "table_1", "What it shows.", "A stamp.")
    figure = line()
    figures.save(figure, place / "figure_1", "a stamp")
    if columns:
        figures.save_column(figure, place / "figure_1", "a stamp")


def execute_notebook(folder: Path) -> None:
    _notebook(folder, "6 * 7")


def executed_before(folder: Path) -> None:
    _notebook(folder, "6 * 6")


def _notebook(folder: Path, code: str) -> None:
    """`run_notebook`, but for papermill and its kernel: the copy is written as papermill does."""
    from unittest.mock import patch

    import nbformat

    from vitlib.studies.headless import batch

    source = folder / "data" / "deit.ipynb"
    cells = [
        nbformat.v4.new_code_cell("profile = 'smoke'", id="a", metadata={"tags": ["parameters"]}),
        nbformat.v4.new_code_cell(code, id="b"),
    ]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), source)

    def papermill(source, target, parameters, timeout, kernels):
        notebook = nbformat.read(source, as_version=4)
        for count, cell in enumerate(notebook.cells):
            cell.execution_count, cell.outputs = count, [nbformat.v4.new_output("stream", text=f"{cell.source}\n" * 3000)]
        nbformat.write(notebook, target)

    instead = {"described": lambda *_: SimpleNamespace(folder=folder / "figures" / "deit"), "leave": lambda study: None}
    with patch.multiple(batch, **instead), patch.object(batch.kernel, "execute", papermill), patch.object(batch.copies, "_sign"):
        assert batch.run_notebook(source, {}).status == "done"


def receipts(folder: Path) -> Seen:
    """A copy counts only where its receipt says that it is done."""
    place = folder / "figures" / "deit"
    receipt = place / "receipt.json"
    if not receipt.exists():
        return {}
    assert json.loads(receipt.read_bytes())["status"] == "done"
    return {"notebook": (place / "deit.ipynb").read_bytes()}


# ------------------------------------------------------------------------------------------------ whole commands

THREE_SEEDS, FOUR_SEEDS = {"seeds": [0, 1, 2]}, {"seeds": [0, 1, 2, 3]}


def _pruned(folder: Path, seeds: dict[str, list[int]]) -> Any:
    from vitlib.studies.loading import load_study

    where = {"results_dir": str(folder / "results"), "figures_dir": str(folder / "figures"), "device": "cpu"}
    return load_study("afr_pruning", "smoke", overrides=seeds, **where)


def declared(folder: Path) -> None:
    _pruned(folder, THREE_SEEDS).execute()


def decide(folder: Path) -> None:
    """As `python -m vitlib decide` does, with a seed more at most; how the verdicts stand is among the figures."""
    from vitlib.studies.verdicts import decide

    study = _pruned(folder, FOUR_SEEDS)
    list(decide.decide(study, _pruned(folder, THREE_SEEDS), 600.0, "inline"))
    study.save_table(study.execute(mode="read-only").claims(), "claims")


def photos(folder: Path) -> None:
    from tests.compress.conftest import write_photos

    write_photos(folder / "data" / "photos")


def compress(folder: Path) -> None:
    import vitlib
    from tests.compress.conftest import QUICK, network

    vitlib.prune(network(), folder / "data" / "photos", sparsity=0.9, **QUICK, results_dir=folder / "results", executor="inline")


OPERATIONS = {
    "a run put into the store": Operation(put, stored(TWO), share=1.0),
    "a run forced again": Operation(put_again, other_result, absent=True, share=0.2),
    "three runs computed": Operation(compute, counted=True),
    "a damaged run computed again": Operation(compute_two, one_damaged, absent=True, counted=True),
    "a failure recorded": Operation(record_failure, stored(TWO)),
    "a failure forgotten": Operation(forget_failure, failed, lasting=False, share=0.5),
    "a store swept": Operation(sweep, left_behind, lasting=False),
    "runs removed by gc": Operation(collect, to_collect, lasting=False),
    "an archive imported": Operation(import_, of_two_runs, absent=True),
    "an archive written": Operation(export, an_earlier_archive, seen=files),
    "a store repaired": Operation(repair, to_repair, absent=True),
    "a claim by a lock": Operation(claim, stored(TWO), share=0.5),
    "a claim by a lease": Operation(claim, by_lease),
    "tables and figures drawn": Operation(render, drawn_before, seen=files, share=0.02),
    "a notebook executed": Operation(execute_notebook, executed_before, seen=receipts, absent=True),
    "verdicts decided": Operation(decide, declared, share=0.002, most=20),
    "a model compressed": Operation(compress, photos, share=0.002, most=20),
    "a training with its checkpoints": Operation(train, seen=lambda folder: {}),
}
