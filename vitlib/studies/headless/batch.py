"""Notebooks headless: papermill with parameters validated first, a fresh kernel each, and a receipt written last.

papermill marks every cell completed when a kernel dies, and executes code in a parameter's name or value. So parameters
are checked against the notebook's own cell and the study before a kernel starts, and only a receipt says 'done'.
"""

from __future__ import annotations

import ast
import hashlib
import logging
import time
from collections import ChainMap
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, get_args

import nbformat
import pandas as pd

from vitlib import durable, paths
from vitlib.grid.entries import documents
from vitlib.inputs.pictures import AbsentError
from vitlib.messages import brief, nearest
from vitlib.runs.clock.budget import Budget
from vitlib.runs.clock.progress import Settled
from vitlib.runs.execute import RunsFailedError, TimeIsUpError, execute, require_use_of_budget
from vitlib.runs.manifest import MANIFEST, StoreError
from vitlib.runs.plan import Executor, Mode
from vitlib.runs.provenance import commit, now
from vitlib.runs.store import Store, require_writable
from vitlib.spec import RunSpec, SpecError, require
from vitlib.studies.costs.remaining import holding
from vitlib.studies.costs.slots import slots_per_gpu
from vitlib.studies.headless import copies, kernel, receipts
from vitlib.studies.headless.forks import Forks
from vitlib.studies.headless.receipts import Receipt
from vitlib.studies.headless.together import Job, execute_together
from vitlib.studies.loading import load_study
from vitlib.studies.pages.page import Page, profiles_of, study_of, why_left_out
from vitlib.studies.study import Study
from vitlib.studies.travel import leave
from vitlib.training.work.registry import Sets

SKEW = 60.0  # seconds that a disk's clock may be ahead; what lies further in the future was written under a wrong clock
log = logging.getLogger("vitlib")


def notebooks() -> dict[str, Path]:
    """The notebooks by name: the documents', and then those beside them, which may show what the documents' computed."""
    found = {path.stem: path for path in sorted((paths.root() / "notebooks").glob("*.ipynb"))}
    return dict(sorted(found.items(), key=lambda item: study_of(item[1]) not in documents()))


def for_all(parameters: dict[str, Any]) -> list[str]:
    """The notebooks that are meant where none is named: all but pages without the profile, or whose parameters are not meant.

    A line for each that is left out says why.
    """
    reasons = {name: why_left_out(source, parameters) for name, source in notebooks().items()}
    for name, reason in reasons.items():
        if reason:
            log.warning("%s.ipynb is left out: %s", name, reason)
    return [name for name, reason in reasons.items() if not reason]


def run_all(
    names: list[str],
    parameters: dict[str, Any],
    budget: Budget | None = None,
    kernels: Forks | None = None,
    beside: Callable[[], None] = lambda: None,
) -> list[Receipt]:
    """Run notebooks, going on after a failing one.

    Args:
        budget: see `run_within`.
        kernels: what kernels fork from; None to start each afresh.
        beside: called beside the last notebooks where they run side by side, once all runs are stored.

    Raises:
        SpecError: for an unknown notebook or parameter, a mode that has no use for a budget, or where there are no notebooks, before the
            first kernel starts.
        StoreError: for a place that cannot be written, before that too.
    """
    known = notebooks()
    if not known:
        raise SpecError(f"notebooks: none in {paths.root() / 'notebooks'}; run this in the checkout of vitlib")
    studies: dict[Path, Study | Page] = {}
    for name in names:
        if name not in known:
            raise SpecError(f"notebook: got {brief(name)}{nearest(name, list(known))}")
        studies[known[name]] = described(known[name], parameters)
        if budget:
            require_use_of_budget((default_parameters(known[name]) | parameters)["mode"])
    if budget:
        return [run_within(budget, known[name], parameters, kernels) for name in names]
    return _run_together(studies, parameters, kernels, beside)


