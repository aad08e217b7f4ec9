"""DeiT's figures, from results alone."""

from __future__ import annotations

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import FixedLocator, NullLocator, StrMethodFormatter

from vitlib.grid.results import Results
from vitlib.papers.deit.tables import SHORT, disagreement_matrices, frame_readouts_of_all, frame_schedules, published_name
from vitlib.report.diagrams import arrow, box
from vitlib.report.figures import PALETTE, TEACHER, band, canvas, legend, style
from vitlib.report.statistics import half_width, summary
from vitlib.report.tables import DASH

COLOURS = dict(zip(["none", "soft", "hard", "token", "token-long"], PALETTE, strict=False))
LABELS = {"none": "no teacher", "soft": "soft", "hard": "hard", "token": "distillation token", "token-long": "token, longer training"}
CLASS, DISTILLATION, PATCH = PALETTE[0], PALETTE[3], "0.75"
PUBLISHED_EPOCHS = {"none": 300, "token": 300, "token-long": 1000}  # of the rows of the paper's Table 5


@style()
def figure_architecture(results: Results) -> Figure:
    """Figure 2 of the publication: tokens and losses of the distilled student. Every number is read from the largest model of the profile;
    nothing is trained for it.
    """
    columns = ["patches", "tokens", "width", "blocks", "heads", "classes"]
    model = {name: _count(value) for name, value in results.frame("architecture").reindex(columns=columns).iloc[-1].items()}
    figure, ((axes,),) = canvas(height=3.0)
    axes.set(xlim=(0, 10), ylim=(0, 6.2))
    axes.axis("off")
    embedding = f"image → {model['patches']} patches, linear projection to width {model['width']}, + positions"
    box(axes, 0.2, 0.2, 9.6, 0.8, embedding, "0.95")
    names = ["class", *["patch"] * 5, "distil."]
    colours = [CLASS, *[PATCH] * 5, DISTILLATION]
    for index, (name, colour) in enumerate(zip(names, colours, strict=True)):
        x = 0.35 + 1.38 * index
        box(axes, x, 1.4, 1.0, 0.55, name, colour)
        arrow(axes, x + 0.5, 1.95, x + 0.5, 2.4)
        arrow(axes, x + 0.5, 3.6, x + 0.5, 4.0)
    axes.text(5.0, 1.16, f"… {model['patches']} patch tokens, {model['tokens']} tokens in all …", ha="center", va="center", fontsize=7)
    blocks = f"{model['blocks']} × block: self-attention ({model['heads']} heads) and feed-forward"
    box(axes, 0.2, 2.4, 9.6, 1.2, blocks, "0.9")
    box(axes, 0.2, 4.0, 1.9, 0.6, f"head ({model['classes']})", CLASS)
    box(axes, 7.9, 4.0, 1.9, 0.6, f"head ({model['classes']})", DISTILLATION)
    arrow(axes, 1.15, 4.6, 1.15, 5.1)
    arrow(axes, 8.85, 4.6, 8.85, 5.1)
    box(axes, 0.2, 5.1, 1.9, 0.6, "CE with the label", "1.0")
    box(axes, 7.9, 5.1, 1.9, 0.6, "teacher loss", "1.0")
    box(axes, 4.0, 5.1, 2.0, 0.6, "convnet teacher", TEACHER)
    arrow(axes, 6.0, 5.4, 7.9, 5.4)
    axes.text(6.95, 5.55, "hard label", ha="center", fontsize=7)
    return figure


@style()
def figure_strategies(results: Results) -> Figure:
    """Table 3 as a figure: top-1 on the test set by distillation strategy and, with the distillation token, by readout. Dots are means over
    seeds, bars the 95 % intervals of the mean. Each panel is a model size; ↑ is fine-tuned at the larger images.
    """
    measured = summary(frame_readouts_of_all(results), ["method", "readout", "size", "resolution"], "top1")
    rows = [
        ("none", "class"),
        ("soft", "class"),
        ("hard", "class"),
        *(("token", name) for name in ("class", "distillation", "class+distillation")),
    ]
    columns = list(dict.fromkeys(zip(measured["size"], measured["resolution"], strict=True)))
    figure, grid = canvas(1, len(columns), height=2.6, sharey=True, sharex=True)
    indexed = measured.set_index(["method", "readout", "size", "resolution"])
    for axes, (size, resolution) in zip(grid[0], columns, strict=True):
        for position, (method, readout) in enumerate(rows):
            point = indexed.loc[(method, readout, size, resolution)]
            half = np.nan_to_num(point["±"])
            axes.hlines(position, point["measured"] - half, point["measured"] + half, color=COLOURS[method])
            axes.plot([point["measured"]], [position], "o", color=COLOURS[method], label=f"{method}, {readout}")
        axes.set(title=f"DeiT-{SHORT[size]}{'↑' if resolution == 'up' else ''}", xlabel="top-1 (%)")
    grid[0, 0].set_yticks(range(len(rows)), [LABELS[method] if method != "token" else f"token: {readout}" for method, readout in rows])
    grid[0, 0].invert_yaxis()
    grid[0, 0].set_xlim(right=min(100, grid[0, 0].get_xlim()[1]))
    return figure


