"""Figures: one style, a fixed colour for each method, and saving as PNG, PDF and the CSV of exactly what is drawn.

Figures are made without pyplot, so that a widget's thread can draw too. Same input, same bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure

STYLE = Path(__file__).with_name("vitlib.mplstyle")
COLUMN = 6.3  # inches: the text width of an A4 page
PALETTE = sns.color_palette("colorblind").as_hex()
TEACHER = "0.45"


@contextmanager
def style() -> Iterator[None]:
    with mpl.rc_context(fname=STYLE):
        yield


def canvas(rows: int = 1, columns: int = 1, *, height: float = 2.8, **options) -> tuple[Figure, np.ndarray]:
    """A figure one text column wide and its axes (rows, columns), in the house style."""
    with style():
        figure = Figure(figsize=(COLUMN, height), layout="constrained")
        FigureCanvasAgg(figure)
        return figure, figure.subplots(rows, columns, squeeze=False, **options)


def label_end(axes: Axes, x: float, y: float, text: str, colour: str) -> None:
    """Write a series' name beside its last point."""
    axes.annotate(text, (x, y), xytext=(4, 0), textcoords="offset points", color=colour, fontsize=7.5, va="center")


def save(figure: Figure, path: Path, stamp: str) -> None:
    """`path`.png, `path`.pdf and `path`.csv; the stamp is written below the axes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    drawn(figure).to_csv(path.with_suffix(".csv"), index=False)
    with style():
        if stamp:
            figure.supxlabel(stamp, fontsize=6, color="0.5", x=0.995, ha="right")
        figure.savefig(path.with_suffix(".png"), metadata={"Software": None})
        figure.savefig(path.with_suffix(".pdf"), metadata={"CreationDate": None})


def drawn(figure: Figure) -> pd.DataFrame:
    """What the artists hold: panel, series (label), x, y, and value for images. Unlabelled helpers are left out."""
    rows = [row for axes in figure.axes for row in (*_lines(axes), *_points(axes), *_bars(axes), *_pixels(axes))]
    return pd.DataFrame(rows, columns=["panel", "series", "x", "y", "value"])


def _lines(axes: Axes) -> Iterator[tuple]:
    for line in axes.get_lines():
        if not str(line.get_label()).startswith("_"):
            yield from ((_panel(axes), line.get_label(), x, y, None) for x, y in zip(*line.get_data(), strict=True))


def _points(axes: Axes) -> Iterator[tuple]:
    for collection in axes.collections:
        if isinstance(collection, PathCollection) and not str(collection.get_label()).startswith("_"):
            yield from ((_panel(axes), collection.get_label(), x, y, None) for x, y in np.asarray(collection.get_offsets()))


def _bars(axes: Axes) -> Iterator[tuple]:
    for container in axes.containers:
        for patch in getattr(container, "patches", []):
            yield (_panel(axes), container.get_label(), patch.get_x() + patch.get_width() / 2, patch.get_height(), None)


def _pixels(axes: Axes) -> Iterator[tuple]:
    for image in axes.get_images():
        for (y, x), value in np.ndenumerate(np.ma.filled(image.get_array(), np.nan)):
            yield (_panel(axes), image.get_label(), x, y, value)


def _panel(axes: Axes) -> str:
    return axes.get_title() or axes.get_title(loc="left") or axes.get_ylabel()
