"""The teachers in pictures, from results alone."""

from __future__ import annotations

from matplotlib.figure import Figure
from matplotlib.ticker import MultipleLocator

from vitlib.grid.results import Results
from vitlib.report.distances import draw_distances, uniform_attention_distance
from vitlib.report.figures import canvas, label_ends, legend, look, style

LABELS = {"supervised": "supervised", "dino": "DINO", "mae": "MAE", "convnet": "convnet", "untrained": "untrained"}
LOOKS = {method: look(name) for method, name in LABELS.items()}
WATCHED = {"top1": "-", "knn class": "-", "knn mean": "--"}


@style()
def figure_training(results: Results) -> Figure:
    """Left: training loss, each divided by that of its first epoch. Right: accuracy followed while training, top-1 of the networks with a
    classifier, on all test images, and k-NN of DINO and MAE, on a subset alone: 2,000 test images and their neighbours among 5,000
    training images (`smoke`: 50 and 100), so that it differs from the table's k-NN over all images. Solid: class token, dashed: mean of
    the patches; one training of each, so that there are no intervals.
    """
    history = results.history("pretraining")
    figure, ((losses, accuracies),) = canvas(1, 2, height=2.8)
    named = {}
    for (method, model), rows in history.groupby(["method", "model"], sort=False) if len(history) else ():
        done, label = rows["epoch"] / rows["epoch"].max(), f"{LABELS[method]}, {model}"
        losses.plot(done, rows["loss"] / rows["loss"].iloc[0], label=label, markevery=(0, max(1, len(rows) // 6)), **LOOKS[method].lines)
        for column in [name for name in WATCHED if name in rows]:
            seen = rows[column].notna()
            named[f"{label}: {column}"] = {"top1": label, "knn class": label, "knn mean": "patches"}[column]
            drawn_as = LOOKS[method].but(line=WATCHED[column], hollow=column == "knn mean").lines | {"markersize": 3.5}
            accuracies.plot(done[seen], rows.loc[seen, column], label=f"{label}: {column}", **drawn_as)
    losses.set(xlabel="share of training", ylabel="loss / loss of the first epoch", title="loss")
    accuracies.set(xlabel="share of training", ylabel="test accuracy (%)", title="top-1, or k-NN (dashed: patch mean)")
    label_ends(accuracies, names=named)
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
        draw_distances(axes, stored.arrays["distance"], LOOKS[method], *named)
    settings = results.study.settings
    patch = next(iter(settings.transformers.values())).patch_size
    axes.axhline(uniform_attention_distance(settings.data.image_size, patch), label="uniform attention", **look("uniform attention").rule)
    axes.set(xlabel="block", ylabel="attention distance (px)")
    axes.xaxis.set_major_locator(MultipleLocator(1))
    legend(axes, above=True, leave_out="heads")
    return figure
