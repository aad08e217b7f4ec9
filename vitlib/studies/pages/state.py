"""What is stored of every document at a profile, in one table: what the start notebook shows."""

from __future__ import annotations

import pandas as pd

from vitlib.grid.entries import documents
from vitlib.studies.loading import load_study

STATES = ("stored", "archived", "missing")  # those of `Study.status` that are always shown


def state(profile: str = "quick", *, results_dir: str = "") -> pd.DataFrame:
    """A row a notebook: how many of its runs are stored, archived beside the figures (`mode="read-only"` shows those), or to be computed.

    Those that an earlier state of the code computed count as stored here, for Run All reads them; `Study.status` tells them apart.

    Raises:
        SpecError: for a profile that some document does not have.
    """
    return pd.DataFrame([_row(name, profile, results_dir) for name in (*documents(), "comparison")]).fillna(0).set_index("notebook")


def _row(name: str, profile: str, results_dir: str) -> dict[str, str | int]:
    study = load_study(name, profile, results_dir=results_dir)
    counts = study.status().drop_duplicates("run")["state"].replace("stale", "stored").value_counts()
    others = {state: int(count) for state, count in counts.items() if state not in STATES}
    notebook = "overview" if name == "comparison" else name
    return {"notebook": notebook, "runs": len(study.specs), **{state: int(counts.get(state, 0)) for state in STATES}, **others}
