"""What `plan` says a document takes, beside what it takes: every document at `quick`, nothing stored.

Writes plan_times.json: seconds by plan, with rates measured before and after, and by the clock. Target: within 25 % a document.
`python benchmarks/plan_times.py [documents]`, a quarter of an hour on a quiet machine: rates measured beside other work say little.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from vitlib.studies.costs.schedule import wall
from vitlib.studies.costs.speed.machine import rates_for
from vitlib.studies.costs.table import family
from vitlib.studies.loading import load_study, read_entry, studies
from vitlib.training.work.registry import Sets

PROFILE = "quick"


def main(*documents: str) -> None:
    for name in documents or [name for name in studies() if PROFILE in read_entry(name)["profile"]]:
        keep(measured(name))


def keep(row: dict) -> None:
    """In place of what was found of the document before."""
    file = Path(__file__).with_suffix(".json")
    rows = json.loads(file.read_text(encoding="utf-8"))["documents"] if file.exists() else []
    rows = sorted([other for other in rows if other["document"] != row["document"]] + [row], key=lambda row: row["document"])
    file.write_text(json.dumps({"cores": os.cpu_count(), "profile": PROFILE, "documents": rows}, indent=1) + "\n", encoding="utf-8")


def measured(document: str) -> dict:
    with tempfile.TemporaryDirectory() as folder:
        before = planned(document, Path(folder, "before"))
        began = time.monotonic()
        command = [sys.executable, "-m", "vitlib", "run", document, "--profile", PROFILE, "--results-dir", str(Path(folder, "results"))]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        took = time.monotonic() - began
        after = planned(document, Path(folder, "after"))
    row = {"document": document, "seconds": took, "by plan": before, "by plan, afterwards": after}
    row = {key: round(value, 1) if isinstance(value, float) else value for key, value in row.items()}
    row["plan / clock"] = round((before + after) / 2 / took, 2)
    print(json.dumps(row), flush=True)
    return row


def planned(document: str, results: Path) -> float:
    """Seconds of a command that computes all, by rates that are measured now."""
    study = load_study(document, PROFILE, results_dir=str(results))
    return wall([*family(study).values()], rates_for("auto", results), Sets(study.place.data_dir))


if __name__ == "__main__":
    main(*sys.argv[1:])
