"""Figures: one style, a fixed colour for each method, and saving as PNG, PDF and the CSV of the points, lines, bars and pixels drawn.

Figures are made without pyplot, so that a widget's thread can draw too. Same input, same bytes.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from pathlib import Path
from threading import RLock

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PathCollection, PolyCollection, QuadMesh
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font
from numpy.typing import ArrayLike

STYLE = Path(__file__).with_name("vitlib.mplstyle")
COLUMN = 6.3  # inches: the text width of an A4 page
PALETTE = ["#0173b2", "#de8f05", "#029e73", "#d55e00", "#cc78bc", "#ca9161"]  # seaborn's 'colorblind'
TEACHER = "0.45"
COLOURS = ("red", "green", "blue")  # channels of a picture
STAMP_WIDTH, STAMP_LINE = 125, 0.11  # of the stamp: letters and inches a line, so that a column holds the widest letters
_STYLED = RLock()
_SHOWN: ContextVar[set | None] = ContextVar("shown", default=None)  # what the figure function at work has asked results for


def style() -> AbstractContextManager[None]:
    """The house style: a context manager, or a decorator of a figure function."""
    return contextmanager(_style)()


def canvas(rows: int = 1, columns: int = 1, *, height: float = 2.8, **options) -> tuple[Figure, np.ndarray]:
    """A figure one text column wide and its axes (rows, columns)."""
    figure = Figure(figsize=(COLUMN, height), layout="constrained")
    figure.shown = _SHOWN.get()
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, squeeze=False, **options)


def show(images: set) -> None:
    """Note images that results are about: a figure function that asks for results draws them."""
    shown = _SHOWN.get()
    if shown is not None:
        shown |= images


def shown_in(figure: Figure) -> set:
    """The images that the figure's function asked results for, inside `style`."""
    return getattr(figure, "shown", None) or set()


def legend(axes: Axes, *, above: bool = False, leave_out: str = "_", **options) -> None:
    """The axes' legend, or one above the figure; none where nothing is labelled. Labels that end in `leave_out` are left out."""
    entries = [(handle, label) for handle, label in zip(*axes.get_legend_handles_labels(), strict=True) if not label.endswith(leave_out)]
    if not entries:
        return
    if above:
        axes.figure.legend(*zip(*entries, strict=True), loc="outside upper center", **{"ncols": 4} | options)
    else:
        axes.legend(*zip(*entries, strict=True), **options)


def band(axes: Axes, x: ArrayLike, low: ArrayLike, high: ArrayLike, *, of: str, colour: str) -> None:
    """A shaded band around the line labelled `of`."""
    axes.fill_between(x, low, high, color=colour, alpha=0.13, linewidth=0, gid=f"{of}, band")


