"""A figure in words, read from its artists: panels, axes, series and named rows."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure

LONGEST = 300  # letters: a screen reader reads the whole of it
SHORTEST = 25  # of the last sentence: less of it says nothing
CAPTION = 150  # at most, for the caption, which is read below the picture too
MANY = 7  # names that are told one by one
WORD = re.compile(r"[^\W\d_]{2}")


def described(figure: Figure, caption: str = "") -> str:
    """What a figure shows, in at most 300 letters: the caption's first sentence, then panels, axes, series and rows as they are drawn."""
    panels = [axes for axes in figure.axes if axes.get_label() != "<colorbar>"]
    said = _shortened(_first_sentence(_plain(caption)), CAPTION)
    for sentence in filter(None, _of_panels(panels)):
        if len(said) < LONGEST - SHORTEST:
            said = _shortened(f"{said} {sentence}".strip(), LONGEST)
    return said


def _of_panels(panels: list[Axes]) -> Iterator[str]:
    titles = _distinct(axes.get_title() or axes.get_title(loc="left") for axes in panels)
    if len(panels) > 1:
        yield _listed(f"{len(panels)} panels", titles) or f"{len(panels)} panels."
    elif titles:
        yield f"{titles[0]}."
    yield _axes(panels)
    shown = _distinct(label for axes in panels for label in axes.get_legend_handles_labels()[1] + _images(axes))
    yield _listed("Shown", shown)
    yield _listed("Rows", _distinct(name for axes in panels for name in _names(axes)))
    labels = _distinct(text.get_text() for axes in panels for text in axes.texts)
    yield _listed("Labelled", [label for label in labels if WORD.search(label) and label not in shown])


def _axes(panels: list[Axes]) -> str:
    """'Heat map: block against epoch.', or what one of the axes says."""
    across = _some(_distinct(axes.get_xlabel() for axes in panels))
    up = _some(_distinct(axes.get_ylabel() for axes in panels))
    said = " against ".join(filter(None, [up, across]))
    if any(isinstance(drawn, QuadMesh) for axes in panels for drawn in axes.collections):
        said = f"Heat map: {said}".removesuffix(": ")
    return f"{said[0].upper()}{said[1:]}." if said else ""


def _images(axes: Axes) -> list[str]:
    return [label for image in axes.get_images() if not (label := str(image.get_label())).startswith("_")]


def _names(axes: Axes) -> list[str]:
    """Tick labels that are words."""
    ticks = [label.get_text() for axis in (axes.yaxis, axes.xaxis) for label in axis.get_ticklabels()]
    return [text for text in ticks if not text.startswith("$") and WORD.search(text)]


def _listed(what: str, names: list[str]) -> str:
    return f"{what}: {_some(names)}." if names else ""


def _some(names: list[str]) -> str:
    """All of a few, the first of many."""
    rest = len(names) - MANY
    return "; ".join(names) if rest <= 1 else f"{'; '.join(names[:MANY])} and {rest} more"


def _distinct(texts: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(filter(None, (_plain(text) for text in texts))))


def _plain(text: str) -> str:
    """Without marks of Markdown and TeX, in one line."""
    return " ".join(re.sub(r"[*`$\\{}]", "", text).split())


def _first_sentence(text: str) -> str:
    sentence = re.split(r"(?<=[.!?]) (?=[A-Z])", text, maxsplit=1)[0]
    return sentence if sentence.endswith((".", "!", "?")) or not sentence else f"{sentence}."


def _shortened(text: str, longest: int) -> str:
    """Cut between words."""
    return text if len(text) <= longest else text[: longest - 1].rsplit(" ", 1)[0].rstrip(" ,;:") + "…"
