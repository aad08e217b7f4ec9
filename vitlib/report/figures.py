"""Figures: one style, two widths, and saving as PNG, PDF and the CSV of the points, lines, bars and pixels drawn.

Figures are made without pyplot, so that a widget's thread can draw too. Same input, same bytes. A figure function is decorated by
`style()`, makes its axes by `canvas` and works at both widths: of a page, and of one column of two, where panels of a row stand below each
other.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator
from contextlib import ContextDecorator, ExitStack, contextmanager
from contextvars import ContextVar
from functools import partial, wraps
from pathlib import Path
from threading import RLock

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font
from matplotlib.layout_engine import LayoutEngine
from numpy.typing import ArrayLike

from vitlib import durable
from vitlib.report.drawing.artists import drawn
from vitlib.report.drawing.labels import label_ends, legend, legend_above
from vitlib.report.drawing.palette import LOOKS, PALETTE, TEACHER, Look, distinct, look

__all__ = [
    "COLUMN",
    "LOOKS",
    "NARROW",
    "PALETTE",
    "TEACHER",
    "Look",
    "band",
    "canvas",
    "distinct",
    "drawn",
    "is_narrow",
    "label_ends",
    "legend",
    "legend_above",
    "look",
    "narrow",
    "save",
    "save_column",
    "show",
    "shown_in",
    "style",
]

STYLE = Path(__file__).with_name("vitlib.mplstyle")
COLUMN, NARROW = 6.3, 3.3  # inches: the text width of an A4 page, and of one column of two
STAMP_WIDTH, STAMP_LINE = 20, 0.11  # of the stamp: letters an inch and inches a line, so that a column holds the widest letters
MISSING, FEW = "–  not measured", 6  # written into an empty panel, and of how many panels
_STYLED = RLock()
_SHOWN: ContextVar[set | None] = ContextVar("shown", default=None)  # what the figure function at work has asked results for
_WIDTH: ContextVar[float] = ContextVar("width", default=COLUMN)


class style(ContextDecorator):
    """The house style: a context manager, or a decorator of a figure function, whose figures can then be drawn anew at another width.

    One thread at a time: matplotlib's settings belong to the process, and explorers draw in threads of their own.
    """

    def _recreate_cm(self) -> style:
        return style()

    def __enter__(self) -> None:
        with ExitStack() as stack:
            stack.enter_context(_STYLED)
            stack.enter_context(mpl.rc_context(fname=STYLE))
            outer = _SHOWN.get()
            token = _SHOWN.set(set() if outer is None else outer)  # a function that another one calls draws for both
            stack.callback(_SHOWN.reset, token)
            self._stack = stack.pop_all()

    def __exit__(self, *exception) -> None:
        self._stack.__exit__(*exception)

    def __call__(self, function: Callable) -> Callable:
        styled = super().__call__(function)

        @wraps(function)
        def draw(*args, **keywords):
            result = styled(*args, **keywords)
            if isinstance(result, Figure):
                result.again = partial(draw, *args, **keywords)
                _say_what_is_missing(result)
            return result

        return draw


def _say_what_is_missing(figure: Figure) -> None:
    """No panel stays empty: one whose runs are missing says so, or has a dash where there are many."""
    said = MISSING if len(figure.axes) <= FEW else MISSING[0]
    for axes in figure.axes:
        empty = axes.axison and not axes.texts and not np.isfinite(axes.dataLim.get_points()).all()
        if empty and axes.get_label() != "<colorbar>":
            text = axes.text(0.5, 0.5, said, transform=axes.transAxes, ha="center", va="center", color=TEACHER, fontsize=8)
            text.set_in_layout(False)


@contextmanager
def narrow() -> Iterator[None]:
    """Figures made inside are as wide as one column of two."""
    token = _WIDTH.set(NARROW)
    try:
        yield
    finally:
        _WIDTH.reset(token)


def is_narrow() -> bool:
    return _WIDTH.get() < COLUMN


def canvas(
    rows: int = 1, columns: int = 1, *, height: float = 2.8, abreast: int = 1, narrow_height: float | None = None, **options
) -> tuple[Figure, np.ndarray]:
    """A figure as wide as a page or, inside `narrow`, as a column, and its axes (rows, columns).

    Args:
        height: in inches, of a page's figure.
        abreast: so many panels beside each other in a column; those of one row follow each other.
        narrow_height: in inches, of a column's figure; by default as high for each row of panels as a page's figure.
        options: of `Figure.subplots`; ratios of heights and widths are of a page's figure alone where panels move.
    """
    if not is_narrow() or columns <= abreast:
        figure = _empty(narrow_height if is_narrow() and narrow_height else height)
        return figure, figure.subplots(rows, columns, squeeze=False, **options)
    below = -(-rows * columns // abreast)
    figure = _empty(narrow_height or height / rows * below)
    options = {name: value for name, value in options.items() if name not in ("height_ratios", "width_ratios")}
    axes = figure.subplots(below, abreast, squeeze=False, **options).ravel()
    for spare in axes[rows * columns :]:
        spare.remove()
    return figure, axes[: rows * columns].reshape(rows, columns)


def _empty(height: float) -> Figure:
    figure = Figure(figsize=(_WIDTH.get(), height), layout="constrained")
    figure.shown = _SHOWN.get()
    FigureCanvasAgg(figure)
    return figure


def show(images: set) -> None:
    """Note images that results are about: a figure function that asks for results draws them."""
    shown = _SHOWN.get()
    if shown is not None:
        shown |= images


def shown_in(figure: Figure) -> set:
    """The images that the figure's function asked results for, inside `style`."""
    return getattr(figure, "shown", None) or set()


