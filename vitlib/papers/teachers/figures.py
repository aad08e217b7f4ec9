"""The teachers in pictures, from results alone."""

from __future__ import annotations

from matplotlib.figure import Figure
from matplotlib.ticker import MultipleLocator

from vitlib.grid.results import Results
from vitlib.report.distances import draw_distances, uniform_attention_distance
from vitlib.report.figures import PALETTE, TEACHER, canvas, legend, style

COLOURS = {"supervised": PALETTE[0], "dino": PALETTE[3], "mae": PALETTE[2], "convnet": PALETTE[1], "untrained": TEACHER}
LABELS = {"supervised": "supervised", "dino": "DINO", "mae": "MAE", "convnet": "convnet", "untrained": "untrained"}


@style()
def figure_training(results: Results) -> Figure:
    """Left: training loss, each divided by that of its first epoch. Right: accuracy followed while training, top-1 of the networks with a
    classifier, on all test images, and k-NN of DINO and MAE, on a subset alone: 2,000 test images and their neighbours among 5,000
    training images (`smoke`: 50 and 100), so that it differs from the table's k-NN over all images. Solid: class token, dashed: mean of
    the patches; one training of each.
    """
    history = results.history("pretraining")
    figure, ((losses, accuracies),) = canvas(1, 2, height=2.6)
    for (method, model), rows in history.groupby(["method", "model"], sort=False) if len(history) else ():
        done, label = rows["epoch"] / rows["epoch"].max(), f"{LABELS[method]}, {model}"
        losses.plot(done, rows["loss"] / rows["loss"].iloc[0], color=COLOURS[method], label=label)
        for column in {"top1", "knn class", "knn mean"} & set(rows):
            seen = rows[column].notna()
            style_of = "--" if column == "knn mean" else "-"
            accuracies.plot(done[seen], rows.loc[seen, column], style_of, color=COLOURS[method], label=f"{label}: {column}")
    losses.set(xlabel="share of training", ylabel="loss / loss of the first epoch", title="Loss")
    accuracies.set(xlabel="share of training", ylabel="test accuracy (%)", title="top-1, or k-NN (dashed: patch mean)")
    legend(losses, above=True)
    return figure


@style()
def figure_attention_distance(results: Results) -> Figure:
    """Attention distance by block on test images. Lines: mean over heads and images, with its 95 % interval over images (often narrower
    than the line); dots: single heads; dotted: attention spread evenly over the image. One training of each.
    """
    figure, ((axes,),) = canvas(height=3.0)
    for point, stored in results.runs("distances"):
        method = point["method"]
        named = f"{LABELS[method]}, {point['model']}", f"{LABELS[method]} heads"
        draw_distances(axes, stored.arrays["distance"], COLOURS[method], *named)
    settings = results.study.settings
    patch = next(iter(settings.transformers.values())).patch_size
    axes.axhline(uniform_attention_distance(settings.data.image_size, patch), color=TEACHER, linestyle=":", label="uniform attention")
    axes.set(xlabel="block", ylabel="attention distance (px)")
    axes.xaxis.set_major_locator(MultipleLocator(1))
    legend(axes, above=True, leave_out="heads")
    return figure
