"""What a scoreboard says and what an interval counts, in words."""

from __future__ import annotations

import numpy as np
import pandas as pd

from vitlib.report.evidence.intervals import Interval

SENTENCES = 3
FIRST_LOOK = "This is a first look with few seeds: verdicts are those of profile `desk`."
VERDICTS = {"holds": ("holds", "hold"), "fails": ("fails", "fail"), "undecided": ("is undecided", "are undecided")}


def answered(board: pd.DataFrame, profile: str) -> str:
    """The first main claims of a scoreboard, a sentence each, and the count of all its verdicts."""
    lead = board[board["main"]].head(SENTENCES)
    look = f" {FIRST_LOOK}" if profile == "quick" else ""
    return "\n".join([*(f"- {_sentence(row)}" for row in lead.itertuples()), "", counted(board) + look])


def counted(board: pd.DataFrame) -> str:
    """'Of 9 claims 6 hold, 1 fails and 2 are undecided, corrected together.'"""
    counts = board["verdict"].value_counts()
    parts = [f"{counts[name]} {_verb(name, counts[name])}" for name in VERDICTS if name in counts]
    listed = " and ".join(filter(None, [", ".join(parts[:-1]), *parts[-1:]]))
    return f"Of {len(board)} claims {listed}, corrected together." if parts else "No claim is tested."


def counted_over(interval: Interval, counts: str = "seeds") -> str:
    """'12 seeds × 720 images, sequential', or '360 images of one training'."""
    spread = interval.spread
    if counts == "images":
        return f"{number(spread.m, 'images')} of one training"
    parts = [number(spread.n, counts)] + [number(spread.m, "images")] * (spread.m > 0)
    return " × ".join(parts) + ", sequential" * interval.sequential


def number(count: int, what: str) -> str:
    """'1 seed', '12 pairs of seeds'."""
    first, *rest = what.split(" ")
    return " ".join([f"{count:,}", first.removesuffix("s") if count == 1 else first, *rest])


def _verb(name: str, count: int) -> str:
    one, many = VERDICTS[name]
    return one if count == 1 else many


def _sentence(row) -> str:
    said = f"**{row.claim}**: "
    if np.isnan(row.difference):
        return f"{said}not measured yet."
    interval = f", 95 % interval {row.low:z.{_decimals(row)}f} to {row.high:z.{_decimals(row)}f}" * (not np.isnan(row.low))
    found = f"{row.difference:+z.{_decimals(row)}f} {row.unit}{interval}, {row.counted}"
    theirs = row.published if row.published.startswith("not ") else f"the document: {row.published}"
    return f"{said}{row.verdict} here ({found}); {theirs}{'' if theirs.endswith('?') else '.'}"


def _decimals(row) -> int:
    return 2 if row.unit not in ("points", "%") and abs(row.difference) < 1 else 1
