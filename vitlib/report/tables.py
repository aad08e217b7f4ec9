"""Tables as files and as a notebook shows them: CSV with full precision, Markdown and HTML with fixed decimals."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pandas.io.formats.style import Styler

DASH = "–"
INTERVAL = ("difference", "low", "high", "could show")


def save(table: pd.DataFrame, path: Path, *captions: str) -> None:
    """`path`.csv with full precision and `path`.md as shown, under its captions, each a paragraph."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(path.with_suffix(".csv"), index=False)
    markdown = formatted(table).to_markdown(index=False, disable_numparse=True)
    path.with_suffix(".md").write_text("\n\n".join(filter(None, [*captions, markdown])) + "\n", encoding="utf-8")


def shown(table: pd.DataFrame, caption: str, name: str) -> Styler:
    """The table as a notebook displays it, words to the left and numbers to the right; `name` keeps its styles its own."""
    words = [column for column in table if not pd.api.types.is_numeric_dtype(table[column])]
    styled = formatted(table).style.hide(axis="index").set_caption(caption).set_uuid(name)
    return styled.set_properties(subset=words, **{"text-align": "left"})


def formatted(table: pd.DataFrame) -> pd.DataFrame:
    """Every cell as text: one number of decimals a column, and for all that an interval is told by; a dash where nothing is."""
    told = [name for name in INTERVAL if name in table] if "low" in table else []
    largest = _largest(table[told].stack()) if told else 0.0
    return table.apply(lambda column: column.map(_writer(column, largest if column.name in told else _largest(column))))


def _largest(column: pd.Series) -> float:
    is_float = pd.api.types.is_float_dtype(column)
    return column.abs().replace(np.inf, np.nan).max() if is_float else 0.0


def _writer(column: pd.Series, largest: float) -> Callable[[Any], str]:
    """How a column's numbers are written: whole, with one or with three decimals by the largest; differences with sign; p by its size."""
    if not pd.api.types.is_float_dtype(column):
        return lambda value: DASH if pd.isna(value) else f"{value:,}" if isinstance(value, (int, np.integer)) else str(value)
    if column.name == "p":
        return _probability
    decimals = 0 if largest >= 1000 else 1 if largest >= 2 else 3
    sign = "+" if column.name == "difference" else ""
    return lambda value: DASH if np.isnan(value) else f"{value:{sign}z,.{decimals}f}".replace("inf", "∞")


def _probability(value: float) -> str:
    """Two significant digits, down to a ten-thousandth."""
    if np.isnan(value):
        return DASH
    return "< 0.0001" if value < 1e-4 else np.format_float_positional(value, 2, fractional=False, min_digits=2)
