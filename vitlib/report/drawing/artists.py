"""What a figure's artists hold, as a table: what is drawn is what the results hold."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PathCollection, PolyCollection, QuadMesh
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure

COLOURS = ("red", "green", "blue")  # channels of a picture


def drawn(figure: Figure) -> pd.DataFrame:
    """What the artists hold: panel, series, x, y, and value for images. Helpers without a name are left out.

    A series is named by an artist's gid, otherwise by its label. The ends of an error bar, and the edges of a band, are series of their
    own: '..., interval' and '..., band'.
    """
    panels = [axes for axes in figure.axes if axes.get_label() != "<colorbar>"]
    readers = (_lines, _points, _bars, _intervals, _bands, _pixels)
    rows = [row for axes in panels for read in readers for row in read(axes)]
    return pd.DataFrame(rows, columns=["panel", "series", "x", "y", "value"])


def _name(artist: Artist) -> str:
    label = str(artist.get_label())
    return artist.get_gid() or ("" if label.startswith("_") else label)


def _lines(axes: Axes) -> Iterator[tuple]:
    for line in axes.get_lines():
        if name := _name(line):
            points = np.column_stack([np.asarray(values, float) for values in line.get_data()])
            yield from ((_panel(axes), name, x, y, None) for x, y in points if not (line.get_gid() and np.isnan([x, y]).any()))


def _points(axes: Axes) -> Iterator[tuple]:
    for collection in axes.collections:
        if isinstance(collection, PathCollection) and (name := _name(collection)):
            yield from ((_panel(axes), name, x, y, None) for x, y in np.asarray(collection.get_offsets()))


def _bars(axes: Axes) -> Iterator[tuple]:
    for container in axes.containers:
        for patch in getattr(container, "patches", []):
            yield (_panel(axes), container.get_label(), patch.get_x() + patch.get_width() / 2, patch.get_height(), None)


def _intervals(axes: Axes) -> Iterator[tuple]:
    """Points with error bars and their intervals, also those on bars, and intervals that stand alone."""
    bars = {id(container.errorbar): container.get_label() for container in axes.containers if getattr(container, "errorbar", None)}
    for container in axes.containers:
        label = bars.get(id(container), container.get_label())
        if isinstance(container, ErrorbarContainer) and not label.startswith("_"):
            points, _, collections = container.lines
            if points is not None:
                yield from ((_panel(axes), label, x, y, None) for x, y in zip(*points.get_data(), strict=True))
            yield from ((_panel(axes), f"{label}, interval", x, y, None) for collection in collections for x, y in _ends(collection))
    for collection in axes.collections:
        if isinstance(collection, LineCollection) and (name := collection.get_gid()):
            yield from ((_panel(axes), name, x, y, None) for x, y in _ends(collection))


def _ends(collection: LineCollection) -> Iterator[np.ndarray]:
    return (end for segment in collection.get_segments() for end in segment)


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
                yield (_panel(axes), mesh.get_gid() or "heat map", x, y, value)


def _panel(axes: Axes) -> str:
    return axes.get_title() or axes.get_title(loc="left") or axes.get_ylabel()
