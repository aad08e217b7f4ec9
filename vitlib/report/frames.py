"""Frames of runs whose metrics are means over images: beside a metric's column may stand `METRIC by image`, arrays (N,) with that mean.

What is done to a metric is done to its values by image, so that an interval can count images beside seeds.
"""

from __future__ import annotations

import io
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import pandas as pd

BY_IMAGE = " by image"


def in_units(values: np.ndarray) -> np.ndarray:
    """Values by image in the unit of the metric that is their mean: right and wrong images are 100 and 0 percent."""
    return 100.0 * values if values.dtype == bool else values.astype(float)


def parsed_together(texts: Sequence[tuple[dict[str, Any], bytes]]) -> pd.DataFrame:
    """Tables in CSV, each with the values of its point beside every row, below one another: those with one head are parsed at once."""
    heads: dict[bytes, list[tuple[int, bytes]]] = {}
    for place, (_, text) in enumerate(texts):
        head, _, body = text.partition(b"\n")
        heads.setdefault(head, []).append((place, body))
    parts = []
    for head, members in heads.items():
        rows = pd.read_csv(io.BytesIO(head + b"\n" + b"".join(body for _, body in members)))
        parts.append(rows.set_index(np.repeat([place for place, _ in members], [body.count(b"\n") for _, body in members])))
    rows = pd.concat(parts).sort_index(kind="stable")
    points = pd.DataFrame([point for point, _ in texts]).take(rows.index).set_index(rows.index)
    return pd.concat([rows.drop(columns=points.columns, errors="ignore"), points], axis=1).reset_index(drop=True)


def both(frame: pd.DataFrame, metric: str) -> pd.DataFrame:
    """The columns of a metric and of its values by image, NaN where the frame lacks them."""
    return frame.reindex(columns=[metric, metric + BY_IMAGE])


def averaged(frame: pd.DataFrame, by: list[str], metric: str) -> pd.DataFrame:
    """Mean of a metric by group, over all of its rows or none."""
    groups = frame.groupby(by, sort=False) if len(frame) else ()
    rows = [{**dict(zip(by, key, strict=True)), **_mean(both(rows, metric))} for key, rows in groups]
    return pd.DataFrame(rows, columns=[*by, metric, metric + BY_IMAGE])


def subtracted(first: pd.DataFrame, second: pd.DataFrame, keys: list[str], metric: str, name: str) -> pd.DataFrame:
    """`first` - `second` of a metric in the rows of equal keys, as the metric `name`; NaN where one of them lacks it."""
    one, other = (both(frame.set_index(keys), metric) for frame in (first, second))
    differences = one[metric] - other[metric]
    pairs = zip(*one[metric + BY_IMAGE].align(other[metric + BY_IMAGE]), strict=True)
    by_image = pd.Series([_less(*pair) for pair in pairs], index=differences.index, dtype=object)
    return pd.DataFrame({name: differences, name + BY_IMAGE: by_image}).reset_index()


def melt(frame: pd.DataFrame, keys: list[str], axis: str, metrics: dict[Hashable, str], name: str) -> pd.DataFrame:
    """Several metrics of a row below one another as one metric `name`; `axis` says which, by the names given for them."""
    names, wanted = [name, name + BY_IMAGE], frame.reindex(columns=keys)
    parts = [wanted.assign(**{axis: value}).join(both(frame, metric).set_axis(names, axis=1)) for value, metric in metrics.items()]
    return pd.concat(parts, ignore_index=True)


def _mean(rows: pd.DataFrame) -> dict[str, object]:
    metric, by_image = rows.columns
    arrays = list(rows[by_image])
    whole = all(isinstance(array, np.ndarray) for array in arrays) and len({array.shape for array in arrays}) == 1
    return {metric: rows[metric].mean(skipna=False), by_image: np.mean(arrays, axis=0) if whole else np.nan}


def _less(one: object, other: object) -> object:
    known = isinstance(one, np.ndarray) and isinstance(other, np.ndarray) and one.shape == other.shape
    return one - other if known else np.nan
