"""`python -m tests.faults.mutants [NAME ...]`: make each fault, see whether the tests notice, keep the counts in docs/reliability.md.

A NAME is part of a fault's name; without one all are tried. What was found is kept until the fault or its tests change, so that a run
which was broken off goes on.
"""

import argparse
import hashlib
import json
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

from tests.faults.counted import keep
from tests.faults.mutants.declared import AREAS, FAULTS
from tests.faults.mutants.fault import Fault
from tests.faults.mutants.trying import Copy, Outcome
from tests.support import ROOT

KEPT = Path(tempfile.gettempdir(), "vitlib-mutants.json")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.mutants", description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="part of a fault's name")
    names = parser.parse_args().names
    asked = [fault for fault in FAULTS if not names or any(name in fault.name for name in names)]
    found = {key: Outcome(**kept) for key, kept in (json.loads(KEPT.read_text()) if KEPT.exists() else {}).items()}
    with tempfile.TemporaryDirectory(prefix="mutants") as folder:
        copy = Copy(Path(folder))
        for place, fault in enumerate(asked, 1):
            began = time.monotonic()
            if _key(fault) not in found:
                found[_key(fault)] = copy.outcome(fault)
                KEPT.write_text(json.dumps({key: asdict(outcome) for key, outcome in found.items()}, indent=1))
            outcome = found[_key(fault)]
            print(f"{place}/{len(asked)} {outcome.what} | {fault.name} | {outcome.noticed} | {time.monotonic() - began:.0f} s", flush=True)
    outcomes = {fault.name: found[_key(fault)] for fault in FAULTS if _key(fault) in found}
    if len(outcomes) == len(FAULTS):
        keep("mutants", report(outcomes))


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


def _key(fault: Fault) -> str:
    """Of the fault, the file that it is made in, and the tests."""
    named = [path for place in fault.tests for path in ([ROOT / place] if place.endswith(".py") else sorted((ROOT / place).rglob("*.py")))]
    content = b"".join(path.read_bytes() for path in [ROOT / fault.file, *named])
    return f"{fault.name}: {hashlib.sha256(repr(fault).encode() + content).hexdigest()[:16]}"


if __name__ == "__main__":
    main()
