"""What can be read of a figure: texts that are too small or cut off, at both widths."""

from matplotlib.figure import Figure
from matplotlib.text import Text

from vitlib.report import figures

SMALLEST = 6.0  # points
TOLERANCE = 0.01  # inches
STAMP = "A document · profile quick · digits, 8 px · 3 seeds unless said otherwise"


def faults(figure: Figure) -> list[str]:
    """A line for each text below 6 pt and each side at which something is cut off, as the figure is saved."""
    with figures.style(), figures._stamped(figure, STAMP):
        figure.draw_without_rendering()
        drawn, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
        texts = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()]
        small = [f"{text.get_text()!r}: {text.get_fontsize():g} pt" for text in texts if text.get_fontsize() < SMALLEST]
    beyond = {"left": -drawn.x0, "right": drawn.x1 - width, "below": -drawn.y0, "above": drawn.y1 - height}
    return small + [f"cut off {side}: {inches:.2f} in" for side, inches in beyond.items() if inches > TOLERANCE]


def faults_at_both_widths(draw, *arguments) -> dict[str, list[str]]:
    """Of a figure function: {width: faults}, empty where there are none."""
    page = draw(*arguments)
    with figures.narrow():
        column = draw(*arguments)
    assert (page.get_figwidth(), column.get_figwidth()) == (figures.COLUMN, figures.NARROW)
    return {name: found for name, figure in (("page", page), ("column", column)) if (found := faults(figure))}


def texts_inside(figure: Figure) -> int:
    """How many texts a drawing of one panel has; asserts that none of them leaves it to the left or right."""
    figure.draw_without_rendering()
    (axes,) = figure.axes
    boxes = [text.get_window_extent() for text in axes.texts if text.get_text()]
    assert all(figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1 for box in boxes)
    return len(boxes)
