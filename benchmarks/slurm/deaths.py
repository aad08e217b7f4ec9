"""An array of four drivers under Slurm, undisturbed, with one killed, one told to end, or their node dead: what time is lost?

    python -m benchmarks.slurm.deaths [--tries 10]

DeiT's smoke study on one node with four slots, started and ended here (Debian: slurm-wlm and munge). Each blow falls when a random number
of runs is stored. `kill`: -9 for who holds the oldest claim; its job does not come back, the others go on. `told`: USR1 for one of the
jobs, which is requeued and goes on (some seconds later here, about two minutes in a Slurm with usual settings). `node`: -9 for the node's
daemon and all that runs there; it comes back at once, and Slurm puts its jobs into the queue again. Time until all is stored, and, for a
killed driver, how long its run had been at work, and how long until another driver had claimed that run or stored it. A table, and
deaths.json beside this file.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks._paired import machine
from tests.studies.slurm.cluster import Cluster
from tests.support import ROOT

RESULT = Path(__file__).with_suffix(".json")
RUNS, JOBS = 32, 4


def main() -> int:
    """1 where a study did not complete, computed twice what was stored, or has other bits."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tries", type=int, default=10)
    parser.add_argument("blows", nargs="*", default=list(BLOWS), help="the rows of the others stay")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="slurm") as folder, Cluster(Path(folder)) as cluster:
        whole = [study(cluster, Path(folder) / f"whole{number}", random.Random(number), "") for number in range(3)]
        rows = [row("undisturbed", whole, whole)]
        for blow in options.blows:
            tries = (study(cluster, Path(folder) / f"{blow}{number}", random.Random(number), blow) for number in range(options.tries))
            rows.append(row(blow, list(tries), whole))
    kept = json.loads(RESULT.read_text())["rows"] if RESULT.exists() else []
    rows += [each for each in kept if each["what"] not in (*options.blows, "undisturbed")]
    print(pd.DataFrame(rows).fillna("").to_string(index=False))
    about = {"what": __doc__.splitlines()[0], **machine("cpu", "torch"), "load": os.getloadavg()[0], "rows": rows}
    RESULT.write_text(json.dumps(about, indent=1) + "\n")
    return int(any(row["completed"] < row["tries"] or row["computed twice"] or row["other bits"] for row in rows))


def study(cluster: Cluster, results: Path, moments: random.Random, blow: str) -> dict[str, Any]:
    """Seconds from the submission to the last stored run, and what became of what was stored before the blow."""
    arguments = ["deit", "--profile", "smoke", "--device", "cpu", "--results-dir", str(results)]
    options = ("--mem=1500", "--time=10", f"--array=0-{JOBS - 1}", *(["--no-requeue"] if blow == "kill" else []))
    began = time.monotonic()
    job = cluster.submit(ROOT / "slurm" / "drivers.sh", *arguments, options=options)
    found: dict[str, Any] = {"again": 0}
    if blow:
        count = moments.randrange(1, 26)
        cluster.wait_till(lambda: len(written(results)) >= count, 300)
        before = written(results)
        found |= BLOWS[blow](cluster, results, job)
    cluster.wait_till(lambda: len(written(results)) == RUNS, 600)
    found["seconds"] = time.monotonic() - began
    cluster.end_of(job, 600)
    if blow:
        found["again"] = sum(written(results).get(run_id) != file for run_id, file in before.items())
    found["digests"] = digests(results)
    print(blow or "undisturbed", {name: value for name, value in found.items() if name != "digests"}, file=sys.stderr, flush=True)
    return found


def killed(cluster: Cluster, results: Path, job: str) -> dict[str, float]:
    """Kill the holder of the oldest claim, and wait for another one."""
    run_id, process, since = a_holder(cluster, results)
    work = time.time() - since
    cluster.kill(process)
    began = time.monotonic()
    cluster.wait_till(lambda: (results / run_id).exists() or holder(results / ".claims" / run_id) not in (None, process), 300)
    return {"work": work, "taken up": time.monotonic() - began}


def told(cluster: Cluster, results: Path, job: str) -> dict[str, float]:
    """USR1 to one job of the array, and wait until it is back at work."""
    one = f"{job}_{random.Random(len(written(results))).randrange(JOBS)}"
    began = time.monotonic()
    cluster.asked("scancel", "--batch", "--signal=USR1", one)
    cluster.wait_till(lambda: cluster.states(one) <= {"PENDING"}, 300)
    queued = time.monotonic() - began
    cluster.wait_till(lambda: cluster.states(one) in ({"RUNNING"}, set()), 300)
    return {"queued after": queued, "back after": time.monotonic() - began}


def node_killed(cluster: Cluster, results: Path, job: str) -> dict[str, float]:
    """Wait until a driver is at work again."""
    began = time.monotonic()
    cluster.kill_node()
    cluster.wait_till(lambda: len(written(results)) == RUNS or bool(cluster.drivers(results)), 600)
    return {"back after": time.monotonic() - began}


BLOWS = {"kill": killed, "told": told, "node": node_killed}


def a_holder(cluster: Cluster, results: Path) -> tuple[str, int, float]:
    """The oldest claim of a run: its id, its process and since when. Drivers claim a name of their own too, which nobody takes up."""
    found: list[tuple[str, int, float]] = []

    def look() -> bool:
        paths = [path for path in results.glob(".claims/*") if not path.name.startswith("driver-") and holder(path)]
        found[:] = [(path.name, holder(path), path.stat().st_mtime) for path in paths if path.exists()]
        return any(process for _, process, _ in found)

    cluster.wait_till(look, 300)
    return min((each for each in found if each[1]), key=lambda each: each[2])


def holder(claim: Path) -> int | None:
    try:
        return json.loads(claim.read_text())["process"]
    except (OSError, ValueError):
        return None


def written(results: Path) -> dict[str, tuple[int, int]]:
    """When each stored run was written, and the file that holds it."""
    found = ((path.parent.name, path.stat()) for path in results.glob("[!.]*/manifest.json"))
    return {run_id: (stat.st_mtime_ns, stat.st_ino) for run_id, stat in found}


def digests(results: Path) -> dict[str, dict[str, str]]:
    """SHA-256 of each run's files but for its provenance; of those that measure time, nothing."""
    manifests = {path.parent.name: json.loads(path.read_text()) for path in results.glob("[!.]*/manifest.json")}
    return {
        run_id: {} if run_id.startswith("throughput") else {name: digest for name, digest in of.items() if name != "provenance.json"}
        for run_id, of in manifests.items()
    }


def row(name: str, found: list[dict[str, Any]], whole: list[dict[str, Any]]) -> dict[str, Any]:
    usual = statistics.median(each["seconds"] for each in whole)
    expected = whole[0]["digests"]

    def of(what: str) -> str:
        values = sorted(each[what] for each in found if what in each)
        return f"{statistics.median(values):.1f} ({values[0]:.1f} to {values[-1]:.1f})" if values else ""

    return {
        "what": name,
        "tries": len(found),
        "completed": sum(each["digests"].keys() == expected.keys() for each in found),
        "computed twice": sum(each["again"] for each in found),
        "other bits": sum(each["digests"].get(run_id) != expected[run_id] for each in found for run_id in expected),
        "s": of("seconds"),
        "undisturbed s": round(usual, 1),
        "lost s": round(statistics.median(each["seconds"] for each in found) - usual, 1),
        "work lost s": of("work"),
        "taken up after s": of("taken up"),
        "queued after s": of("queued after"),
        "back after s": of("back after"),
    }


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    sys.exit(main())
