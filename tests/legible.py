"""What can be read of a figure: texts that are too small or cut off, at both widths."""

from collections.abc import Iterator

from matplotlib.figure import Figure
from matplotlib.text import Text

from vitlib.report import figures

SMALLEST = 6.0  # points
TOLERANCE = 1.0  # pixels


def texts(figure: Figure) -> Iterator[Text]:
    return (text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip())


def faults(figure: Figure, stamp: str = "A document · profile quick · digits, 8 px · 3 seeds unless said otherwise") -> list[str]:
    """A line for each text below 6 pt or beyond the figure's edge, as it is saved."""
    with figures.style(), figures._stamped(figure, stamp):
        renderer, (_, _, right, top) = figure.canvas.get_renderer(), figure.bbox.extents
        figure.draw(renderer)
        found = [f"{text.get_text()!r}: {text.get_fontsize():g} pt" for text in texts(figure) if text.get_fontsize() < SMALLEST]
        for text in filter(_is_drawn, texts(figure)):
            box = Text.get_window_extent(text, renderer)
            if min(box.x0, box.y0) < -TOLERANCE or box.x1 > right + TOLERANCE or box.y1 > top + TOLERANCE:
                found.append(f"{text.get_text()!r}: cut off")
    return found


def _is_drawn(text: Text) -> bool:
    """Labels of ticks beyond the end of the axis are kept by matplotlib and not drawn."""
    axes = text.axes
    for axis in (axes.xaxis, axes.yaxis) if axes else ():
        low, high = sorted(axis.get_view_interval())
        for tick in [*axis.get_major_ticks(), *axis.get_minor_ticks()]:
            if text in (tick.label1, tick.label2):
                return axes.axison and low <= tick.get_loc() <= high
    return True


def faults_at_both_widths(draw, *arguments) -> dict[str, list[str]]:
    """Of a figure function: {width: faults}, empty where there are none."""
    page = faults(draw(*arguments))
    with figures.narrow():
        column = draw(*arguments)
    assert column.get_figwidth() == figures.NARROW
    return {name: found for name, found in (("page", page), ("column", faults(column))) if found}
