"""python -m vitlib crate [DOCUMENT ...] --profile P --out FOLDER: artefacts with their provenance, to be deposited."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from vitlib import paths
from vitlib.runs.manifest import StoreError
from vitlib.studies.crate import contents, writing


def add_to(commands: Any, place: Any) -> None:
    """Add the command to those of `python -m vitlib`; `place` reads a path given on the command line."""
    parser = commands.add_parser("crate", help=crate.__doc__.splitlines()[0])
    parser.add_argument("documents", nargs="*", metavar="document", help="default: all that have artefacts")
    parser.add_argument("--profile", default="quick", help="whose artefacts; the name of a changed study's folder, too")
    parser.add_argument("--out", type=place, help="a new folder, or an earlier crate; default: build/crate-PROFILE of the checkout")
    parser.add_argument("--figures-dir", type=place, help="default: of the checkout")
    parser.set_defaults(act=crate)


def crate(options: argparse.Namespace) -> int:
    """Tables, figures, notebooks and results with what made them, as an RO-Crate (Process Run Crate)."""
    writing.require_library()
    shown = paths.figures_dir(str(options.figures_dir or ""))
    out: Path = options.out or paths.root() / "build" / f"crate-{options.profile}"
    folders = contents.found(options.documents, options.profile, shown)
    written = writing.write(folders, contents.cited(), options.profile, out)
    if damaged := writing.broken(out):
        raise StoreError(f"out: {', '.join(damaged)} changed while the crate was written; write it again")
    made = len(written.get_by_type("CreateAction"))
    files = sum(len(each.files) for each in folders)
    print(f"{files} files of {len(folders)} folders, {made} executed notebooks, in {out / writing.METADATA}")
    if silent := [each.document for each in folders if each.receipt is None]:
        print(f"no receipt, so that nothing is said of how it was made: {', '.join(silent)}")
    return 0
