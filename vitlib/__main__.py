"""python -m vitlib COMMAND: what is computed, stored, shown and sent away.

list, status, plan, run, render, decide, scoreboard, notebooks, compress, slurm, export, import, fsck, gc, crate, ship, verify.
"""

from __future__ import annotations

import argparse
import errno
import gc
import importlib
import io
import logging
import sys
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from vitlib import paths
from vitlib.compress import shell
from vitlib.distributed import LostError
from vitlib.grid.entries import documents, read_entry, studies
from vitlib.messages import Terminal, printable
from vitlib.runs import archive
from vitlib.runs.clock import notice
from vitlib.runs.clock.budget import Budget
from vitlib.runs.execute import RunsFailedError, StoppedError, TimeIsUpError
from vitlib.runs.manifest import StoreError
from vitlib.runs.plan import Place
from vitlib.runs.preflight import verify_data
from vitlib.runs.reading.uncollected import uncollected
from vitlib.runs.store import Store, require_writable
from vitlib.spec import SpecError, families, require
from vitlib.studies import arguments, travel
from vitlib.studies.arguments import changes_given, folder_given, path_given, places_given
from vitlib.studies.costs import command as costs
from vitlib.studies.costs.budget import seconds_of
from vitlib.studies.costs.speed.machine import rates_for
from vitlib.studies.crate import command as crates
from vitlib.studies.fsck import command as checking
from vitlib.studies.headless import forks
from vitlib.studies.loading import load_study
from vitlib.studies.slurm import command as slurm
from vitlib.studies.study import NOT_VERIFIED, Study
from vitlib.studies.sweeping import command as sweeping
from vitlib.studies.verdicts import decide

NO_ROOM = {
    errno.ENOSPC: "make room and give the same command again",
    errno.EDQUOT: "make room and give the same command again",
    errno.EROFS: "choose a place that may be written to",
}
BUDGET = "time to compute in, such as 12m: whole comparisons first; exit status 3 if runs are left, and the same command goes on"


def main(arguments: list[str] | None = None) -> int:
    """Exit status: 0 done, 1 something failed, 2 refused before anything was computed, 3 time is up and 130 stopped: the same goes on."""
    try:
        gc.freeze()  # what was imported stays: no collection looks at it again
        logging.basicConfig(handlers=[Terminal()])
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="replace")  # a terminal without Japanese shows question marks
        options = _parser().parse_args(arguments)
        return options.act(options)
    except (SpecError, StoreError) as error:
        print(printable(f"refused: {error}"), file=sys.stderr)
        return 2
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        print(
            printable(f"{error.filename or 'a file'}: {error.strerror}; nothing half-written is kept: {NO_ROOM[error.errno]}"),
            file=sys.stderr,
        )
        return 1
    except (RunsFailedError, LostError, TimeIsUpError) as error:
        print(printable(str(error)), file=sys.stderr)
        return 3 if isinstance(error, TimeIsUpError) else 1
    except KeyboardInterrupt as stop:
        said = str(stop) if isinstance(stop, StoppedError) else "stopped: what was computed is stored"
        print(f"\n{said}; the same command goes on from there", file=sys.stderr)
        return 130


def list_documents(options: argparse.Namespace) -> int:
    """The documents and their profiles, and the teachers."""
    for name in studies():
        entry = read_entry(name)
        print(f"{name:20} {', '.join(entry['profile'])}\n{'':20} {entry['title_original']}; {entry['source']}")
    return 0


def status(options: argparse.Namespace) -> int:
    """What is stored, missing, stale, failed or damaged, table by table, and of the runs that those start from."""
    with uncollected():
        study = _study(options)
        frame = pd.concat([study.status(options.verify), study.ancestors(options.verify).assign(table="(ancestors)")])
    counts = frame.drop_duplicates(["table", "run"]).groupby(["table", "state"], sort=False).size().unstack(fill_value=0)
    print(counts.to_string())
    for row in frame[frame["state"].isin(["failed", "damaged"])].drop_duplicates("run").itertuples():
        print(f"{row.state}: {row.run} ({row.table})")
    print("all bytes verified" if options.verify else NOT_VERIFIED)
    return 0


def plan(options: argparse.Namespace) -> int:
    """What the missing runs of a document, or of all, cost: FLOPs, memory, storage and time; nothing is computed."""
    rates = rates_for(costs.device_of(options), paths.results_dir(options.results_dir))
    names = studies() if options.document == "all" else [options.document]
    if options.document == "all":
        require("profile", options.profile, sorted({profile for name in names for profile in read_entry(name)["profile"]}))
        names = [name for name in names if options.profile in read_entry(name)["profile"]]
    planned = (load_study(name, options.profile, overrides=changes_given(options), **places_given(options)) for name in names)
    for text in costs.reports(planned, rates, options):
        print(text, end="\n\n")
    return 0


