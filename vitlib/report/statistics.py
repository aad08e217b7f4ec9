"""Statistics over seeds: mean, 95 % interval and n; published beside measured; differences in words; disagreement."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from vitlib.report.evidence.paired import paired_differences as paired_differences

NOT_YET = "not measured yet"


def uniform_attention_distance(image_size: int, patch_size: int) -> float:
    """Mean distance in pixels between two patches of a square image, each drawn uniformly: attention that looks everywhere alike."""
    places = patch_size * np.indices([image_size // patch_size] * 2).reshape(2, -1).T
    return float(np.linalg.norm(places[:, None] - places, axis=-1).mean())


def half_width(values: pd.Series) -> float:
    """Half the width of the 95 % Student t interval of the mean; NaN below two values."""
    values = values.dropna()
    if len(values) < 2:
        return float("nan")
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
    """Published values in the rows of measured ones (keys `on`), with their difference; rows without a counterpart stay."""
    joined = measured.merge(published[[*on, "published"]], on=on, how="left", validate="many_to_one")
    return joined.assign(difference=joined["measured"] - joined["published"])


def disagreement(predictions: dict[str, np.ndarray]) -> np.ndarray:
    """Share of samples on which two classifiers differ; (K, K), symmetric with zero diagonal.

    Source: DeiT, Table 4. With the true labels as one of the classifiers, its row is the error rate.
    """
    stacked = np.stack(list(predictions.values()))
    return (stacked[:, None] != stacked[None]).mean(axis=2)


def against(name: str, other: str, differences: pd.Series, sides: tuple[str, str] = ("is above", "is below"), **said) -> str:
    """'ours is above KD (+2.8 points, 95 % interval ...)', in words that follow the interval."""
    if differences.dropna().empty:
        return f"{name} against {other} is {NOT_YET}"
    mean, side = differences.mean(), f"{name} {sides[0] if differences.mean() > 0 else sides[1]} {other}"
    verdict = f"{name} and {other} are not told apart" if abs(mean) <= half_width(differences) else side
    return f"{verdict} ({interval_said(differences, **said)})"


def worded(differences: pd.Series, unit: str = "points", over: str = "seeds", decimals: int = 1) -> str:
    """'+2.8 points (95 % interval -4.2 to +9.8, n = 3 seeds)'."""
    if differences.dropna().empty:
        return NOT_YET
    return f"{_mean_said(differences, unit, decimals)} ({spread_said(differences, over, decimals)})"


def interval_said(differences: pd.Series, unit: str = "points", over: str = "seeds", decimals: int = 1) -> str:
    """'+2.8 points, 95 % interval -4.2 to +9.8, n = 3 seeds'."""
    return f"{_mean_said(differences, unit, decimals)}, {spread_said(differences, over, decimals)}"


def spread_said(values: pd.Series, over: str = "seeds", decimals: int = 1) -> str:
    """'95 % interval -4.2 to +9.8, n = 3 seeds'."""
    mean, half = values.mean(), half_width(values)
    if np.isnan(half):
        return f"one {over.removesuffix('s')}, no interval"
    return f"95 % interval {mean - half:+z.{decimals}f} to {mean + half:+z.{decimals}f}, n = {values.notna().sum()} {over}"


def _mean_said(differences: pd.Series, unit: str, decimals: int) -> str:
    return f"{differences.mean():+z.{decimals}f} {unit}".rstrip()
