"""DeiT's figures, from results alone."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import FixedLocator, NullLocator, StrMethodFormatter

from vitlib.grid.results import Results
from vitlib.papers.deit.tables import SHORT, disagreement_matrices, frame_readouts_of_all, frame_schedules, published_name
from vitlib.report.diagrams import arrow, box
from vitlib.report.drawing.plots import curves, heat_map, points
from vitlib.report.figures import PALETTE, TEACHER, Look, canvas, is_narrow, legend, legend_above, look, style
from vitlib.report.statistics import summary
from vitlib.report.tables import DASH

LABELS = {"none": "no teacher", "soft": "soft", "hard": "hard", "token": "distillation token", "token-long": "token, longer training"}
NAMES = ("no distillation", "soft", "hard", "token", "token, longer")
LOOKS = {method: look(name) for method, name in zip(LABELS, NAMES, strict=True)}
CLASS, DISTILLATION, PATCH = look("class token").colour, look("token").colour, "0.75"
CONVNETS = {"EfficientNet-B": Look(PALETTE[1], "<"), "RegNetY": Look(PALETTE[5], ">"), "ResNet": Look(TEACHER, "p")}
PUBLISHED_EPOCHS = {"none": 300, "token": 300, "token-long": 1000}  # of the rows of the paper's Table 5
BESIDE = {"none": 1.0, "token": 1.0, "token-long": 0.92}  # of the throughput: models of one speed stand beside each other


@style()
def figure_architecture(results: Results) -> Figure:
    """Figure 2 of the publication: tokens and losses of the distilled student. Every number is read from the largest model of the profile;
    nothing is trained for it.
    """
    columns = ["patches", "tokens", "width", "blocks", "heads", "classes"]
    model = {name: _count(value) for name, value in results.frame("architecture").reindex(columns=columns).iloc[-1].items()}
    figure, ((axes,),) = canvas(height=3.0, narrow_height=2.6)
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
    """Table 3 as a figure: top-1 on the test set by distillation strategy and, with the distillation token, by readout. Large marks are
    means over seeds, bars their 95 % intervals (none with one seed), small dots the seeds; the dashed line is the mean without a
    teacher. Each panel is a model size; ↑ is fine-tuned at the larger images.
    """
    measured = frame_readouts_of_all(results).rename(columns={"method": "name", "top1": "value"})
    readouts = ("class", "distillation", "class+distillation")
    rows = [("none", "class"), ("soft", "class"), ("hard", "class"), *(("token", readout) for readout in readouts)]
    places = {row: place for place, row in enumerate(rows)}
    measured = measured.assign(place=[places.get(row, np.nan) for row in zip(measured["name"], measured["readout"], strict=True)])
    measured = measured.dropna(subset="place")
    columns = list(dict.fromkeys(zip(measured["size"], measured["resolution"], strict=True)))
    figure, grid = canvas(1, len(columns), height=2.6, abreast=2, narrow_height=3.9, sharey=True, sharex=True)
    for axes, (size, resolution) in zip(grid[0], columns, strict=True):
        mine = measured[(measured["size"] == size) & (measured["resolution"] == resolution)]
        points(axes, mine, LOOKS)
        axes.axvline(mine.loc[mine["name"] == "none", "value"].mean(), color=LOOKS["none"].colour, linestyle="--", linewidth=0.8, zorder=0)
        axes.set(title=f"DeiT-{SHORT[size]}{'↑' if resolution == 'up' else ''}", xlabel="top-1 (%)")
    grid[0, 0].set_yticks(range(len(rows)), [LABELS[method] if method != "token" else f"token: {readout}" for method, readout in rows])
    grid[0, 0].set_ylim(len(rows) - 0.5, -0.5)
    grid[0, 0].set_xlim(right=min(100, grid[0, 0].get_xlim()[1]))
    return figure


@style()
def figure_throughput(results: Results) -> Figure:
    """Figure 1: accuracy against throughput. Left: measured here; marks are means over seeds, bars their 95 % intervals (none with one
    seed), the teacher is the mean of its trainings; ↑ is fine-tuned at the larger images. Longer training changes no model: its marks
    belong at the throughput of the distillation token and stand 8 % to the left. Right: published (hollow), families joined by lines.
    Speeds are of different machines: compare the order of the models only.
    """
    figure, ((ours, theirs),) = canvas(1, 2, height=3.1)
    _measured_families(ours, results)
    _published_families(theirs, results)
    ours.set(title="measured here", ylabel="top-1 on the test set (%)")
    theirs.set(title="published: ImageNet, one V100", ylabel="ImageNet top-1 (%)")
    for axes in (ours, theirs):
        axes.set(xscale="log", xlabel="throughput (images/s)")
        _plain_log_ticks(axes)
    entries = {label: handle for axes in (theirs, ours) for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    legend_above(figure, entries)
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
            _seeds(ours, table.columns.to_numpy(), table.to_numpy(), LABELS[method], LOOKS[method])
        x, y = _published_schedules(results, method)
        theirs.plot(x, y, label=LABELS[method], **LOOKS[method].but(hollow=True).lines)
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
    the test images; the axis says which. Lines are means over seeds, bands the 95 % intervals of the mean (none with one seed). Points
    inside a schedule are not shorter trainings: the learning rate has not yet come down.
    """
    history = results.history("models")
    watched = "test" if "test top1" in history else "validation"
    history = history.reindex(columns=["method", "size", "resolution", "epoch", f"{watched} top1"])
    history = history[history["resolution"] == "native"].rename(columns={"epoch": "x", f"{watched} top1": "value"})
    history["name"] = history["method"].map(LABELS)
    sizes = results.study.settings.sizes
    figure, grid = canvas(1, len(sizes), height=2.5, sharey=True)
    for axes, size in zip(grid[0], sizes, strict=True):
        looks = {LABELS[method]: LOOKS[method] for method in ("none", "token", "token-long")}
        curves(axes, history[history["size"] == size], looks, markersize=3)
        axes.set(title=f"DeiT-{SHORT[size]}", xlabel="epoch")
    grid[0, 0].set(ylim=(0, 100))
    for axes in grid[0] if is_narrow() else grid[0, :1]:
        axes.set_ylabel(f"top-1 on the {watched} images (%)")
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
        options = {"annot": True, "fmt": ".1f", "annot_kws": {"size": 6.5}, "vmin": 0, "vmax": 20, "cbar": False, "square": True}
        heat_map(axes, 100 * frame, name="disagreement", **options)
        axes.set_title(title)
        axes.set_xticks(axes.get_xticks(), matrix.columns, rotation=40, ha="right", rotation_mode="anchor")
    if not is_narrow():
        theirs.set_yticklabels([])
    return figure


