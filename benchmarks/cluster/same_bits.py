"""The smoke studies of all documents by every executor: the same identities, and the same bits but for times.

    python -m benchmarks.cluster.same_bits [DOCUMENT ...]

Inline, local workers, four drivers on one store, and Ray on two nodes of this machine; a table, and same_bits.json beside this file, where
the rows of other documents stay.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.cluster.nodes import cluster
from benchmarks.cluster.ways import WAYS, digests, finish, keep, kept, left_behind, start
from vitlib.grid.entries import read_entry, studies
from vitlib.studies.loading import load_study

RESULT = Path(__file__).with_suffix(".json")


def main(names: list[str]) -> int:
    """1 where anything differs that is not a time."""
    names = names or [name for name in studies() if "smoke" in read_entry(name)["profile"]]
    with tempfile.TemporaryDirectory() as folder, cluster(2):
        rows = [row for name in names for row in compared(name, Path(folder))]
    frame = pd.DataFrame(rows)
    print(frame.to_string(index=False))
    keep(RESULT, __doc__, [row for row in kept(RESULT) if row["document"] not in names] + rows)
    return int(bool(frame["other identities"].sum() or frame["other bits"].sum() or frame["left behind"].sum()))


def compared(name: str, folder: Path) -> list[dict[str, Any]]:
    """A row a way, compared with inline."""
    study = load_study(name, "smoke", device="cpu")
    timed = {run.id for spec in study.specs.values() for run in spec.family() if run.timed}
    found, rows = {}, []
    for way in WAYS:
        results, began = folder / name / way, time.monotonic()
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


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