def _run_together(
    studies: dict[Path, Study | Page], parameters: dict[str, Any], kernels: Forks | None, beside: Callable[[], None]
) -> list[Receipt]:
    """Side by side, the runs of all studies computed before; one after the other where these are to be computed in their notebooks."""
    effective = [default_parameters(source) | parameters for source in studies if not profiles_of(source)]
    ways = {(values.get("executor"), values.get("mode")) for values in effective} or {("local", "cached")}
    if ways not in ({("local", "cached")}, {("ray", "cached")}):
        return [run_notebook(source, parameters, kernels=kernels) for source in studies]
    runs = {source: {spec.id: spec for spec in _computable(study)} for source, study in studies.items()}
    of_all = dict(ChainMap(*runs.values()))
    stored = Store(next(iter(studies.values())).place.results_dir, writable=False).__contains__
    jobs = [
        Job(partial(run_notebook, source, parameters, kernels=kernels), of_all if _is_about_all(study) else runs[source], stored)
        for source, study in studies.items()
    ]
    ((executor, _),) = ways
    jobs.append(Job(beside, of_all, stored))
    *receipts, _ = execute_together(jobs, partial(_compute, [study for study in studies.values() if isinstance(study, Study)], executor))
    return receipts


def _is_about_all(study: Study | Page) -> bool:
    return isinstance(study, Study) and study.paper not in documents()


def _computable(study: Study | Page) -> list[RunSpec]:
    try:
        return study.computable()
    except AbsentError:  # the notebook says what is not here
        return []


def _compute(studies: list[Study], executor: Executor, specs: list[RunSpec], settled: Settled, before_timed: Callable[[], None]) -> None:
    """Runs of several studies at the place that they share."""
    place = studies[0].place
    if executor == "local":
        place = replace(place, slots_per_gpu=slots_per_gpu(specs, Sets(place.data_dir)))
    titles = {run_id: title for study in studies for run_id, title in study.titles.items()}
    execute(specs, place, executor=executor, memory=holding(studies[0]), titles=titles, settled=settled, before_timed=before_timed)


def run_within(budget: Budget, source: Path, parameters: dict[str, Any], kernels: Forks | None = None) -> Receipt:
    """Compute a notebook's runs here within the budget, and execute it once all are stored.

    A notebook with runs left, or one that the time does not suffice for, is not executed and keeps its earlier artefacts; so is one that
    nothing changed for since it was executed: calling again and again comes to the last notebook.
    """
    study, effective = described(source, parameters), default_parameters(source) | parameters
    receipt = Receipt(source.name, "unfinished", 0.0, commit(), _sha256(source), parameters)
    try:
        study.execute(executor=effective["executor"], mode=effective["mode"], budget=budget)
    except TimeIsUpError as error:
        return replace(receipt, error=str(error))
    except (RunsFailedError, SpecError, StoreError) as error:
        return replace(receipt, status="failed", error=str(error))
    if is_current(study, source, parameters):
        return replace(receipt, status="done")
    if budget.over:
        return replace(receipt, error="all runs are stored; not executed, for the time is up; the same command goes on")
    budget.begun = True
    return run_notebook(source, parameters, kernels=kernels)


def summary(receipts: list[Receipt]) -> str:
    """A line a notebook, and below them what failed."""
    rows = [{"notebook": r.notebook, "status": r.status, "seconds": r.seconds} for r in receipts]
    errors = [f"\n{r.notebook}: {r.error}" for r in receipts if r.error]
    return pd.DataFrame(rows).to_string(index=False) + "".join(errors)


def is_current(study: Study | Page, source: Path, parameters: dict[str, Any]) -> bool:
    """Whether the notebook was executed so, after its runs, its source and the library were last written, and what it left is whole."""
    found = receipts.read(study.folder)
    if not found or (found.get("status"), found.get("parameters")) != ("done", parameters):
        return False
    if source.name not in found.get("files", {}) or receipts.changed(study.folder, found):
        return False
    store = Store(study.place.results_dir, writable=False)
    made_of = [source, *(store.root / run_id / MANIFEST for run_id in study.specs), *Path(__file__).parents[2].rglob("*.py")]
    newest = max(path.stat().st_mtime for path in made_of)
    return newest < (study.folder / receipts.RECEIPT).stat().st_mtime < time.time() + SKEW