@style()
def figure_throughput(results: Results) -> Figure:
    """Figure 1: accuracy against throughput, model families joined by lines. Left: measured here, dots are means over seeds, vertical bars
    their 95 % intervals, the teacher is the mean of its trainings; ↑ is fine-tuned at the larger images. Right: published (hollow). Speeds
    are of different machines: compare the order of the models only.
    """
    figure, ((ours, theirs),) = canvas(1, 2, height=2.9)
    _measured_families(ours, results)
    _published_families(theirs, results)
    ours.set(title="measured here", ylabel="top-1 on the test set (%)")
    theirs.set(title="published: ImageNet, one V100", ylabel="ImageNet top-1 (%)")
    for axes in (ours, theirs):
        axes.set(xscale="log", xlabel="throughput (images/s)")
    _plain_log_ticks(ours)
    _plain_log_ticks(theirs)
    return figure


@style()
def figure_schedules(results: Results) -> Figure:
    """Figure 3: top-1 at the end of training against its length, for the largest student with and without distillation; every point is a
    training of its own. Left: measured here, thin lines join the two trainings of a seed, thick lines their means. Right: the published
    DeiT-B (hollow, values of Table 5): Figure 3 prints no values and says that without a teacher accuracy saturates after 400 epochs.
    """
    figure, ((ours, theirs),) = canvas(1, 2, height=2.6)
    trainings = frame_schedules(results).dropna(subset="top1")
    for method in ("none", "token"):
        table = trainings[trainings["method"] == method].pivot_table(index="seed", columns="epochs", values="top1")
        if len(table):
            _seeds(ours, table.columns.to_numpy(), table.to_numpy(), LABELS[method], COLOURS[method])
        x, y = _published_schedules(results, method)
        theirs.plot(x, y, "o-", color=COLOURS[method], mfc="white", label=LABELS[method])
    ours.set(title="measured here", ylabel="top-1 on the test set (%)", xticks=sorted(trainings["epochs"].unique()))
    theirs.set(title="published: DeiT-B on ImageNet", ylabel="ImageNet top-1 (%)", xticks=sorted(set(PUBLISHED_EPOCHS.values())))
    for axes in (ours, theirs):
        axes.set_xlabel("epochs of the training")
        axes.margins(x=0.15, y=0.15)
    legend(theirs, above=True)
    return figure


@style()
def figure_epochs(results: Results) -> Figure:
    """Learning curves, beside Figure 3: top-1 in the course of a training, on the validation images where the data have some, otherwise on
    the test images; the axis says which. Lines are means over seeds, bands the 95 % intervals of the mean. Points inside a schedule are
    not shorter trainings: the learning rate has not yet come down.
    """
    history = results.history("models")
    history = history[history["resolution"] == "native"] if len(history) else history
    watched = "test" if "test top1" in history else "validation"
    sizes = results.study.settings.sizes
    figure, grid = canvas(1, len(sizes), height=2.5, sharey=True)
    for axes, size in zip(grid[0], sizes, strict=True):
        _curves(axes, history, size, f"{watched} top1")
        axes.set(title=f"DeiT-{SHORT[size]}", xlabel="epoch")
    grid[0, 0].set(ylabel=f"top-1 on the {watched} images (%)", ylim=(0, 100))
    legend(grid[0, -1], above=True)
    return figure


