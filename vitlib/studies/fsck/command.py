"""python -m vitlib fsck [--repair]: whether all that is stored is what was written, byte by byte."""

from __future__ import annotations

import argparse
from collections import Counter
from typing import Any

from vitlib import paths
from vitlib.runs.store import Store
from vitlib.studies.fsck.findings import ABOUT, NUMBERS_AT_RISK, Finding, artefacts, findings
from vitlib.studies.fsck.repair import repair
from vitlib.studies.travel import NAME

SHOWN = 20  # of a kind, line by line


def add_to(commands: Any, place: Any) -> None:
    """Add the command to those of `python -m vitlib`; `place` reads a path given on the command line."""
    parser = commands.add_parser("fsck", help=fsck.__doc__.splitlines()[0])
    parser.add_argument("--repair", action="store_true", help="take damaged runs from archives or set them aside, and tidy up")
    parser.add_argument("--results-dir", type=place, default="", help="default: of the checkout")
    parser.add_argument("--figures-dir", type=place, default="", help="where archives lie; default: of the checkout")
    parser.set_defaults(act=fsck)


def fsck(options: argparse.Namespace) -> int:
    """Read everything that is stored; 1 if a run is damaged."""
    store = Store(paths.results_dir(str(options.results_dir)), writable=options.repair)
    figures = paths.figures_dir(str(options.figures_dir))
    found = [*findings(store), *artefacts(figures)]
    print(f"{len(store.ids())} runs in {store.root}: every byte read; {summary(found)}")
    for line in described(found):
        print(line)
    if options.repair:
        for line in repair(store, found, sorted(figures.glob(f"*/*/{NAME}"))):
            print(line)
        found = [*findings(store), *artefacts(figures)]
        print(f"now: {summary(found)}")
    return int(any(finding.kind in NUMBERS_AT_RISK for finding in found))


def summary(found: list[Finding]) -> str:
    """'2 damaged, 1 half-written', or 'all as it should be'."""
    counts = Counter(finding.kind for finding in found)
    return ", ".join(f"{counts[kind]} {kind}" for kind in ABOUT if kind in counts) or "all as it should be"


def described(found: list[Finding]) -> list[str]:
    """What each kind means, and the first of each."""
    lines = []
    for kind, about in ABOUT.items():
        if of_kind := [finding for finding in found if finding.kind == kind]:
            lines.append(f"{kind}: {about}")
            lines += [f"  {finding.name}{f': {finding.said}' if finding.said else ''}" for finding in of_kind[:SHOWN]]
            lines += [f"  and {len(of_kind) - SHOWN} more"] if len(of_kind) > SHOWN else []
    return lines
