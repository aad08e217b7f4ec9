"""Statistics over seeds: mean, 95 % interval and n; published beside measured; differences, as claims have them, in words; disagreement."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from vitlib.report.evidence.intervals import Interval, interval_of
from vitlib.report.evidence.paired import Paired, paired
from vitlib.report.evidence.words import counted_over, number

NOT_YET = "not measured yet"


def half_width(values: pd.Series) -> float:
    """Half the width of the 95 % Student t interval of the mean; NaN below two values."""
    values = values.dropna()
    if len(values) < 2:
        return float("nan")
    from scipy.special import stdtrit  # slow to import

    return float(stdtrit(len(values) - 1, 0.975) * values.std(ddof=1) / np.sqrt(len(values)))


def summary(frame: pd.DataFrame, by: list[str], value: str) -> pd.DataFrame:
    """Mean over seeds by group: columns `by`, measured, ± (half of the 95 % interval), n; groups in order of appearance.

    A group whose runs are missing stays, with NaN and n = 0.
    """
    values = frame.reindex(columns=[*by, value])
    groups = values.groupby(by, sort=False, dropna=False)[value]
    table = groups.agg(measured="mean", spread=half_width, n="count").reset_index()
    return table.rename(columns={"spread": "±"})


def beside(measured: pd.DataFrame, published: pd.DataFrame, on: list[str]) -> pd.DataFrame:
    """Published values in the rows of measured ones (keys `on`); rows without a counterpart stay."""
    return measured.merge(published[[*on, "published"]], on=on, how="left", validate="many_to_one")


def compared(table: pd.DataFrame, *, shared: bool, within: Sequence[str] = (), measured: str = "measured") -> pd.DataFrame:
    """The columns `measured` and `published` compared as far as their data allow.

    Where the data are shared: `difference`, measured less published, after `published`. Elsewhere a difference would say nothing, and each
    value stands with its rank, `rank` after the measured columns and `published rank` after `published`: 1 is the highest of the rows with
    equal `within` that have both values, and equal values share the smaller rank; a row that lacks one of the values has none.
    """
    table = table.reset_index(drop=True)
    if shared:
        table.insert(table.columns.get_loc("published") + 1, "difference", table[measured] - table["published"])
        return table
    ranks = _ranks(table, [measured, "published"], within)
    last = max(table.columns.get_loc(name) for name in (measured, "±", "n") if name in table)
    table.insert(last + 1, "rank", ranks[measured])
    table.insert(table.columns.get_loc("published") + 1, "published rank", ranks["published"])
    return table


def _ranks(table: pd.DataFrame, columns: list[str], within: Sequence[str]) -> pd.DataFrame:
    """Means that differ by the order of their sum alone are equal."""
    values = table[columns].astype(float).round(9)
    values = values.where(values.notna().all(axis=1), axis=0)
    groups = values.groupby([table[name] for name in within] or (lambda row: 0), dropna=False)
    return groups.rank(method="min", ascending=False).astype("Int64")


def disagreement(predictions: dict[str, np.ndarray]) -> np.ndarray:
    """Share of samples on which two classifiers differ; (K, K), symmetric with zero diagonal.

    Source: DeiT, Table 4. With the true labels as one of the classifiers, its row is the error rate.
    """
    stacked = np.stack(list(predictions.values()))
    return (stacked[:, None] != stacked[None]).mean(axis=2)


def difference(frame: pd.DataFrame, metric: str, first: dict, second: dict, pair_by: list[str]) -> Interval:
    """first - second with the interval that a claim on it has: over seeds and test images where runs tell by image, else over seeds."""
    return interval_of(paired(frame, metric, first, second, pair_by))


def over_seeds(values: pd.Series) -> Interval:
    """The mean of one value a seed (or round), with Student's t interval."""
    return interval_of(Paired(values.dropna()))


def is_measured(interval: Interval) -> bool:
    return not np.isnan(interval.mean)


def side(interval: Interval, over: str = "seeds") -> int:
    """1 where the whole interval is above zero, -1 where it is below, else 0; one seed tells nothing, whatever its images say."""
    if interval.spread.n < 2 and over != "images":
        return 0
    return int(interval.low > 0) - int(interval.high < 0)


def against(name: str, other: str, interval: Interval, sides: tuple[str, str] = ("is above", "is below"), **said) -> str:
    """'ours is above KD (+2.8 points, 95 % interval ...)', in words that follow the interval."""
    if not is_measured(interval):
        return f"{name} against {other} is {NOT_YET}"
    above = side(interval, said.get("over", "seeds"))
    verdict = f"{name} {sides[above < 0]} {other}" if above else f"{name} and {other} are not told apart"
    return f"{verdict} ({interval_said(interval, **said)})"


def worded(interval: Interval, unit: str = "points", over: str = "seeds", decimals: int = 1) -> str:
    """'+2.8 points (95 % interval -4.2 to +9.8, n = 12 seeds × 720 images)'."""
    if not is_measured(interval):
        return NOT_YET
    return f"{_mean_said(interval, unit, decimals)} ({spread_said(interval, over, decimals)})"


def interval_said(interval: Interval, unit: str = "points", over: str = "seeds", decimals: int = 1) -> str:
    """'+2.8 points, 95 % interval -4.2 to +9.8, n = 12 seeds × 720 images'."""
    return f"{_mean_said(interval, unit, decimals)}, {spread_said(interval, over, decimals)}"


def spread_said(interval: Interval, over: str = "seeds", decimals: int = 1) -> str:
    """'95 % interval -4.2 to +9.8, n = 3 seeds', with '× 720 images' where these are counted, too."""
    if interval.spread.n < 2 and over != "images":
        return f"{number(1, over).replace('1', 'one', 1)}, no interval"
    if np.isnan(interval.low):
        return f"n = {counted_over(interval, over)}, no interval"
    return f"95 % interval {interval.low:+z.{decimals}f} to {interval.high:+z.{decimals}f}, n = {counted_over(interval, over)}"


def _mean_said(interval: Interval, unit: str, decimals: int) -> str:
    return f"{interval.mean:+z.{decimals}f} {unit}".rstrip()