@style()
def figure_cosine(results: Results) -> Figure:
    """Section 4: cosine of the two prefix tokens after each block of the largest student, mean over the test images; class and distillation
    token, and as the control two class tokens, which both learn the label. Thin lines: each seed; thick: their mean; hollow: published.
    """
    figure, ((axes,),) = canvas(height=2.8)
    for method, shown in {"token": look("token"), "two-class": look("class token").but(line="--")}.items():
        cosines = [run.arrays["cosine_by_block"] for point, run in results.runs("tokens") if point["method"] == method]
        if cosines:
            name = {"token": "class and distillation token", "two-class": "two class tokens"}[method]
            _seeds(axes, np.arange(len(cosines[0])), np.stack(cosines), f"{name} (thin: each of {len(cosines)} seeds)", shown)
    last = max((line.get_xdata().max() for line in axes.get_lines()), default=1)
    published = look("token").but(hollow=True).points
    axes.plot([0, last], [0.06, 0.93], label="published (DeiT, first and last of 12 blocks): 0.06, 0.93", **published)
    axes.set(xlabel="after block (0: input)", ylabel="cosine", ylim=(-1.05, 1.05))
    axes.set_xticks(np.arange(last + 1))
    legend(axes, above=True, ncols=2)
    return figure


@style()
def figure_attention(results: Results) -> Figure:
    """Where the class and the distillation token look, over six test images: attention to each patch in the last block, mean over its
    heads, of one model: the distilled student of the largest size, first seed. One colour scale for all maps; the rest of a token's
    attention goes to the two tokens themselves. Above each image: the share of their attention to patches that both maps have in common,
    which is 100 % for equal maps.
    """
    runs = [run for point, run in results.runs("tokens") if point["method"] == "token"]
    figure, grid = canvas(3, 6, height=3.3, abreast=6, narrow_height=2.2)
    for axes in grid.flat:
        axes.set(xticks=[], yticks=[])
        axes.grid(False)
    if runs:
        shown = _attention_rows(grid, runs[0].arrays)
        figure.colorbar(shown, ax=grid[1:].ravel().tolist(), label="attention", shrink=0.8)
    for axes, name in zip(grid[:, 0], ("image", "class\ntoken", "distil.\ntoken"), strict=True):
        axes.set_ylabel(name)
    return figure


