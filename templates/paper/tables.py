"""Paper name: its table, from results alone, and what it says in words."""

from __future__ import annotations

import pandas as pd

from vitlib.grid.results import Results
from vitlib.report.evidence.words import answered
from vitlib.report.statistics import against, beside, compared, difference, summary

PUBLISHED = {"Inception-v2 RMSProp": "plain", "Inception-v2 Label Smoothing": "smoothed"}  # rows of Table 3


def table_smoothing(results: Results) -> pd.DataFrame:
    """Table 3: top-1 (percent) by the labels that were trained on, mean over n seeds; ± is half of its 95 % interval. Published is 100 less
    the printed error. Rank 1 is the highest; on the document's own data the difference stands instead of ranks.
    """
    measured = summary(results.frame("smoothing"), ["labels"], "top1")
    errors = results.published("table3")
    published = pd.DataFrame({"labels": errors["method"].map(PUBLISHED), "published": 100 - errors["value"]})
    return compared(beside(measured, published, ["labels"]), shared=results.study.shares_data)


def finding_answer(results: Results) -> str:
    """The document's main claims as they stand here, and the count of all verdicts."""
    return answered(results.board(), results.study.profile)


def finding_smoothing(results: Results) -> str:
    """Table 3: whether smoothed labels train better than plain ones."""
    change = difference(results.frame("smoothing"), "top1", {"labels": "smoothed"}, {"labels": "plain"}, ["seed"])
    return f"{against('Training on smoothed labels', 'training on plain ones', change)}."
