"""One scoreboard of all documents' claims, corrected once; written to `figures/scoreboard/<profile>/`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from vitlib.report import figures, tables
from vitlib.report.evidence import claims
from vitlib.report.evidence.forest import forest
from vitlib.studies.study import Study

FOLDER = "scoreboard"
MAIN = "Sentences that the documents themselves make, and the questions beside them that matter most."
SCALE = (
    "Differences are in points of top-1 accuracy unless another unit stands behind them, with 95 % intervals over seeds and test images."
)
CORRECTED = (
    "Verdicts are corrected once for all {count} claims (Benjamini and Hochberg at 5 %; e-values where seeds were added). A document's own "
    "table corrects for its own claims alone, so that a verdict may differ there."
)
OPEN = "For an open claim: what would decide it if all stayed as it is; last, the smallest difference that could show."
KEPT = ("document", "claim", "published", "difference", "low", "high", "unit", "counted", "p", "alone", "verdict", "to decide", "smallest")


def scoreboard(studies: Sequence[Study]) -> pd.DataFrame:
    """One row a claim of the studies, from what is stored: the columns of `claims.scoreboard`, and those of `described`."""
    judged = [(study, claim) for study in studies for claim in study.execute(mode="read-only").judged()]
    board = claims.scoreboard([claim for _, claim in judged])
    described = [_described(study, claim.claim) for study, claim in judged]
    return pd.concat([pd.DataFrame(described), board], axis=1)


def save(studies: Sequence[Study]) -> Path:
    """The compact table, the table of all claims and the figure of all claims; the folder that they are in."""
    board, (first, *_) = scoreboard(studies), studies
    folder = first.figures_dir / FOLDER / first.profile
    stamp = f"All documents · profile {first.profile}"
    corrected = CORRECTED.format(count=len(board))
    tables.save(compact(board), folder / "scoreboard", f"{MAIN} {SCALE} {corrected}", f"{stamp}.")
    every = board[list(KEPT)].rename(columns={"counted": "n", "smallest": "could show"})
    tables.save(every, folder / "all_claims", f"Every claim. {SCALE} {corrected} {OPEN}", f"{stamp}.")
    figures.save(forest(board), folder / "figure_claims", stamp)
    return folder


def compact(board: pd.DataFrame) -> pd.DataFrame:
    """The claims marked `main`, a line each: the sentence, linked to its table, what the document says, ours, the verdict."""
    main = board[board["main"]]
    named = main["document"].ne(main["document"].shift())
    titles = ("**" + main["document"] + "**: ").where(named, "")
    linked = [f"[{row.sentence}]({row.link})" for row in main.itertuples()]
    ours = [_ours(row) for row in main.itertuples()]
    columns = {"sentence": titles + linked, "document says": main["published"], "ours": ours, "verdict": main["verdict"]}
    return pd.DataFrame(columns).reset_index(drop=True)


def _described(study: Study, claim: dict) -> dict:
    """What a row says beside its numbers."""
    twins = [other for other in study.entry["claim"] if other["sentence"] == claim["sentence"]]
    place = f" ({claim['where']})" if len(twins) > 1 else ""
    folder, shown = study.folder.relative_to(study.figures_dir).as_posix(), claim["shown"]
    return {
        "document": study.entry["title"],
        "sentence": f"{claim['sentence']}{place}",
        "effect": claim.get("effect", np.nan),
        "link": f"../../{folder}/{shown}.{'png' if shown.startswith('figure') else 'md'}",
    }


def _ours(row) -> str:
    """'+3.1 (1.2 to 5.1)'."""
    if np.isnan(row.difference):
        return tables.DASH
    unit = "" if row.unit == "points" else f" {row.unit}"
    decimals = 2 if abs(row.difference) < 1 and row.unit not in ("points", "%") else 1
    if np.isnan(row.low):
        return f"{row.difference:+z.{decimals}f}{unit}"
    return f"{row.difference:+z.{decimals}f} ({row.low:z.{decimals}f} to {row.high:z.{decimals}f}){unit}"