def shared_attention(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Share that two maps of attention (..., patches) have in common, each divided by its sum: 1 for equal maps, 0 for disjoint ones."""
    return np.minimum(one / one.sum(-1, keepdims=True), other / other.sum(-1, keepdims=True)).sum(-1)


def _attention_rows(grid: np.ndarray, arrays: dict[str, np.ndarray]) -> AxesImage:
    """Images above the maps of both tokens; returns one of the maps, which all have its colour scale."""
    last = arrays["attention"][: grid.shape[1], -1].mean(axis=1)  # (images, 2, patches)
    side = round(last.shape[-1] ** 0.5)
    shares = shared_attention(last[:, 0], last[:, 1])
    for column, (image, attention) in enumerate(zip(arrays["images"], last, strict=False)):
        grid[0, column].imshow(image.transpose(1, 2, 0).squeeze(), cmap="gray", label=f"image {column + 1}")
        grid[0, column].set_title(f"{shares[column]:.0%}".replace("%", " %"), fontsize=7.5)
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
        axes.errorbar(BESIDE[method] * family["speed"], family["measured"], family["±"], label=LABELS[method], **LOOKS[method].points)
    top1 = results.frame("best_teacher").reindex(columns=["top1"]).mean()
    speed = results.frame("teacher_throughput").reindex(columns=["images_per_second"]).iloc[0]
    axes.plot(speed, top1, label=f"teacher {results.study.settings.teacher}", **look("teacher").points | {"markersize": 7})
    for row in accuracy[accuracy["method"] == "none"].dropna(subset=["speed", "measured"]).itertuples():
        axes.annotate(
            f"{SHORT[row.size]}{'↑' if row.resolution == 'up' else ''}", (row.speed, 0), xycoords=("data", "axes fraction"),
            xytext=(0, 3), textcoords="offset points", ha="center", fontsize=7,
        )  # fmt: skip
    axes.margins(x=0.15, y=0.12)


def _published_families(axes: Axes, results: Results) -> None:
    published = results.published("paper_table5")
    speed, top1 = published[published["metric"] == "throughput"], published[published["dataset"] == "ImageNet-1k"]
    known = speed.set_index("method")["value"].to_frame("speed").join(top1.set_index("method")["value"].rename("top1")).dropna()
    sizes = [("tiny", "native"), ("small", "native"), ("base", "native"), ("base", "up")]
    for method in ("none", "token", "token-long"):
        family = known.reindex([published_name(method, size, resolution) for size, resolution in sizes]).dropna().sort_values("speed")
        axes.plot(family["speed"], family["top1"], label=LABELS[method], **LOOKS[method].but(hollow=True).lines)
    for prefix, shown in CONVNETS.items():
        family = known[known.index.str.startswith(prefix) & ~known.index.str.contains("RA")].sort_values("speed")
        axes.plot(family["speed"], family["top1"], label=prefix.removesuffix("-B"), **shown.but(hollow=True).lines)


def _published_schedules(results: Results, method: str) -> tuple[list[int], list[float]]:
    """Epochs and top-1 of the paper's DeiT-B, of the same method on its one or two schedules."""
    published = results.published("paper_table5").query("dataset == 'ImageNet-1k'").set_index("method")["value"]
    known = [name for name in PUBLISHED_EPOCHS if name.removesuffix("-long") == method]
    return [PUBLISHED_EPOCHS[name] for name in known], [published[published_name(name, "base", "native")] for name in known]


def _seeds(axes: Axes, x: np.ndarray, seeds: np.ndarray, label: str, shown: Look) -> None:
    """Every seed's curve thin, their mean thick; seeds (seeds, points)."""
    for curve in seeds:
        axes.plot(x, curve, shown.line, color=shown.colour, alpha=0.4, linewidth=0.8)
    axes.plot(x, np.nanmean(seeds, axis=0), label=label, **shown.lines)


def _plain_log_ticks(axes: Axes) -> None:
    low, high = axes.get_xlim()
    ticks = [base * 10**power for power in range(0, 8) for base in (1, 2, 5) if low <= base * 10**power <= high]
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))


def _count(value: float) -> str:
    return DASH if np.isnan(value) else f"{int(value)}"
