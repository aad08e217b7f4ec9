"""python -m vitlib gc: what of a store nobody asks for any more, and, with --delete, its removal."""

from __future__ import annotations

import argparse
import re
from typing import Any

import pandas as pd

from vitlib import paths
from vitlib.messages import brief
from vitlib.runs.claims.asking import Asking
from vitlib.runs.manifest import StoreError
from vitlib.runs.store import Store
from vitlib.spec import SpecError
from vitlib.studies.sweeping import contents, removal
from vitlib.studies.sweeping.asked import asked

UNITS = {"m": 60, "h": 3600, "d": 86400}
GOES = {contents.OUTDATED, contents.BROKEN}
ALSO = {"own": contents.OTHERS}


def add_to(commands: Any, place: Any) -> None:
    """Add the command to those of `python -m vitlib`; `place` reads a path given on the command line."""
    parser = commands.add_parser("gc", help=gc.__doc__.splitlines()[0])
    parser.add_argument("--delete", action="store_true", help="remove it; without this, only say what would go")
    parser.add_argument("--also", choices=ALSO, action="append", default=[], help="own: runs of settings of your own, kept otherwise")
    parser.add_argument("--older-than", default="1d", help="age of the runs that may go, such as 12h; default: a day")
    parser.add_argument("--leftovers-older-than", default="14d", help="of checkpoints, failures and damaged runs; default: two weeks")
    parser.add_argument("--list", action="store_true", help="name each run that would go")
    for name in ("results-dir", "figures-dir", "data-dir"):
        parser.add_argument(f"--{name}", type=place, default="", help="default: of the checkout")
    parser.set_defaults(act=gc)


def gc(options: argparse.Namespace) -> int:
    """What of the store no study asks for: runs and MiB by reason; with --delete it is removed."""
    limits = contents.Limits(seconds("older_than", options.older_than), seconds("leftovers_older_than", options.leftovers_older_than))
    places = {name: str(getattr(options, name) or "") for name in ("results_dir", "figures_dir", "data_dir")}
    root = paths.results_dir(places["results_dir"])
    if not root.is_dir():
        raise StoreError(f"results_dir: {root} does not exist; allowed: the folder of a store")
    store, wanted = Store(root, writable=options.delete), asked(places)
    if wanted.unclear and options.also:
        raise SpecError(f"also: some studies cannot be described here, so that not all that is asked for is known: {_why(wanted.unclear)}")
    goes = GOES | {ALSO[name] for name in options.also}
    found = contents.sorted_out(store, wanted.ids, _busy(store, options.delete), limits, goes)
    going = [run_id for reason in goes for run_id in found.get(reason, [])]
    left = list(removal.leftovers(store, wanted.ids, limits.leftovers))
    print(_table(store, found, goes, left).to_string(index=False))
    if wanted.unclear:
        print(f"not described here, so that nothing of today's code goes: {_why(wanted.unclear)}")
    if options.list:
        print("\n".join([*going, *(f"{each.kind}: {each.path.name}" for each in left)]))
    if not options.delete:
        print("nothing was removed; --delete does it")
        return 0
    removal.empty(store)
    runs, rest = removal.remove_runs(store, going), removal.remove_leftovers(store, left)
    print(
        f"removed: {len(runs)} of {len(going)} runs, {len(rest)} of {len(left)} leftovers; the others were claimed or asked for meanwhile"
    )
    return 0


def seconds(name: str, text: str) -> float:
    """An age such as `12h`.

    Raises:
        SpecError: for anything else.
    """
    if not (found := re.fullmatch(r"(\d+(?:\.\d+)?)([mhd])", text)):
        raise SpecError(f"{name}: got {brief(text)}; allowed: a number with m, h or d, for instance 12h")
    return float(found[1]) * UNITS[found[2]]


def _busy(store: Store, writable: bool) -> set[str]:
    """Runs that are claimed, and those that drivers at work asked for; a store that is only looked at is not written to.

    Where it is not, a claim or note whose holder died counts too.
    """
    if writable:
        store.sweep()
    claimed = {path.name for path in store.root.glob(".claims/*")}
    return claimed | (Asking(store).now() if writable else noted(store))


def noted(store: Store) -> set[str]:
    return set().union(*(path.read_text(encoding="utf-8", errors="replace").split() for path in store.root.glob(".asked/*")))


def _table(store: Store, found: dict[str, list[str]], goes: set[str], left: list[removal.Leftover]) -> pd.DataFrame:
    rows = [
        _row("goes", reason, ids, sum(contents.mib(store.root / run_id) for run_id in ids)) if reason in goes else _row("kept", reason, ids)
        for reason, ids in found.items()
    ]
    for kind in dict.fromkeys(each.kind for each in left):
        mine = [each for each in left if each.kind == kind]
        rows.append(_row("goes", f"left of runs: {kind}", mine, sum(contents.mib(each.path) for each in mine)))
    return pd.DataFrame([row for row in rows if row["number"]] or [_row("kept", "nothing is stored", [])])


def _row(what: str, reason: str, ids: list[Any], size: float | None = None) -> dict[str, Any]:
    return {"": what, "number": len(ids), "MiB": "" if size is None else f"{size:.1f}", "reason": reason}


def _why(unclear: dict[str, str]) -> str:
    return "; ".join(f"{study} ({brief(reason)})" for study, reason in unclear.items())