@notice.by_signals()
def run(options: argparse.Namespace) -> int:
    """Compute the runs of a study without a notebook; 3 if a budget did not suffice for all, or a signal ended it."""
    _study(options).execute(options.executor, options.mode, options.slots_per_gpu, options.budget)
    return 0


def render(options: argparse.Namespace) -> int:
    """Every table and figure of a study from what is stored; nothing is computed, what is missing is a dash."""
    study = _study(options)
    require_writable("figures_dir", study.folder, "choose a folder you may write to")
    results = study.execute(mode="read-only")
    module = importlib.import_module(f"vitlib.papers.{study.paper}")
    for name in dir(module):
        kind, _, artefact = name.partition("_")
        if kind == "table":
            study.save_table(getattr(module, name)(results), f"table_{artefact}")
        elif kind == "figure":
            figure = getattr(module, name)(results)
            study.save_figure(figure, f"figure_{artefact}")
            if options.columns:
                study.save_column(figure, f"figure_{artefact}")
    if "claim" in study.entry:
        study.save_table(results.claims(), "claims")
    archived = {run_id for run_id, run in results.stored.items() if travel.is_archived(run)}
    if not archived:
        travel.leave(study)
    print(f"{_counted(study, archived)}; artefacts in {study.folder}")
    return 0


def decide_claims(options: argparse.Namespace) -> int:
    """Add seeds where verdicts are open, the cheapest claim first, within a budget; running it again goes on."""
    budget = seconds_of(options.budget)
    declared = _study(options)
    changes = changes_given(options) | decide.with_more_seeds(declared.settings)
    study = load_study(options.document, options.profile, overrides=changes, device=options.device, **places_given(options))
    require_writable("figures_dir", study.folder, "choose a folder you may write to")
    for step in decide.decide(study, declared, budget, options.executor):
        print(f"{step.sentence}: one more seed, about {step.seconds:.0f} s", flush=True)
    board = study.execute(mode="read-only").claims()
    study.save_table(board, "claims")
    print(f"{board[['claim', 'difference', 'n', 'verdict', 'to decide']].to_string(index=False)}\n{study.folder / 'claims.md'}")
    return 0


def show_scoreboard(options: argparse.Namespace) -> int:
    """All documents' claims, corrected once: tables and a figure from what is stored."""
    print(_scoreboard(options))
    return 0


def _scoreboard(options: argparse.Namespace) -> Path:
    from vitlib.studies.verdicts import scoreboard  # it draws, which the other commands do without

    return scoreboard.save([load_study(name, options.profile or "quick", **places_given(options)) for name in documents()])


def _counted(study: Study, archived: set[str]) -> str:
    """How many of a study's own runs are stored, how many others an archive had, and what became of the rest."""
    frame = study.status().drop_duplicates("run")
    states = frame.loc[~frame["run"].isin(archived), "state"].value_counts()
    stored = states.get("stored", 0) + states.get("stale", 0)
    taken = [f"{len(archived)} from {travel.NAME}"] if archived else []
    older = [f"{states['stale']} of them older than the code"] if "stale" in states else []
    others = [f"{states[state]} {state}" for state in ("damaged", "failed", "missing", "absent") if state in states]
    return "; ".join([f"{stored} of {len(study.specs)} runs stored", *older, *taken, *others])


def ship(options: argparse.Namespace) -> int:
    """Trained teachers of a profile into vitlib/teachers/weights, with a manifest of how they were made and what they measure."""
    from vitlib.studies import shipping  # it loads what teachers are measured with

    study = load_study("teachers", options.profile, overrides=changes_given(options), device=options.device, **places_given(options))
    print(shipping.ship(study).to_string(index=False))
    return 0


def verify(options: argparse.Namespace) -> int:
    """Measure the shipped teachers again, beside the manifest; 1 if a figure is off by more than 0.2 points."""
    from vitlib.studies import shipping

    place = Place(paths.results_dir(options.results_dir), paths.data_dir(options.data_dir), options.device)
    frame = shipping.verify(place)
    print(frame.to_string(index=False))
    return int((frame["difference"].abs() > 0.2).any())


def export(options: argparse.Namespace) -> int:
    """The stored runs of a study as one archive."""
    archive.require_place(options.archive)
    study = _study(options)
    store = Store(study.place.results_dir, writable=False)
    family = families(study.specs.values())
    wanted = [run_id for run_id in store.ids() if run_id in family]
    weights = travel.started_from(study, store) if options.needed_weights else not options.without_weights
    archive.export(store, wanted, options.archive, weights)
    print(f"{len(wanted)} runs in {options.archive}")
    return 0