def run_notebook(
    source: Path, parameters: dict[str, Any], folder: Path | None = None, timeout: float | None = None, kernels: Forks | None = None
) -> Receipt:
    """Execute a copy of `source` into `folder` (default: where its figures lie), leave its results there, and write its receipt.

    Args:
        timeout: seconds that one cell may take; None for no limit.
        kernels: what its kernel forks from; None to start it afresh.
    """
    study = described(source, parameters)
    target_folder = folder or study.folder
    target_folder.mkdir(parents=True, exist_ok=True)
    target = target_folder / source.name
    (target_folder / receipts.RECEIPT).unlink(missing_ok=True)
    durable.sync(target_folder)  # none stands beside a copy that is half there
    started = time.monotonic()
    error = _executed(source, target, parameters, timeout, kernels) or _leave(study, default_parameters(source) | parameters)
    receipt = Receipt(
        notebook=source.name,
        status="failed" if error else "done",
        seconds=round(time.monotonic() - started, 1),
        commit=commit(),
        source_sha256=_sha256(source),
        parameters=parameters,
        error=error,
        ended=now(),
        files=receipts.digests([target] if folder else target_folder.iterdir()),
    )
    receipts.write(target_folder, receipt)
    return receipt


def _sha256(source: Path) -> str:
    return hashlib.sha256(source.read_bytes()).hexdigest()


def described(source: Path, parameters: dict[str, Any]) -> Study | Page:
    """The study that a notebook will run with these parameters, or what is known of a page before it is opened.

    Raises:
        SpecError: unknown name, a value of another type than the notebook's literal, or what the study or its execution refuses.
        StoreError: for a place that cannot be written.
    """
    defaults = default_parameters(source)
    for name, value in parameters.items():
        if name not in defaults:
            raise SpecError(f"{name}: unknown parameter of {source.name}{nearest(name, list(defaults))}")
        if type(value) is not type(defaults[name]) and name != "overrides":
            raise SpecError(f"{name}: got {brief(value)}; allowed: a {type(defaults[name]).__name__} as in {defaults[name]!r}")
    effective = defaults | parameters
    for name, allowed in (("executor", get_args(Executor)), ("mode", get_args(Mode))):
        require(name, effective.get(name, allowed[0]), allowed)
    places = {name: effective[name] for name in ("results_dir", "figures_dir", "data_dir") if name in effective}
    if profiles_of(source):
        study = Page.of(source, effective, default_parameters(source), places)
    else:
        study = load_study(study_of(source), effective["profile"], overrides=effective["overrides"], **places)
    require_writable("figures_dir", study.folder, "choose a folder you may write to")
    if effective.get("mode") != "read-only":
        require_writable("results_dir", study.place.results_dir, "choose a folder you may write to, or mode='read-only'")
    return study


def default_parameters(source: Path) -> dict[str, Any]:
    """The literals of the cell tagged `parameters`."""
    cells = nbformat.read(source, as_version=4).cells
    tagged = next(cell for cell in cells if "parameters" in cell.metadata.get("tags", []))
    return {node.targets[0].id: ast.literal_eval(node.value) for node in ast.parse(tagged.source).body if isinstance(node, ast.Assign)}


def _executed(source: Path, target: Path, parameters: dict[str, Any], timeout: float | None, kernels: Forks | None) -> str:
    """The reason of a failure, or nothing."""
    try:
        kernel.execute(source, target, parameters, timeout, kernels)
        copies.finish(source, target)
        return ""
    except Exception as error:
        log.debug("notebook %s failed", source, exc_info=True)
        return f"{type(error).__name__}: {str(error).strip()[-2000:]}"


def _leave(study: Study | Page, effective: dict[str, Any]) -> str:
    """Leave the results beside the figures, unless they may have come from there, or the notebook did; the reason of a failure."""
    if effective.get("mode") == "read-only" or isinstance(study, Page):
        return ""
    try:
        leave(study)
        return ""
    except StoreError as error:
        return f"{type(error).__name__}: {error}"
