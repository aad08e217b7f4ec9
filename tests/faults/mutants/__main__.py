"""`python -m tests.faults.mutants [NAME ...]`: make each fault, see whether the tests notice, keep the counts in docs/reliability.md.

A NAME is part of a fault's name; without one all are tried. What was found is kept until the fault or its tests change, so that a run
which was broken off goes on.
"""

import argparse
import hashlib
import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from tests.faults.counted import keep
from tests.faults.mutants.declared import AREAS, FAULTS
from tests.faults.mutants.fault import Fault
from tests.faults.mutants.trying import Copy, Outcome, room
from tests.support import ROOT

KEPT = Path(tempfile.gettempdir(), "vitlib-mutants.json")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.mutants", description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="part of a fault's name")
    names = parser.parse_args().names
    asked = [fault for fault in FAULTS if not names or any(name in fault.name for name in names)]
    with tempfile.TemporaryDirectory(prefix="mutants") as folder, Copy(Path(folder)) as copy:
        found = {fault.name: _kept(copy, fault, fault.tests) for fault in asked}
        found |= {fault.name: _kept(copy, fault, room(fault)) for fault in asked if found[fault.name].what == "lived"}
        copy.require_sound(sorted({outcome.noticed for outcome in found.values() if outcome.what == "caught"}))
    if len(found) == len(FAULTS):
        keep("mutants", report(found))


def _kept(copy: Copy, fault: Fault, places: Sequence[str]) -> Outcome:
    """What tests say to a fault, or said before."""
    key, kept = _key(fault, places), json.loads(KEPT.read_text()) if KEPT.exists() else {}
    began = time.monotonic()
    if key not in kept:
        kept[key] = asdict(copy.outcome(fault, places))
        KEPT.write_text(json.dumps(kept, indent=1))
    outcome = Outcome(**kept[key])
    print(f"{outcome.what} | {fault.name} | {outcome.noticed or ' '.join(places)} | {time.monotonic() - began:.0f} s", flush=True)
    return outcome


def report(outcomes: dict[str, Outcome]) -> str:
    """Counts by area, and what lived."""
    lines = ["| faults in | made | caught | of them by a hang | lived |", "|:--|--:|--:|--:|--:|"]
    lines += [_row(area, [outcomes[fault.name].what for fault in faults]) for area, faults in AREAS.items()]
    lines.append(_row("all", [outcome.what for outcome in outcomes.values()]))
    lived = [f"- {fault.name}: {fault.does}." for fault in FAULTS if outcomes[fault.name].what == "lived"]
    return "\n".join([*lines, "", *(["Those that lived:", "", *lived] if lived else ["None lived."])])


def _row(area: str, found: list[str]) -> str:
    lived, hung = found.count("lived"), found.count("hung")
    return f"| {area} | {len(found)} | {len(found) - lived} | {hung} | {lived} |"


def _key(fault: Fault, places: Sequence[str]) -> str:
    """Of the fault, the file that it is made in, and the tests."""
    found = [path for place in map(ROOT.joinpath, places) for path in ([place] if place.is_file() else sorted(place.rglob("*.py")))]
    content = b"".join(path.read_bytes() for path in [ROOT / fault.file, *found])
    return f"{fault.name}: {hashlib.sha256(repr((fault, places)).encode() + content).hexdigest()[:16]}"


if __name__ == "__main__":
    main()