@style()
def figure_disagreement(results: Results) -> Figure:
    """Table 4 as a figure: share of the test images (percent) on which two classifiers disagree; the row of the labels (groundtruth) is the
    error rate. Left: measured here, mean over seeds; the convnet is the teacher, the students are of the largest size.
    Right: published.
    """
    figure, ((ours, theirs),) = canvas(1, 2, height=3.3)
    matrix = disagreement_matrices(results)
    published = results.published("paper_table4").assign(other=lambda f: f["setting"].str.removeprefix("vs "))
    published = published.pivot(index="method", columns="other", values="value").reindex(index=matrix.index, columns=matrix.columns)
    for axes, frame, title in ((ours, matrix, "measured here (%)"), (theirs, published, "published: ImageNet (%)")):
        sns.heatmap(
            100 * frame, ax=axes, annot=True, fmt=".1f", annot_kws={"size": 6.5}, cmap="Blues", vmin=0, vmax=20, cbar=False, square=True
        )
        axes.set(title=title, xlabel="", ylabel="")
        axes.set_xticks(axes.get_xticks(), matrix.columns, rotation=40, ha="right", rotation_mode="anchor")
        axes.tick_params(length=0)
    theirs.set_yticklabels([])
    return figure


@style()
def figure_cosine(results: Results) -> Figure:
    """Section 4: cosine of the two prefix tokens after each block of the largest student, mean over the test images; class and distillation
    token, and as the control two class tokens, which both learn the label. Thin lines: each seed; thick: their mean; hollow: published.
    """
    figure, ((axes,),) = canvas(height=2.6)
    names = {"token": "class and distillation token", "two-class": "two class tokens"}
    for method, name in names.items():
        curves = [run.arrays["cosine_by_block"] for point, run in results.runs("tokens") if point["method"] == method]
        if curves:
            label = f"{name} (thin: each of {len(curves)} seeds)"
            _seeds(axes, np.arange(len(curves[0])), np.stack(curves), label, DISTILLATION if method == "token" else CLASS)
    last = max((line.get_xdata().max() for line in axes.get_lines()), default=1)
    axes.scatter(
        [0, last], [0.06, 0.93], facecolors="none", edgecolors=DISTILLATION, label="published (DeiT, 12 blocks): 0.06, 0.93", zorder=3
    )
    axes.set(xlabel="after block (0: input)", ylabel="cosine", ylim=(-1.05, 1.05))
    axes.set_xticks(np.arange(last + 1))
    axes.legend(loc="lower right")
    return figure


@style()
def figure_attention(results: Results) -> Figure:
    """Where the class and the distillation token look, over six test images: attention to each patch in the last block, mean over its
    heads, of one model: the distilled student of the largest size, first seed. One colour scale for all maps; the rest of a token's
    attention goes to the two tokens themselves.
    """
    runs = [run for point, run in results.runs("tokens") if point["method"] == "token"]
    figure, grid = canvas(3, 6, height=3.3)
    for axes in grid.flat:
        axes.set(xticks=[], yticks=[])
        axes.grid(False)
    if runs:
        shown = _attention_rows(grid, runs[0].arrays)
        figure.colorbar(shown, ax=grid[1:].ravel().tolist(), label="attention", shrink=0.8)
    for axes, name in zip(grid[:, 0], ("image", "class token", "distil. token"), strict=True):
        axes.set_ylabel(name)
    return figure


def _attention_rows(grid: np.ndarray, arrays: dict[str, np.ndarray]) -> AxesImage:
    """Images above the maps of both tokens; returns one of the maps, which all have its colour scale."""
    last = arrays["attention"][: grid.shape[1], -1].mean(axis=1)  # (images, 2, patches)
    side = round(last.shape[-1] ** 0.5)
    for column, (image, attention) in enumerate(zip(arrays["images"], last, strict=False)):
        grid[0, column].imshow(image.transpose(1, 2, 0).squeeze(), cmap="gray", label=f"image {column + 1}")
        for axes, row in zip(grid[1:, column], attention, strict=True):
            shown = axes.imshow(row.reshape(side, side), cmap="viridis", vmin=0, vmax=last.max(), label=f"attention {column + 1}")
    return shown


