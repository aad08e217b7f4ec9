"""What a person sees or starts: a training, tables and figures, a notebook, verdicts decided, a model compressed."""

import hashlib
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import nbformat
import numpy as np
import pandas as pd

import vitlib
import vitlib.papers.afr_pruning.compute
from tests.compress.conftest import QUICK, network, write_photos
from tests.faults.kills.acts.places import Seen, store_of
from tests.support import MICRO
from vitlib.computing import Context
from vitlib.inputs.data import seed_everything, training_batches
from vitlib.inputs.models import build, weights_of
from vitlib.inputs.sources import Data
from vitlib.recipe import Recipe
from vitlib.report import figures, tables
from vitlib.runs.workers.one import one_thread
from vitlib.studies.headless import batch
from vitlib.studies.loading import load_study
from vitlib.studies.verdicts import decide as deciding
from vitlib.training import loop

UPDATES = 4


def train(folder: Path) -> str:
    """Weights and history as a digest; each update leaves a line and a checkpoint, and so does the end of each epoch."""
    data = Data(source="digits", image_size=8, per_class=2, mean=(0.3,), std=(0.4,))
    recipe = Recipe(epochs=2, batch_size=10, lr=0.01, ema_decay=0.9)
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


# ------------------------------------------------------------------------------------------------ what is shown


def render(folder: Path) -> None:
    """A table, a figure and its narrow form, as `python -m vitlib render` writes them; the first two lie there, of other numbers."""
    _draw(folder, 2.0, columns=True)


def drawn_before(folder: Path) -> None:
    _draw(folder, 1.0)


def _draw(folder: Path, factor: float, columns: bool = False) -> None:
    @figures.style()
    def line():
        figure, axes = figures.canvas()
        axes.flat[0].plot([1, 2, 3], factor * np.arange(3), label="a")
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
    where = {"results_dir": str(folder / "results"), "figures_dir": str(folder / "figures"), "device": "cpu"}
    return load_study("afr_pruning", "smoke", overrides=seeds, **where)


def declared(folder: Path) -> None:
    _pruned(folder, THREE_SEEDS).execute()


def decide(folder: Path) -> None:
    """As `python -m vitlib decide` does, with a seed more at most; how the verdicts stand is among the figures."""
    study = _pruned(folder, FOUR_SEEDS)
    list(deciding.decide(study, _pruned(folder, THREE_SEEDS), 600.0, "inline"))
    study.save_table(study.execute(mode="read-only").claims(), "claims")


def photos(folder: Path) -> None:
    write_photos(folder / "data" / "photos")


def compress(folder: Path) -> None:
    vitlib.prune(network(), folder / "data" / "photos", sparsity=0.9, **QUICK, results_dir=folder / "results", executor="inline")
