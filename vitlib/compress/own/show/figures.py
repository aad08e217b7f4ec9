"""Figures of an own model: some of the photos, accuracy against size and latency, attention distances."""

from __future__ import annotations

import io

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vitlib.compress.own.show.tables import distances
from vitlib.compress.own.study import OwnModel, OwnResults
from vitlib.inputs.pictures import open_image, square
from vitlib.inputs.sources import class_names, listing, load
from vitlib.report import figures
from vitlib.report.distances import draw_distances
from vitlib.report.pictures import Picture

SHOWN = (8, 4)  # classes and photos of each, at most
SIZE, LATENCY = ("packed MB", "packed file (MB)"), ("latency ms", "latency of one image (ms)")


def show_photos(study: OwnModel) -> Picture:
    """Some training photos as the models get them, a column a class."""
    picture = io.BytesIO()
    with figures.style():
        figure = _photos(study)
        figure.savefig(picture, format="png", metadata={"Software": None})
    return Picture.of(figure, picture.getvalue(), show_photos.__doc__ or "")


@figures.style()
def figure_sizes(results: OwnResults) -> Figure:
    """Top-1 with Wilson's 95 % interval over the test photos against the size of the packed file; up and to the left is better."""
    figure, ((axes,),) = figures.canvas()
    draw_trade_off(axes, results, *SIZE)
    _name_points(axes, results, SIZE[0])
    return figure


@figures.style()
def figure_times(results: OwnResults) -> Figure:
    """Top-1 with Wilson's 95 % interval over the test photos against the median latency of one image on this machine."""
    figure, ((axes,),) = figures.canvas()
    draw_trade_off(axes, results, *LATENCY)
    figures.legend(axes, above=True)
    return figure


@figures.style()
def figure_distances(results: OwnResults) -> Figure:
    """How far each block looks: mean over heads and test photos with 95 % intervals, dots for heads; dotted, attention to all alike."""
    figure, ((axes,),) = figures.canvas()
    for name, distance in distances(results).arrays.items():
        draw_distances(axes, distance, looks(results)[name], name, f"{name} heads")
    if (everywhere := results.study.everywhere) is not None:
        axes.axhline(everywhere, label="to all alike", **figures.look("uniform attention").rule)
    axes.set(xlabel="block", ylabel="attention distance (px)")
    figures.legend(axes, above=True, leave_out=" heads", ncols=5)
    return figure


def looks(results: OwnResults) -> dict[str, figures.Look]:
    """Of each model, the same in every figure; the star is what the others are compared with."""
    others = [name for name in results.study.rows if name != results.study.reference]
    return {results.study.reference: figures.look("teacher")} | figures.distinct(others)


def draw_trade_off(axes: Axes, results: OwnResults, column: str, title: str, chosen: str = "") -> None:
    """A point with its interval for each stored model; where one is chosen, the others are pale."""
    table, shown = results.models.dropna(subset=["top-1 %", column]), looks(results)
    for row in table.to_dict("records"):
        name, pale = row["model"], bool(chosen) and row["model"] not in (chosen, results.study.reference)
        spread = [[row["top-1 %"] - row["low"]], [row["high"] - row["top-1 %"]]]
        axes.errorbar([row[column]], [row["top-1 %"]], spread, label=name, alpha=0.25 if pale else 1.0, **shown[name].points)
    if not table.empty:
        axes.set_xlim(0, 1.12 * table[column].max())
    axes.set(xlabel=title, ylabel="top-1 (%)")


def _name_points(axes: Axes, results: OwnResults, column: str) -> None:
    """Each point's model above its interval: sizes are far enough apart."""
    for row in results.models.dropna(subset=["top-1 %", column]).to_dict("records"):
        place = {"xytext": (0, 2), "textcoords": "offset points", "va": "bottom", "ha": "center", "fontsize": 7.5}
        axes.annotate(row["model"], (row[column], row["high"]), color=looks(results)[row["model"]].colour, **place)
    axes.margins(y=0.12)


def _photos(study: OwnModel) -> Figure:
    names, pictures = class_names(study.data, study.place.data_dir)[: SHOWN[0]], _thumbnails(study)
    figure, axes = figures.canvas(SHOWN[1], len(names), height=3.2)
    for panel in axes.flat:
        panel.axis("off")
    for column, (name, photos) in enumerate(zip(names, pictures, strict=True)):
        axes[0, column].set_title(name if len(name) < 12 else f"{name[:5]}…{name[-4:]}", fontsize="small")
        for row, photo in enumerate(photos):
            axes[row, column].imshow(photo)
    return figure


def _thumbnails(study: OwnModel) -> list[list[np.ndarray]]:
    """Pictures (H, W, 3) by class."""
    data, folder = study.data, study.place.data_dir
    count = len(class_names(data, folder)[: SHOWN[0]])
    if data.source.startswith("folder/"):
        files, labels = listing(data, "train", folder)
        shown = lambda index: square(open_image(files[index], 3), data.image_size)  # noqa: E731
    else:
        images, labels = load(data, "train", folder)
        shown = lambda index: np.broadcast_to(images[index], (3, *images.shape[2:]))  # noqa: E731
    return [[shown(index).transpose(1, 2, 0) for index in np.flatnonzero(labels == label)[: SHOWN[1]]] for label in range(count)]