def _measured_families(axes: Axes, results: Results) -> None:
    speeds = results.frame("throughput").reindex(columns=["method", "size", "resolution", "images_per_second"])
    speeds = speeds.set_index(["method", "size", "resolution"])["images_per_second"]
    accuracy = summary(results.frame("models"), ["method", "size", "resolution"], "top1")
    accuracy["speed"] = [speeds["none" if m == "none" else "token", s, r] for m, s, r in accuracy[["method", "size", "resolution"]].values]
    for method, family in accuracy.groupby("method", sort=False):
        family = family.sort_values("speed")
        axes.vlines(family["speed"], family["measured"] - family["±"], family["measured"] + family["±"], color=COLOURS[method], alpha=0.25)
        axes.plot(family["speed"], family["measured"], "o-", color=COLOURS[method], label=LABELS[method])
        for row in family.itertuples():
            axes.annotate(
                f"{SHORT[row.size]}{'↑' if row.resolution == 'up' else ''}", (row.speed, row.measured),
                xytext=(-4, -9) if method == "none" else (4, 4), ha="right" if method == "none" else "left",
                textcoords="offset points", fontsize=6.5, color=COLOURS[method],
            )  # fmt: skip
    top1 = results.frame("best_teacher").reindex(columns=["top1"]).mean()
    speed = results.frame("teacher_throughput").reindex(columns=["images_per_second"]).iloc[0]
    axes.plot(speed, top1, "s", color=TEACHER, label=f"teacher {results.study.settings.teacher}")
    axes.margins(x=0.12)
    axes.legend(loc="lower left", fontsize=6.5)


def _published_families(axes: Axes, results: Results) -> None:
    published = results.published("paper_table5")
    speed, top1 = published[published["metric"] == "throughput"], published[published["dataset"] == "ImageNet-1k"]
    points = speed.set_index("method")["value"].to_frame("speed").join(top1.set_index("method")["value"].rename("top1")).dropna()
    sizes = [("tiny", "native"), ("small", "native"), ("base", "native"), ("base", "up")]
    for method, marker in (("none", "o"), ("token", "o"), ("token-long", "o")):
        family = points.reindex([published_name(method, size, resolution) for size, resolution in sizes]).dropna().sort_values("speed")
        axes.plot(family["speed"], family["top1"], f"{marker}-", color=COLOURS[method], mfc="white", label=LABELS[method])
    for prefix, colour in (("EfficientNet-B", "0.55"), ("RegNetY", "0.3"), ("ResNet", "0.75")):
        family = points[points.index.str.startswith(prefix) & ~points.index.str.contains("RA")].sort_values("speed")
        axes.plot(family["speed"], family["top1"], "o-", color=colour, mfc="white", label=prefix.removesuffix("-B"))
    axes.legend(loc="lower left", fontsize=6.5)


def _published_schedules(results: Results, method: str) -> tuple[list[int], list[float]]:
    """Epochs and top-1 of the paper's DeiT-B, of the same method on its one or two schedules."""
    published = results.published("paper_table5").query("dataset == 'ImageNet-1k'").set_index("method")["value"]
    known = [name for name in PUBLISHED_EPOCHS if name.removesuffix("-long") == method]
    return [PUBLISHED_EPOCHS[name] for name in known], [published[published_name(name, "base", "native")] for name in known]


def _curves(axes: Axes, history: pd.DataFrame, size: str, top1: str) -> None:
    for method in ("none", "token", "token-long"):
        mine = history[(history["method"] == method) & (history["size"] == size)].dropna(subset=top1) if len(history) else history
        if len(mine):
            table = mine.pivot(index="seed", columns="epoch", values=top1)
            _band(axes, table.columns.to_numpy(), table.to_numpy(), LABELS[method], COLOURS[method])


def _band(axes: Axes, x: np.ndarray, curves: np.ndarray, name: str, colour: str) -> None:
    """Mean of curves (seeds, points) with the 95 % interval as a band."""
    mean = curves.mean(axis=0)
    half = np.nan_to_num([half_width(pd.Series(column)) for column in curves.T])
    axes.plot(x, mean, "o-", color=colour, label=name, markersize=3)
    band(axes, x, mean - half, mean + half, of=name, colour=colour)


def _seeds(axes: Axes, x: np.ndarray, curves: np.ndarray, label: str, colour: str) -> None:
    """Every seed's curve thin, their mean thick; curves (seeds, points)."""
    for curve in curves:
        axes.plot(x, curve, color=colour, alpha=0.35, linewidth=0.8)
    axes.plot(x, np.nanmean(curves, axis=0), "o-", color=colour, label=label)


def _plain_log_ticks(axes: Axes) -> None:
    low, high = axes.get_xlim()
    ticks = [base * 10**power for power in range(0, 8) for base in (1, 2, 5) if low <= base * 10**power <= high]
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))


def _count(value: float) -> str:
    return DASH if np.isnan(value) else f"{int(value)}"
