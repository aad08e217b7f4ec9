"""A study computed by one of several ways in processes of their own, as a person starts them, and what it leaves."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks._paired import machine

DRIVERS = 4
WAYS = {"inline": ("inline", 1), "local": ("local", 1), "drivers": ("inline", DRIVERS), "ray": ("ray", 1)}  # executor, processes


def start(way: str, document: str, results: Path) -> list[subprocess.Popen]:
    """The smoke study; for Ray, on the cluster that RAY_ADDRESS names."""
    executor, count = WAYS[way]
    command = [sys.executable, "-m", "vitlib", "run", document, "--profile", "smoke", "--device", "cpu", "--executor", executor]
    how = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True, "env": os.environ | {"OMP_NUM_THREADS": "1"}}
    return [subprocess.Popen([*command, "--results-dir", str(results)], **how) for _ in range(count)]


def finish(drivers: list[subprocess.Popen], killed: tuple[subprocess.Popen, ...] = ()) -> None:
    """Wait for all of them.

    Raises:
        RuntimeError: if one failed that was not killed.
    """
    for driver in drivers:
        said = driver.communicate()[1]
        if driver.returncode and driver not in killed:
            raise RuntimeError(said)


def written(results: Path) -> dict[str, tuple[int, int]]:
    """When each stored run was written, and the file that holds it: another one would be another computation."""
    found = {}
    for path in results.glob("[!.]*/manifest.json"):
        stat = path.stat()
        found[path.parent.name] = (stat.st_mtime_ns, stat.st_ino)
    return found


def digests(results: Path) -> dict[str, dict[str, str]]:
    """SHA-256 of each run's files but for its provenance, by id and name."""
    manifests = {path.parent.name: json.loads(path.read_text()) for path in sorted(results.glob("[!.]*/manifest.json"))}
    return {run_id: {name: digest for name, digest in of.items() if name != "provenance.json"} for run_id, of in manifests.items()}


def left_behind(results: Path) -> list[str]:
    """Files of runs that are not stored, locks, checkpoints and failures."""
    folders = (results / name for name in (".partial", ".scratch", ".claims", ".damaged", ".failed"))
    return sorted(str(path.relative_to(results)) for folder in folders for path in folder.rglob("*") if path.is_file())


def kept(result: Path) -> list[dict[str, Any]]:
    """Rows of an earlier measurement."""
    return json.loads(result.read_text())["rows"] if result.exists() else []


def keep(result: Path, what: str, rows: list[dict[str, Any]]) -> None:
    about = machine("cpu", *(package for package in ("torch", "ray") if find_spec(package)))
    result.write_text(json.dumps({"what": what.splitlines()[0], **about, "rows": rows}, indent=1) + "\n")
