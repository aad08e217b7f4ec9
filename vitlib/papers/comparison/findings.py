"""The comparison in words, made from its numbers."""

from __future__ import annotations

import pandas as pd

from vitlib.grid.results import Results
from vitlib.papers.comparison.models import DENSE, KINDS
from vitlib.papers.comparison.tables import sized, table_models
from vitlib.report.statistics import NOT_YET, against, difference


def finding_answer(results: Results) -> str:
    """What stays of the dense model's accuracy at each kind's smallest, and which model is the smallest or fastest within a point of it."""
    table = table_models(results).dropna(subset=["top-1"])
    if DENSE not in set(table["model"]):
        return f"The dense model is {NOT_YET}."
    frame = sized(results)
    kinds = [table[table["model"].isin(models)] for kind, models in KINDS.items() if kind != "dense"]
    smallest = [rows.loc[rows["packed kB"].idxmin(), "model"] for rows in kinds if len(rows)]
    said = [
        against(model, "the dense model", difference(frame, "top1", {"model": model}, {"model": DENSE}, ["seed"])) for model in smallest
    ]
    within = table[table["top-1"] >= table.loc[table["model"] == DENSE, "top-1"].item() - 1]
    smallest_file = _least(within, "packed kB", "file, packed", "{:,.0f} kB")
    return f"{'; '.join(said)}. Within one point of the dense model: {smallest_file}{_fastest(within)}."


def _fastest(within: pd.DataFrame) -> str:
    return f", {_least(within, 'ONNX ms', 'latency by ONNX Runtime', '{:.3g} ms')}" if within["ONNX ms"].notna().any() else ""


def _least(table: pd.DataFrame, column: str, what: str, form: str) -> str:
    row = table.loc[table[column].idxmin()]
    return f"smallest {what} {form.format(row[column])} ({row['model']})"
