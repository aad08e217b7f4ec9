"""How the numbers of a table are written."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

DASH = "–"
LOGITS = "|Δlogit|"  # ends the name of a column whose numbers are written by their size
SPREAD = "±"  # begins the name of a column that has its decimals in common with the numbers before it
INTERVAL = ("difference", "low", "high", "could show")
SIGNED = ("difference", "change", "less dense")
NOTHING = 1e-9  # below it a number is zero with an error of rounding


def formatted(table: pd.DataFrame) -> pd.DataFrame:
    """Every cell as text: one number of decimals a column, or, for what an interval is told by, a row; a dash where nothing is."""
    places = _decimals(table)
    text = table.apply(lambda column: column.map(_writer(column, places.get(column.name, 1))))
    for name in [name for name in INTERVAL if name in table and "low" in table]:
        text[name] = [_signed(value, row, name) for value, row in zip(table[name], _by_width(table["high"] - table["low"]), strict=True)]
    return text


def _decimals(table: pd.DataFrame) -> dict[str, int]:
    """Decimals of each column of floats; numbers and their spread have them in common."""
    groups: list[list[str]] = []
    before = None
    for name in table:
        if pd.api.types.is_float_dtype(table[name]):
            if str(name).startswith(SPREAD) and before:
                groups[-1].append(name)
            else:
                groups.append([name])
        before = pd.api.types.is_float_dtype(table[name])
    return {name: places for group in groups for places in [_of_group(table[group])] for name in group}


def _of_group(group: pd.DataFrame) -> int:
    """None from 1000 on, one from 2 on, else three; more where a spread would be lost, fewer where numbers end before."""
    sizes = group.abs().replace(np.inf, np.nan)
    largest = np.nanmax(sizes.to_numpy(), initial=0.0)
    if largest >= 1000:
        return 0
    if largest >= 2:
        spread = np.nanmax(sizes.iloc[:, 1:].to_numpy(), initial=0.0)
        return int(np.clip(np.ceil(-np.log10(spread)), 1, 3)) if spread > NOTHING else 1
    ends = [places for places in (1, 2) if np.allclose(group, group.round(places), rtol=0, atol=NOTHING, equal_nan=True)]
    return min([*ends, 3])


def _by_width(width: pd.Series) -> list[int]:
    """Decimals that show an interval of this width: one to three."""
    half = (width / 2).where(np.isfinite(width) & (width > 0), 1.0)
    return np.clip(np.ceil(-np.log10(half)), 1, 3).astype(int).tolist()


def _writer(column: pd.Series, places: int) -> Callable[[Any], str]:
    """How a column's numbers are written: with so many decimals; p and differences of logits by their size."""
    if not pd.api.types.is_float_dtype(column):
        return lambda value: DASH if pd.isna(value) else f"{value:,}" if isinstance(value, (int, np.integer)) else str(value)
    if column.name == "p":
        return _probability
    if str(column.name).endswith(LOGITS):
        return lambda value: DASH if np.isnan(value) else f"{value:.1e}"
    if column.name in SIGNED:
        return lambda value: _signed(value, places, column.name)
    return lambda value: _plain(value, places)


def _plain(value: float, places: int) -> str:
    """What is too small for the decimals is not written as zero."""
    small = NOTHING < value < 0.5 * 10.0**-places
    return f"< {10.0**-places:.{places}f}" if small else _signed(value, places, "")


def _signed(value: float, places: int, name: Any) -> str:
    """A difference with its sign; zero without one."""
    if np.isnan(value):
        return DASH
    sign = "+" if name in SIGNED and round(value, places) else ""
    return f"{value:{sign}z,.{places}f}".replace("inf", "∞")


def _probability(value: float) -> str:
    """Two significant digits, down to a ten-thousandth."""
    if np.isnan(value):
        return DASH
    return "< 0.0001" if value < 1e-4 else np.format_float_positional(value, 2, fractional=False, min_digits=2)