def band(axes: Axes, x: ArrayLike, low: ArrayLike, high: ArrayLike, *, of: str, colour: str) -> None:
    """A shaded band around the line labelled `of`."""
    axes.fill_between(x, low, high, color=colour, alpha=0.13, linewidth=0, gid=f"{of}, band")


def save(figure: Figure, path: Path, stamp: str) -> bytes:
    """Write `path`.png, `path`.pdf and `path`.csv, the stamp in lines of its own below the axes; returns the PNG.

    The picture is as wide as the figure, whatever the stamp says: nothing is cropped, and the axes keep their size.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with durable.whole(path.with_suffix(".csv")) as aside:
        drawn(figure).to_csv(aside, index=False)
    with style(), _stamped(figure, stamp):
        for suffix, without in ((".png", "Software"), (".pdf", "CreationDate")):
            with durable.whole(path.with_suffix(suffix)) as aside:
                figure.savefig(aside, metadata={without: None})
    return path.with_suffix(".png").read_bytes()


def save_column(figure: Figure, path: Path, stamp: str) -> None:
    """Draw what a figure function drew again for one column of two, and write it as `path`.column.pdf."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with narrow(), style():
        column = figure.again()
        with _stamped(column, stamp), durable.whole(path.with_suffix(".column.pdf")) as aside:
            column.savefig(aside, metadata={"CreationDate": None})


@contextmanager
def _stamped(figure: Figure, stamp: str) -> Iterator[None]:
    """The figure a strip higher, with the stamp in it; as it was afterwards."""
    (width, height), dpi = figure.get_size_inches(), figure.dpi
    lines = textwrap.wrap(_printable(stamp), int(STAMP_WIDTH * width))
    figure.dpi = mpl.rcParams["savefig.dpi"]  # letters are a little wider or narrower at each resolution
    strip = STAMP_LINE * len(lines)
    share = strip / (height + strip)
    figure.set_size_inches(width, height + strip)
    text = figure.text(0.995, 0.5 * share, "\n".join(lines), fontsize=6, color=TEACHER, ha="right", va="center", linespacing=1.1)
    text.set_in_layout(False)
    engine = figure.get_layout_engine()
    if engine:
        engine.set(rect=(0, share, 1, 1 - share))
        _settle(figure, engine)
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


def _settle(figure: Figure, engine: LayoutEngine) -> None:
    """Once is too little for axes of a fixed aspect and for ticks that change; PNG and PDF then have the same places."""
    before = None
    for _ in range(3):
        engine.execute(figure)
        places = np.array([axes.get_position().bounds for axes in figure.axes])
        if before is not None and np.allclose(places, before, atol=1e-4):
            return
        before = places


def _printable(text: str) -> str:
    """With a question mark for each letter that the font lacks: matplotlib would warn and draw a box."""
    known = get_font(findfont("DejaVu Sans")).get_charmap()
    return "".join(letter if ord(letter) in known else "?" for letter in text)