def import_archive(options: argparse.Namespace) -> int:
    """Add the runs of an archive to the store; refused whole if anything in it is not as it should be."""
    archive.require_readable(options.archive)  # before a store is made for it
    added = archive.import_(Store(paths.results_dir(options.results_dir)), options.archive)
    print(f"{len(added)} runs added")
    return 0


def run_notebooks(options: argparse.Namespace) -> int:
    """Every notebook by papermill, then a summary; 1 if one failed, 3 if a budget did not suffice for all."""
    with forks.started() as kernels:
        from vitlib.studies.headless.batch import for_all, run_all, summary  # the other commands do without papermill

        budget = Budget(seconds_of(options.budget)) if options.budget else None
        given = {name: getattr(options, name) for name in ("profile", "executor", "mode", "results_dir", "figures_dir", "data_dir")}
        parameters: dict[str, Any] = {name: value for name, value in given.items() if value}
        if overrides := changes_given(options):
            parameters["overrides"] = overrides
        whole, boards = not options.names and not overrides, []
        beside = partial(_add_scoreboard, boards, options) if whole else lambda: None
        receipts = run_all(options.names or for_all(parameters), parameters, budget, kernels, beside)
    print(summary(receipts))
    became = {receipt.status for receipt in receipts}
    if became - {"done"}:
        return 3 if "unfinished" in became else 1
    if whole:
        print(f"scoreboard of all documents: {boards[0] if boards else _scoreboard(options)}")
    return 0


def _add_scoreboard(boards: list[Path], options: argparse.Namespace) -> None:
    """Beside notebooks; what keeps it from being drawn is said when they are done and it is drawn once more."""
    with suppress(Exception):
        boards.append(_scoreboard(options))


def _study(options: argparse.Namespace) -> Study:
    where = places_given(options) | {"device": options.device, "capture": not vars(options).get("eager", False)}
    study = load_study(options.document, options.profile, overrides=changes_given(options), **where)
    if options.verify_data:
        verify_data(study.specs.values(), study.place)
    return study


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m vitlib", description="Runs, tables and figures of the documents.")
    commands = parser.add_subparsers(required=True, metavar="command")
    places, overrides, device, study = (make() for make in (arguments.places, arguments.overrides, arguments.device, arguments.study))

    _command(commands, "list", list_documents)
    _command(commands, "status", status, study).add_argument("--verify", action="store_true", help="read all bytes of all stored runs")
    planning = _command(commands, "plan", plan, places, overrides)
    planning.add_argument("document", help="a document, or all")
    planning.add_argument("--profile", default="quick")
    costs.add_options(planning)
    computing = _command(commands, "run", run, study)
    for name, default in (("executor", "local"), ("mode", "cached")):
        computing.add_argument(f"--{name}", default=default)
    computing.add_argument("--budget", default="", help=BUDGET)
    computing.add_argument("--eager", action="store_true", help="ask a GPU for every step of a training anew instead of replaying a record")
    computing.add_argument("--slots-per-gpu", type=int, help="runs at once on a GPU, with executors local and ray; default: what fits")
    rendering = _command(commands, "render", render, study)
    rendering.add_argument("--columns", action="store_true", help="each figure also as wide as one column of two: NAME.column.pdf")
    deciding = _command(commands, "decide", decide_claims, study)
    deciding.add_argument("--budget", required=True, help="time to spend: 90s, 60m or 2h")
    deciding.add_argument("--executor", default="local")
    _command(commands, "scoreboard", show_scoreboard, places).add_argument("--profile", default="desk")
    _command(commands, "ship", ship, places, overrides, device).add_argument("--profile", default="micro")
    _command(commands, "verify", verify, places, device)
    exporting = _command(commands, "export", export, study)
    exporting.add_argument("archive", type=path_given)
    less = exporting.add_mutually_exclusive_group()
    less.add_argument("--without-weights", action="store_true", help="whoever goes on from them needs an archive that has them")
    less.add_argument("--needed-weights", action="store_true", help="only of runs that missing ones of the study start from")
    importing = _command(commands, "import", import_archive)
    importing.add_argument("archive", type=path_given)
    importing.add_argument("--results-dir", type=folder_given, default="", help="default: of the checkout")
    batch = _command(commands, "notebooks", run_notebooks, places, overrides)
    batch.add_argument("names", nargs="*")
    for name in ("profile", "executor", "mode"):
        batch.add_argument(f"--{name}", default="", help="default: the notebook's own")
    batch.add_argument("--budget", default="", help=BUDGET)
    for command in (crates, checking, sweeping):
        command.add_to(commands, path_given)
    shell.add_to(commands)
    slurm.add_to(commands, study, _study)
    return parser


def _command(commands, name: str, act, *parents: argparse.ArgumentParser) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=act.__doc__.splitlines()[0], parents=parents)
    command.set_defaults(act=act)
    return command


if __name__ == "__main__":
    sys.exit(main())
