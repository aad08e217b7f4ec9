"""The teachers in numbers, from results alone."""

from __future__ import annotations

import numpy as np
import pandas as pd

from vitlib.grid.results import Results
from vitlib.report.statistics import half_width

READOUTS = {
    "knn class": "k-NN, class token",
    "knn pooled": "k-NN, own pooling",
    "knn mean": "k-NN, patch mean",
    "linear class": "linear, class token",
    "linear pooled": "linear, own pooling",
    "linear mean": "linear, patch mean",
}


def table_quality(results: Results) -> pd.DataFrame:
    """Accuracy (%) of frozen features on the test images: k-NN and a linear classifier, both over all training images, from the class
    token, from what a model without one pools, or from the mean of the patches; top-1 where a network has a classifier of its own. The same
    networks untrained stand among the rows. One training of each.
    """
    found = results.frame("quality")
    columns = ["method", "model", "images", *(name for name in READOUTS if name in found), "top1"]
    frame = found.reindex(columns=columns)
    mean = frame.groupby(["method", "model"], sort=False)[columns[2:]].mean().reset_index()
    return mean.rename(columns=READOUTS | {"top1": "top-1", "images": "test images"})


def table_deep_blocks(results: Results) -> pd.DataFrame:
    """Attention distance in pixels, mean over heads and the last third of the blocks: teacher against teacher on the same test images. ± is
    half of the 95 % interval of the difference over images, one training of each, so that it says nothing about other trainings.
    """
    deep = {point["method"]: _deep(stored) for point, stored in results.runs("distances")}
    pairs = [("dino", "mae"), ("supervised", "mae"), ("dino", "supervised")]
    rows = [_difference(first, second, deep) for first, second in pairs if {first, second} <= deep.keys()]
    return pd.DataFrame(rows)


def _deep(stored) -> np.ndarray:
    """One distance an image: mean over heads and the last third of the blocks."""
    distance = stored.arrays["distance"]
    return distance[:, -distance.shape[1] // 3 :].mean(axis=(1, 2))


def _difference(first: str, second: str, deep: dict[str, np.ndarray]) -> dict[str, float | str]:
    difference = deep[first] - deep[second]
    return {
        "first": first,
        "second": second,
        "first, px": deep[first].mean(),
        "second, px": deep[second].mean(),
        "difference, px": difference.mean(),
        "±": half_width(pd.Series(difference)),
        "images": len(difference),
    }
