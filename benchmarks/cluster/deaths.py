"""kill -9 in the middle of a study, again and again: does it complete, is anything stored computed twice, what time is lost?

    python -m benchmarks.cluster.deaths [--tries 10] [WAY:VICTIM ...]

The teachers' smoke study (14 runs) by local workers, by four drivers on one store, and by Ray on three nodes of this machine. Each kill
comes when a random number of runs is stored, and up to half a second later; a try whose study was over before is made anew. A killed
driver is started again, unless others go on. Time lost is the time until all is stored less the median of undisturbed studies. A table,
and deaths.json beside this file, where rows of others stay.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.cluster.nodes import Nodes, below, cluster, processes, until
from benchmarks.cluster.ways import digests, finish, keep, kept, left_behind, start, written
from vitlib.studies.loading import load_study

RESULT = Path(__file__).with_suffix(".json")
DOCUMENT = "teachers"
UNDISTURBED = 3  # studies that nothing happens to
LATEST = 8  # of the 14 runs that are stored when the kill comes
LATER = 0.5  # seconds after that, at most
WORKER = "vitlib.runs.workers.worker"


class TooLateError(Exception):
    """The study was over before the kill."""


@dataclass
class Try:
    """One study under way."""

    way: str
    results: Path
    nodes: Nodes | None
    drivers: list[subprocess.Popen] = field(default_factory=list)
    killed: list[subprocess.Popen] = field(default_factory=list)

    def kill_driver(self) -> None:
        """The first one; where it was alone, another takes its place at once."""
        victim = self.drivers[0]
        self.require_under_way()
        victim.kill()
        victim.wait()
        self.killed.append(victim)
        if len(self.drivers) == 1:
            self.drivers += start(self.way, DOCUMENT, self.results)

    def kill_worker(self) -> None:
        found = until(lambda: self._computing() or self._over())
        self.require_under_way()
        os.kill(found[0], signal.SIGKILL)

    def kill_node(self) -> None:
        self.require_under_way()
        self.nodes.kill()

    def require_under_way(self) -> None:
        """Raises TooLateError where all drivers have ended."""
        if self._over():
            raise TooLateError

    def _over(self) -> bool:
        return all(driver.poll() is not None for driver in self.drivers)

    def _computing(self) -> list[int]:
        if self.way == "ray":
            return self.nodes.computing()
        ours = below(self.drivers[0].pid)
        return [process for process, title in processes() if process in ours and WORKER in title]


VICTIMS: dict[str, Callable[[Try], None]] = {
    "local:worker": Try.kill_worker,
    "local:driver": Try.kill_driver,
    "drivers:driver": Try.kill_driver,
    "ray:worker": Try.kill_worker,
    "ray:driver": Try.kill_driver,
    "ray:node": Try.kill_node,
}


def main() -> int:
    """1 where a study did not complete with the bits of an undisturbed one, or computed twice what was stored."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tries", type=int, default=10)
    parser.add_argument("victims", nargs="*", default=list(VICTIMS))
    options = parser.parse_args()
    rows = []
    for way in dict.fromkeys(victim.partition(":")[0] for victim in options.victims):
        with tempfile.TemporaryDirectory() as folder, cluster(3) if way == "ray" else contextlib.nullcontext() as nodes:
            whole = [undisturbed(way, Path(folder) / f"whole{number}") for number in range(UNDISTURBED)]
            usual, expected = statistics.median(seconds for seconds, _ in whole), whole[0][1]
            for victim in (victim for victim in options.victims if victim.startswith(f"{way}:")):
                made = (tried(victim, Path(folder) / f"{victim}{number}", nodes, random.Random(number)) for number in itertools.count())
                tries = list(itertools.islice(filter(None, made), options.tries))
                rows.append(summary(victim, tries, usual, expected))
                keep(RESULT, __doc__, [row for row in kept(RESULT) if f"{row['way']}:{row['killed']}" != victim] + rows[-1:])
    print(pd.DataFrame(rows).to_string(index=False))
    return int(any(row["completed"] < row["tries"] or row["computed twice"] or row["other bits"] for row in rows))


def undisturbed(way: str, results: Path) -> tuple[float, dict[str, dict[str, str]]]:
    began = time.monotonic()
    finish(start(way, DOCUMENT, results))
    return time.monotonic() - began, digests(results)


def tried(victim: str, results: Path, nodes: Nodes | None, moments: random.Random) -> dict[str, Any] | None:
    """What became of a study in whose middle something was killed; None where it was over before. A node that died is replaced."""
    way, began = victim.partition(":")[0], time.monotonic()
    run = Try(way, results, nodes, start(way, DOCUMENT, results))
    count = moments.randrange(1, LATEST)
    until(lambda: len(written(results)) >= count, patience=600)
    time.sleep(moments.uniform(0, LATER))
    before = written(results)
    try:
        VICTIMS[victim](run)
    except TooLateError:
        finish(run.drivers)
        return None
    finish(run.drivers, tuple(run.killed))
    seconds = time.monotonic() - began
    if victim == "ray:node":
        nodes.add()
    after = written(results)
    again = [run_id for run_id, file in before.items() if after.get(run_id) != file]
    print(victim, f"killed at {len(before)} stored, {seconds:.1f} s", file=sys.stderr, flush=True)
    return {"seconds": seconds, "again": len(again), "digests": digests(results), "left": left_behind(results)}


def summary(victim: str, tries: list[dict[str, Any]], usual: float, expected: dict[str, dict[str, str]]) -> dict[str, Any]:
    lost = sorted(found["seconds"] - usual for found in tries)
    study = load_study(DOCUMENT, "smoke", device="cpu")
    timed = {run.id for spec in study.specs.values() for run in spec.family() if run.timed}
    others = [run_id for found in tries for run_id in expected.keys() - timed if found["digests"].get(run_id) != expected[run_id]]
    return {
        "way": victim.partition(":")[0],
        "killed": victim.partition(":")[2],
        "tries": len(tries),
        "completed": sum(found["digests"].keys() == expected.keys() for found in tries),
        "computed twice": sum(found["again"] for found in tries),
        "other bits": len(others),
        "left behind": sum(len(found["left"]) for found in tries),
        "undisturbed s": round(usual, 1),
        "lost s, median": round(statistics.median(lost), 1),
        "lost s, most": round(lost[-1], 1),
    }


if __name__ == "__main__":
    sys.exit(main())
