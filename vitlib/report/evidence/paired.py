"""What a claim's difference is made of: first - second, paired, by seed and, where runs tell, by test image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from vitlib.report.frames import BY_IMAGE

PARTS_OF_ONE = 60  # right and wrong, averaged over up to six models, are whole numbers of sixtieths


@dataclass(frozen=True)
class Paired:
    """Differences first - second, in the metric's unit.

    Attributes:
        by_seed: one value a seed.
        by_image: (n seeds, m images), rows as in `by_seed` and with these means; None where runs lack values by image.
        judged: images that were judged right or wrong (of several sets: as many as the smallest, weighted, stands for), or 0 where
            values are of another kind.
    """

    by_seed: pd.Series
    by_image: np.ndarray | None = None
    judged: float = 0.0


@dataclass(frozen=True)
class _Row:
    """One seed's differences, image by image."""

    values: np.ndarray
    judged: float


def paired_differences(frame: pd.DataFrame, metric: str, first: dict, second: dict, pair_by: list[str]) -> pd.Series:
    """first - second of `metric` for each seed: paired over all of `pair_by`, then averaged over what is not the seed.

    A seed of which a pair is not measured is left out whole: a mean over other pairs than its neighbours' is no match for theirs.
    """
    if metric not in frame:
        return pd.Series(dtype=float)
    return _by_seed(_pairs(frame, [metric], first, second, pair_by)[metric])


def paired(frame: pd.DataFrame, metric: str, first: dict[str, Any], second: dict[str, Any], pair_by: list[str]) -> Paired:
    """`paired_differences`, and the same by image from the column `METRIC by image`.

    Pairs of a seed share their images, and are averaged image by image; those of different "dataset", where `pair_by` has it, do not.
    Image i of set d, which holds the share w_d of the pairs and m_d of the M images, enters the joined row as
    mean + w_d M / m_d (x_di - mean_d): the row's mean is the seed's difference, and its variance over M that of the images,
    the sum over sets of w_d² s_d² / m_d (up to terms of order 1 / m_d).

    Raises:
        ValueError: where the values by image have another mean than the metric.
    """
    column = f"{metric}{BY_IMAGE}"
    if column not in frame or metric not in frame:
        return Paired(paired_differences(frame, metric, first, second, pair_by))
    pairs = _pairs(frame, [metric, column], first, second, pair_by)
    by_seed = _by_seed(pairs[metric])
    pairs = pairs[pairs.index.get_level_values("seed").isin(by_seed.index)]
    if by_seed.empty or not pairs[column].map(lambda cell: isinstance(cell, np.ndarray)).all():
        return Paired(by_seed)
    rows = [_row(of_seed) for _, of_seed in pairs[column].groupby("seed")]
    if any(row is None or len(row.values) != len(rows[0].values) for row in rows):
        return Paired(by_seed)
    by_image = np.stack([row.values for row in rows])
    if not np.allclose(by_image.mean(axis=1), by_seed, rtol=0, atol=1e-4):
        raise ValueError(f"{column}: mean {by_image.mean(axis=1)}; allowed: that of {metric}, {by_seed.to_numpy()}")
    return Paired(by_seed, by_image, rows[0].judged)


def _pairs(frame: pd.DataFrame, columns: list[str], first: dict, second: dict, pair_by: list[str]) -> pd.DataFrame:
    """first - second of each column at every point of `pair_by` that both have."""
    one, other = (_selected(frame, selection).set_index(pair_by)[columns] for selection in (first, second))
    one, other = one.align(other, join="inner", axis=0)
    return pd.DataFrame({name: list(map(_minus, one[name], other[name])) for name in columns}, index=one.index)


def _minus(one: Any, other: Any) -> Any:
    """NaN where one of them is, or is of other images."""
    return one - other if np.shape(one) == np.shape(other) else float("nan")


def _by_seed(pairs: pd.Series) -> pd.Series:
    return pairs.groupby("seed").agg(lambda values: values.mean(skipna=False)).dropna()


def _selected(frame: pd.DataFrame, selection: dict[str, Any]) -> pd.DataFrame:
    return frame[np.logical_and.reduce([frame[key] == value for key, value in selection.items()])]


def _row(pairs: pd.Series) -> _Row | None:
    """A seed's pairs joined; None where pairs of one set have different numbers of images."""
    sets = [group for _, group in pairs.groupby("dataset")] if "dataset" in pairs.index.names else [pairs]
    if any(len({len(cell) for cell in group}) > 1 for group in sets):
        return None
    shares = [len(group) / len(pairs) for group in sets]
    means = [np.mean(np.stack(list(group)), axis=0) for group in sets]
    total, mean = sum(map(len, means)), sum(share * values.mean() for share, values in zip(shares, means, strict=True))
    joined = [mean + share * total / len(values) * (values - values.mean()) for share, values in zip(shares, means, strict=True)]
    judged = min(len(values) / share for share, values in zip(shares, means, strict=True))
    return _Row(np.concatenate(joined), judged if all(map(_right_or_wrong, pairs)) else 0.0)


def _right_or_wrong(values: np.ndarray) -> bool:
    parts = PARTS_OF_ONE * values / 100
    return bool((np.abs(values) <= 200).all() and np.allclose(parts, np.rint(parts), rtol=0, atol=1e-6))
