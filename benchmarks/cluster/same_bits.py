"""The smoke studies of all documents by every executor: the same identities, and the same bits but for times.

    python -m benchmarks.cluster.same_bits [--ways inline slurm] [DOCUMENT ...]

Inline, local workers, four drivers on one store, Ray on two nodes of this machine, and an array of four jobs of a Slurm on it; a table, and
same_bits.json beside this file, where the rows of other documents and ways stay.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.cluster.nodes import cluster
from benchmarks.cluster.ways import WAYS, digests, finish, keep, kept, left_behind, start
from tests.studies.slurm.cluster import Cluster
from tests.support import ROOT
from vitlib.grid.entries import read_entry, studies
from vitlib.studies.loading import load_study

RESULT = Path(__file__).with_suffix(".json")


def main() -> int:
    """1 where anything differs that is not a time."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ways", nargs="*", default=[*WAYS, "slurm"], help="inline, which the others are compared with, comes first")
    parser.add_argument("names", nargs="*", default=[name for name in studies() if "smoke" in read_entry(name)["profile"]])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        if "ray" in options.ways:
            stack.enter_context(cluster(2))
        slurm = stack.enter_context(Cluster(Path(folder))) if "slurm" in options.ways else None
        rows = [row for name in options.names for row in compared(name, Path(folder), options.ways, slurm)]
    frame = pd.DataFrame(rows)
    print(frame.to_string(index=False))
    anew = {(row["document"], row["way"]) for row in rows}
    keep(RESULT, __doc__, [row for row in kept(RESULT) if (row["document"], row["way"]) not in anew] + rows)
    return int(bool(frame["other identities"].sum() or frame["other bits"].sum() or frame["left behind"].sum()))


def compared(name: str, folder: Path, ways: list[str], slurm: Cluster | None) -> list[dict[str, Any]]:
    """A row a way, compared with inline."""
    study = load_study(name, "smoke", device="cpu")
    timed = {run.id for spec in study.specs.values() for run in spec.family() if run.timed}
    found, rows = {}, []
    for way in ways:
        results, began = folder / name / way, time.monotonic()
        if way == "slurm":
            by_an_array(slurm, name, results)
        else:
            finish(start(way, name, results))
        seconds, found[way] = time.monotonic() - began, digests(results)
        alone = found["inline"]
        differing = {run_id for run_id in alone.keys() & found[way].keys() if alone[run_id] != found[way][run_id]}
        rows.append(
            {
                "document": name,
                "way": way,
                "runs": len(found[way]),
                "seconds": round(seconds, 1),
                "other identities": len(alone.keys() ^ found[way].keys()),
                "other bits": len(differing - timed),
                "times": len(timed & alone.keys()),
                "left behind": len(left_behind(results)),
            }
        )
        print(rows[-1], file=sys.stderr, flush=True)
    return rows


def by_an_array(slurm: Cluster, name: str, results: Path) -> None:
    """Four jobs of one driver each."""
    arguments = [name, "--profile", "smoke", "--device", "cpu", "--results-dir", str(results)]
    slurm.end_of(slurm.submit(ROOT / "slurm" / "drivers.sh", *arguments, options=("--mem=1500", "--array=0-3")), 1200)


if __name__ == "__main__":
    sys.exit(main())
