"""The main job as a newcomer meets it: `make figures` without stored results (cold) and with them (warm), installation apart.

Writes first_hour.json: seconds in all, of the processor, and until the first table lies in figures/, and what each notebook took.
`python benchmarks/first_hour.py [times]` gives the command of `make figures` empty folders: cold once and warm `times` times (default 3).
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
COMMAND = [sys.executable, "-m", "vitlib", "notebooks", "--profile", "quick", "--mode", "cached"]


def main(warm: int = 3) -> None:
    with tempfile.TemporaryDirectory() as folder:
        rows = [measured(Path(folder), kind) for kind in ["cold"] + warm * ["warm"]]
    about = {"cores": os.cpu_count(), "command": " ".join(["python", *COMMAND[1:]]), "calls": rows}
    Path(__file__).with_suffix(".json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")


def measured(folder: Path, kind: str) -> dict:
    """One call: figures go to a folder of their own, results to the common one."""
    figures = Path(tempfile.mkdtemp(dir=folder))
    places = {"VITLIB_RESULTS": str(folder / "results"), "VITLIB_FIGURES": str(figures)}
    before, began = _processor(), time.time()
    subprocess.run(COMMAND, cwd=ROOT, env=os.environ | places, check=True)
    row = {
        "kind": kind,
        "seconds": round(time.time() - began, 1),
        "processor seconds": round(_processor() - before),
        "first table after": round(min(table.stat().st_mtime for table in figures.rglob("*.csv")) - began, 1),
        "notebooks": {path.parent.parent.name: _seconds(path) for path in sorted(figures.rglob("receipt.json"))},
    }
    print(json.dumps(row), flush=True)
    return row


def _seconds(receipt: Path) -> float:
    return json.loads(receipt.read_text(encoding="utf-8"))["seconds"]


def _processor() -> float:
    """Of this process's ended children, and theirs."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
