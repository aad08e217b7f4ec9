"""Claims judged: sentences as comparisons of paired runs, each with its interval, and the scoreboard that corrects them together."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from vitlib.report.evidence.intervals import LEVEL, Interval, interval_of
from vitlib.report.evidence.multiplicity import adjusted, level_for_one
from vitlib.report.evidence.paired import paired
from vitlib.report.evidence.power import MOST, seeds_and_images_needed, seeds_needed
from vitlib.report.evidence.words import counted_over, number

RELATIONS = ("greater", "equal")
NOT_SEEDS = ("images", "rounds")  # what a claim may count whose number does not follow that of the seeds
COLUMNS = (
    "table", "main", "claim", "published", "unit", "difference", "low", "high", "n", "images", "over", "counted",
    "p", "e", "alone", "verdict", "seeds_needed", "to decide", "smallest",
)  # fmt: skip
SHOWN = {
    "claim": "claim", "published": "published", "difference": "difference", "low": "low", "high": "high", "counted": "n", "p": "p",
    "alone": "alone", "verdict": "verdict", "to decide": "to decide", "smallest": "could show",
}  # fmt: skip


@dataclass(frozen=True)
class Judged:
    """A claim and the interval of its difference.

    A claim names a `table`, a `metric`, the two selections `first` and `second`, the keys `pair_by`, and a relation: `greater`
    (first - second > 0) or `equal` (within ± `margin`). Beside its `sentence` it may say `where` it was measured, and what it counts
    `over`, if not seeds.
    """

    claim: dict[str, Any]
    interval: Interval

    @property
    def counts(self) -> str:
        return self.claim.get("over", "seeds")

    @property
    def distance(self) -> float:
        """From the mean to the nearest end of where the relation holds."""
        return abs(self.interval.mean) if self._greater else abs(abs(self.interval.mean) - self.claim["margin"])

    @property
    def level(self) -> float:
        """The smallest level that decides it: a p-value, or, for a sequential claim, one that holds at every look.

        NaN for one seed, whatever its images say, unless the claim counts images alone: their interval is about that training.
        """
        if self.interval.spread.n < 2 and self.counts != "images":
            return float("nan")
        return self.interval.level_of(self.distance)

    def verdict(self, decided: bool) -> str:
        """Where its mean lies, if it is decided."""
        if not decided:
            return "undecided"
        inside = self.interval.mean > 0 if self._greater else abs(self.interval.mean) < self.claim["margin"]
        return "holds" if inside else "fails"

    @property
    def _greater(self) -> bool:
        return self.claim["relation"] == "greater"


def judged(
    claims: Sequence[dict[str, Any]], frame_of: Callable[[str], pd.DataFrame], declared: Collection[int] | None = None
) -> list[Judged]:
    """Each claim with its interval.

    Args:
        frame_of: the tidy frame of a table by its name.
        declared: the seeds that were fixed before the first run; a claim that counts others besides them is sequential. None: all were.

    Raises:
        ValueError: for a relation that there is not.
    """
    return [_judge(claim, frame_of(claim["table"]), declared) for claim in claims]


def verdicts(
    claims: Sequence[dict[str, Any]], frame_of: Callable[[str], pd.DataFrame], declared: Collection[int] | None = None
) -> pd.DataFrame:
    """`scoreboard` of `judged` claims."""
    return scoreboard(judged(claims, frame_of, declared))


def scoreboard(claims: Sequence[Judged]) -> pd.DataFrame:
    """One row a claim, corrected once for all of them (see `adjusted`).

    It holds if the whole interval, at the level that the correction leaves it, satisfies the relation, fails if none of it does, and is
    undecided otherwise. Columns: table, claim, published; difference, low and high (uncorrected 95 %); n, images and over, what is
    counted, and `counted`, that in words; p, and e of sequential claims (1 / p); `alone`, the verdict of the 95 % interval, and verdict,
    the corrected one; seeds_needed, which would decide an open one at the corrected level if all stayed as it is, and `to decide`, that
    in words; smallest, the smallest difference that could have been shown at that level.
    """
    levels = np.array([claim.level for claim in claims], float)
    corrected = adjusted(levels)
    own_levels = level_for_one(corrected)
    decided = np.isfinite(levels) & (corrected <= LEVEL)
    rows = [_row(*values) for values in zip(claims, levels, own_levels, decided, strict=True)]
    return pd.DataFrame(rows, columns=COLUMNS)


def readable(board: pd.DataFrame, about: Collection[str] = ()) -> pd.DataFrame:
    """Sentences as comparisons of paired runs: difference (points of top-1 unless said otherwise), 95 % interval, n and p, verdict of the
    interval alone and corrected for all claims of the document. For an open one, what would decide it if all stayed as it is; last, the
    smallest difference that could show.

    `about` names the tables whose claims are shown of the scoreboard; without it every claim is.
    """
    shown = board[board["table"].isin(about)] if about else board
    return shown[list(SHOWN)].rename(columns=SHOWN).reset_index(drop=True)


def _judge(claim: dict[str, Any], frame: pd.DataFrame, declared: Collection[int] | None) -> Judged:
    if claim["relation"] not in RELATIONS:
        raise ValueError(f"relation: got {claim['relation']!r}; allowed: {', '.join(RELATIONS)}")
    differences = paired(frame, claim["metric"], claim["first"], claim["second"], claim["pair_by"])
    added = set(differences.by_seed.index) - set(differences.by_seed.index if declared is None else declared)
    return Judged(claim, interval_of(differences, bool(added) and claim.get("over") not in NOT_SEEDS))


def _row(judgement: Judged, level: float, own_level: float, decided: bool) -> dict[str, Any]:
    interval, claim = judgement.interval, judgement.claim
    needed = np.nan if decided else seeds_needed(interval, judgement.distance, own_level)
    return {
        "table": claim["table"],
        "main": claim.get("main", False),
        "unit": claim.get("unit", "points"),
        "claim": f"{claim['sentence']} ({claim['where']})" if "where" in claim else claim["sentence"],
        "published": claim["published"],
        "difference": interval.mean,
        "low": interval.low,
        "high": interval.high,
        "n": interval.spread.n,
        "images": interval.spread.m,
        "over": interval.over.replace("seeds", judgement.counts),
        "counted": counted_over(interval, judgement.counts),
        "p": level,
        "e": 1.0 / level if interval.sequential else np.nan,
        "alone": judgement.verdict(level <= LEVEL),
        "verdict": judgement.verdict(decided),
        "seeds_needed": needed,
        "to decide": _to_decide(judgement, needed, own_level),
        "smallest": interval.half_width(own_level),
    }


def _to_decide(judgement: Judged, needed: float, level: float) -> str | None:
    if np.isnan(needed):
        return None
    if np.isfinite(needed):
        return number(int(needed), judgement.counts)
    present = judgement.interval.spread
    if not present.m:
        return f"over {number(MOST, judgement.counts)}"
    both = seeds_and_images_needed(judgement.interval, judgement.distance, level)
    most = MOST, np.ceil(MOST * present.m / present.n)
    enough = np.isfinite(both[0])
    seeds, images = (int(count) for count in (both if enough else most))
    return f"{'' if enough else 'over '}{number(seeds, judgement.counts)} × {number(images, 'images')}"
