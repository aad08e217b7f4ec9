"""Tables as files and as a notebook shows them: CSV with full precision, Markdown and HTML with fixed decimals."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pandas.io.formats.style import Styler

DASH = "–"
LOGITS = "|Δlogit|"  # ends the name of a column whose numbers are written by their size
INTERVAL = ("difference", "low", "high", "could show")


def save(table: pd.DataFrame, path: Path, *captions: str) -> None:
    """`path`.csv with full precision and `path`.md as shown, under its captions, each a paragraph."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(path.with_suffix(".csv"), index=False)
    path.with_suffix(".md").write_text("\n\n".join(filter(None, [*captions, markdown(table)])) + "\n", encoding="utf-8")


def markdown(table: pd.DataFrame) -> str:
    """The table as shown; a bar in a name or a cell does not end it."""
    text = formatted(table).map(_without_bars)
    return text.set_axis([_without_bars(str(name)) for name in table], axis=1).to_markdown(index=False, disable_numparse=True)


def shown(table: pd.DataFrame, caption: str, name: str) -> Styler:
    """The table as a notebook displays it, words to the left and numbers to the right; `name` keeps its styles its own."""
    words = [column for column in table if not pd.api.types.is_numeric_dtype(table[column])]
    styled = formatted(table).style.hide(axis="index").set_caption(caption).set_uuid(name)
    return styled.set_properties(subset=words, **{"text-align": "left"})


def formatted(table: pd.DataFrame) -> pd.DataFrame:
    """Every cell as text: one number of decimals a column, or, for what an interval is told by, a row; a dash where nothing is."""
    text = table.apply(lambda column: column.map(_writer(column)))
    for name in [name for name in INTERVAL if name in table and "low" in table]:
        text[name] = [
            _number(value, places, name) for value, places in zip(table[name], _places(table["high"] - table["low"]), strict=True)
        ]
    return text


def _without_bars(text: str) -> str:
    return text.replace("|", r"\|")


def _places(width: pd.Series) -> list[int]:
    """Decimals that show an interval of this width: one to three."""
    half = (width / 2).where(np.isfinite(width) & (width > 0), 1.0)
    return np.clip(np.ceil(-np.log10(half)), 1, 3).astype(int).tolist()


def _writer(column: pd.Series) -> Callable[[Any], str]:
    """How a column's numbers are written: whole, with one or three decimals by its largest; p and differences of logits by their size."""
    if not pd.api.types.is_float_dtype(column):
        return lambda value: DASH if pd.isna(value) else f"{value:,}" if isinstance(value, (int, np.integer)) else str(value)
    if column.name == "p":
        return _probability
    if str(column.name).endswith(LOGITS):
        return lambda value: DASH if np.isnan(value) else f"{value:.1e}"
    largest = column.abs().max()
    return lambda value: _number(value, 0 if largest >= 1000 else 1 if largest >= 2 else 3, column.name)


def _number(value: float, places: int, name: Any) -> str:
    """A difference with its sign; zero without one of its own."""
    sign = "+" if name == "difference" else ""
    return DASH if np.isnan(value) else f"{value:{sign}z,.{places}f}".replace("inf", "∞")


def _probability(value: float) -> str:
    """Two significant digits, down to a ten-thousandth."""
    if np.isnan(value):
        return DASH
    return "< 0.0001" if value < 1e-4 else np.format_float_positional(value, 2, fractional=False, min_digits=2)