def save(figure: Figure, path: Path, stamp: str) -> bytes:
    """Write `path`.png, `path`.pdf and `path`.csv, the stamp in lines of its own below the axes; returns the PNG.

    The picture is as wide as the figure, whatever the stamp says: nothing is cropped, and the axes keep their size.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    drawn(figure).to_csv(path.with_suffix(".csv"), index=False)
    with style(), _stamped(figure, stamp):
        figure.savefig(path.with_suffix(".png"), metadata={"Software": None})
        figure.savefig(path.with_suffix(".pdf"), metadata={"CreationDate": None})
    return path.with_suffix(".png").read_bytes()


@contextmanager
def _stamped(figure: Figure, stamp: str) -> Iterator[None]:
    """The figure a strip higher, with the stamp in it; as it was afterwards."""
    lines = textwrap.wrap(_printable(stamp), STAMP_WIDTH)
    (width, height), dpi = figure.get_size_inches(), figure.dpi
    figure.dpi = mpl.rcParams["savefig.dpi"]  # letters are a little wider or narrower at each resolution
    strip = STAMP_LINE * len(lines)
    share = strip / (height + strip)
    figure.set_size_inches(width, height + strip)
    text = figure.text(0.995, 0.5 * share, "\n".join(lines), fontsize=6, color="0.5", ha="right", va="center", linespacing=1.1)
    text.set_in_layout(False)
    engine = figure.get_layout_engine()
    if engine:
        engine.set(rect=(0, share, 1, 1 - share))
        for _ in range(3):  # once is too little for axes of a fixed aspect; PNG and PDF then have the same places
            engine.execute(figure)
        figure.set_layout_engine("none")
    try:
        yield
    finally:
        text.remove()
        figure.dpi = dpi
        figure.set_size_inches(width, height)
        if engine:
            engine.set(rect=(0, 0, 1, 1))
            figure.set_layout_engine(engine)


def _printable(text: str) -> str:
    """With a question mark for each letter that the font lacks: matplotlib would warn and draw a box."""
    known = get_font(findfont("DejaVu Sans")).get_charmap()
    return "".join(letter if ord(letter) in known else "?" for letter in text)


def drawn(figure: Figure) -> pd.DataFrame:
    """What the artists hold: panel, series (label), x, y, and value for images. Unlabelled helpers are left out.

    The ends of an error bar, and the edges of a band, are series of their own: '..., interval' and '..., band'.
    """
    panels = [axes for axes in figure.axes if axes.get_label() != "<colorbar>"]
    readers = (_lines, _points, _bars, _intervals, _bands, _pixels)
    rows = [row for axes in panels for read in readers for row in read(axes)]
    return pd.DataFrame(rows, columns=["panel", "series", "x", "y", "value"])


def _style() -> Iterator[None]:
    """One thread at a time: matplotlib's settings belong to the process, and explorers draw in threads of their own."""
    with _STYLED, mpl.rc_context(fname=STYLE):
        outer = _SHOWN.get()
        token = _SHOWN.set(set() if outer is None else outer)  # a function that another one calls draws for both
        try:
            yield
        finally:
            _SHOWN.reset(token)


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


def _intervals(axes: Axes) -> Iterator[tuple]:
    """Points with error bars and their intervals, also those on bars."""
    bars = {id(container.errorbar): container.get_label() for container in axes.containers if getattr(container, "errorbar", None)}
    for container in axes.containers:
        label = bars.get(id(container), container.get_label())
        if isinstance(container, ErrorbarContainer) and not label.startswith("_"):
            points, _, collections = container.lines
            if points is not None:
                yield from ((_panel(axes), label, x, y, None) for x, y in zip(*points.get_data(), strict=True))
            ends = (end for collection in collections for segment in collection.get_segments() for end in segment)
            yield from ((_panel(axes), f"{label}, interval", x, y, None) for x, y in ends)


def _bands(axes: Axes) -> Iterator[tuple]:
    for collection in axes.collections:
        if isinstance(collection, PolyCollection) and collection.get_gid():
            corners = np.unique(np.concatenate([path.vertices for path in collection.get_paths()]), axis=0)
            yield from ((_panel(axes), collection.get_gid(), x, y, None) for x, y in corners)


def _pixels(axes: Axes) -> Iterator[tuple]:
    for image in axes.get_images():
        pixels, name = np.ma.filled(image.get_array(), np.nan), image.get_label()
        channels = {name: pixels} if pixels.ndim == 2 else {f"{name}, {colour}": pixels[..., place] for place, colour in enumerate(COLOURS)}
        for series, channel in channels.items():
            yield from ((_panel(axes), series, x, y, value) for (y, x), value in np.ndenumerate(channel))
    for mesh in axes.collections:
        if isinstance(mesh, QuadMesh):
            for (y, x), value in np.ndenumerate(np.ma.filled(mesh.get_array(), np.nan)):
                yield (_panel(axes), "heat map", x, y, value)


def _panel(axes: Axes) -> str:
    return axes.get_title() or axes.get_title(loc="left") or axes.get_ylabel()
