"""WeCoLoRA's figures, from results alone."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, NullLocator

from vitlib.grid.results import Results
from vitlib.papers.wecolora.specs import STEP_0
from vitlib.papers.wecolora.tables import STARTS, index_map
from vitlib.report.diagrams import arrow, box, fitting
from vitlib.report.drawing.plots import curves, points
from vitlib.report.figures import PALETTE, TEACHER, Look, band, canvas, distinct, is_narrow, label_ends, legend, legend_above, look, style
from vitlib.report.statistics import summary

LOOKS = {kind: look(name) for kind, name in zip(STARTS, ("WeCoLoRA", "random factors", "SVD", "SVD, shifted"), strict=True)}
COLOURS = {kind: shown.colour for kind, shown in LOOKS.items()}
SCHEDULES = {"plain": {"line": "--", "hollow": True}, "staged": {"line": "-"}}
TRAINED = {f"{STARTS[kind]}, {name}": LOOKS[kind].but(**fields) for name, fields in SCHEDULES.items() for kind in STARTS}
AWAY = {"plain": -0.15, "staged": 0.15}  # of the row of a start
REFERENCES = {"teacher": look("teacher"), "weight copy": look("weight copy")}
KEPT, DROPPED, LORA, LOSS = PALETTE[0], "0.85", PALETTE[4], PALETTE[3]
TIMED = {"stage": PALETTE[3], "whole student": PALETTE[0], "plain distillation": TEACHER}


@style()
def figure_overview(results: Results) -> Figure:
    """Figure 1: weight copy with adapters. Blue teacher blocks are kept, copied and frozen, grey ones are dropped. Only the adapters (LoRA)
    train, by the L1 distance between the last features of teacher and student.
    """
    depth, groups = index_map(results)
    figure, ((axes,),) = canvas(height=2.6, narrow_height=2.2)
    start, size = (-0.9, 7.0) if is_narrow() else (0.0, 8.0)
    axes.set(xlim=(start, depth + 2.2), ylim=(-0.1, 5.6))
    axes.axis("off")
    axes.text(start, 4.2, "teacher", fontsize=size)
    axes.text(start, 1.2, "student", fontsize=size)
    for kept, target in groups:
        for block in range(kept, target + 1):
            box(axes, 1.2 + block, 3.9, 0.8, 0.8, str(block + 1), KEPT if block == kept else DROPPED)
        box(axes, 1.2 + kept, 0.9, 0.8, 0.8, str(kept + 1), KEPT)
        box(axes, 0.95 + kept, 1.75, 1.3, 0.45, "LoRA", LORA)
        arrow(axes, 1.6 + kept, 3.8, 1.6 + kept, 2.3)
    last = groups[-1]
    box(axes, depth - 0.8, 0.0, 2.8, 0.5, "L1 distance", LOSS)
    arrow(axes, 1.6 + last[1], 3.8, 1.6 + last[1], 0.55, LOSS)
    arrow(axes, 1.6 + last[0], 0.85, 1.6 + last[0], 0.55, LOSS)
    said, size = fitting(axes, "blue: kept and copied, frozen; grey: dropped; adapters alone train", depth)
    axes.text(1.2, 4.9, said, fontsize=size)
    return figure


@style()
def figure_method(results: Results) -> Figure:
    """Figure 2: the document's proposal. Left: the singular value decomposition of a dropped block starts the adapters of the kept block
    before it. Right: the student blocks that run and train in each epoch.
    """
    _, groups = index_map(results)
    figure, ((left, right),) = canvas(1, 2, height=2.8)
    left.set(xlim=(-0.2, 10.3), ylim=(0, 6), title="start of one block's adapters")
    left.axis("off")
    kept, target = groups[0]
    dropped = ", ".join(str(block + 1) for block in range(kept + 1, target + 1))
    box(left, 0.0, 4.4, 4.6, 1.0, f"dropped block {dropped}: W", DROPPED)
    box(left, 0.0, 2.6, 4.6, 1.0, "U Σ Vᵀ, rank k", "0.95")
    box(left, 5.4, 3.5, 4.6, 1.0, "A = √Σ Vᵀ,  B = U √Σ", LORA)
    box(left, 5.4, 0.8, 4.6, 1.0, f"kept block {kept + 1}: W + B A", KEPT)
    left.text(0.0, 1.5, "q, k, v, proj, fc1, fc2,\neach on its own;\nof several dropped\nblocks the sum", fontsize=7, va="center")
    arrow(left, 2.3, 4.4, 2.3, 3.65)
    arrow(left, 4.6, 3.1, 5.35, 3.9)
    arrow(left, 7.6, 3.5, 7.6, 1.9)
    _staircase(right, results, len(groups))
    return figure


@style()
def figure_step0(results: Results) -> Figure:
    """L1 distance to the teacher after each student block, before any training, on 64 test images. Left: of weight copy alone, as which
    B = 0 starts. Right: how much farther (percent) the other starts are than weight copy of the same seed. Marks are means over seeds,
    whiskers 95 % intervals (none with one seed).
    """
    frame = results.frame("distilled")
    frame = frame[frame["schedule"] == "plain"] if len(frame) else frame
    columns = {name: int(name.rsplit(" ", 1)[1]) for name in _block_columns(frame, "step-0 block ")}
    long = frame.reindex(columns=["lora_init", "seed", *columns]).melt(["lora_init", "seed"], var_name="block", value_name="distance")
    long = long.assign(x=long["block"].map(columns), name=long["lora_init"].map(STARTS))
    copied = long[long["lora_init"] == "zero_b"].drop_duplicates(["seed", "x"]).set_index(["seed", "x"])["distance"]
    own = pd.MultiIndex.from_frame(long[["seed", "x"]])
    figure, ((copy, farther),) = canvas(1, 2, height=2.6)
    named = {STARTS[kind]: shown for kind, shown in LOOKS.items()}
    curves(copy, long[long["lora_init"] == "zero_b"].assign(value=long["distance"]), named, bars=True)
    away = long.assign(value=100 * (long["distance"].to_numpy() / copied.reindex(own).to_numpy() - 1))
    curves(farther, away[away["lora_init"] != "zero_b"], named, bars=True)
    copy.set(title="weight copy (B = 0)", ylabel="mean |T − S| at step 0", ylim=(0, None))
    farther.set(title="other starts", ylabel="farther than weight copy (%)")
    for axes in (copy, farther):
        axes.set_xlabel("student block")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    label_ends(
        farther, names={"both factors random": "both\nrandom", "SVD of the dropped blocks": "SVD", "SVD, W shifted back": "SVD,\nshifted"}
    )
    return figure


@style()
def figure_losses(results: Results) -> Figure:
    """Equation 1, the L1 distance of the last pair of blocks, on 64 test images. Left: after each epoch, means over seeds (dashed: plain,
    solid: staged). Right: after the last epoch, where large marks are means over seeds (open: plain, filled: staged), whiskers 95 %
    intervals (none with one seed) and small dots the seeds.
    """
    history = results.history("distilled").reindex(columns=["lora_init", "schedule", "seed", "epoch", "last"]).dropna(subset="last")
    history = _trained(history).rename(columns={"epoch": "x", "last": "value"})
    figure, ((course, end),) = canvas(1, 2, height=2.8)
    means = history.groupby(["name", "x"], sort=False)["value"].mean().reset_index()
    curves(course, means, TRAINED, marker="", linewidth=1.2)
    points(end, history[history["x"] == history["x"].max()], TRAINED)
    course.set(xlabel="epoch", ylabel="mean |T − S|, last pair", yscale="log", title="in the course of training")
    course.xaxis.set_major_locator(MaxNLocator(integer=True))
    course.yaxis.set_major_formatter("{x:g}")
    course.yaxis.set_minor_formatter("{x:g}")
    course.tick_params(axis="y", which="minor", labelsize=7)
    end.set(xlabel="mean |T − S|, last pair", title="after the last epoch")
    _name_starts(end)
    legend_above(figure, _schedule_keys())
    return figure


@style()
def figure_blocks(results: Results) -> Figure:
    """L1 distance to the teacher after each student block and epoch, on 64 test images, for the SVD start, plain and staged: first seed
    only, both panels on one colour scale. In stage k only blocks 1 to k train.
    """
    history = results.history("distilled")
    figure, grid = canvas(1, 2, height=2.6)
    images = []
    for axes, schedule in zip(grid[0], SCHEDULES, strict=True):
        axes.set(title=f"SVD, {schedule}", xlabel="epoch", ylabel="student block")
        axes.grid(False)
        if len(history) == 0:
            continue
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        values = _first_seed(history, schedule)
        extent = (0.5, values.shape[1] + 0.5, values.shape[0] + 0.5, 0.5)
        images.append(axes.imshow(values, aspect="auto", cmap="viridis", extent=extent, label=f"log10 L1, {schedule}"))
    if images:
        lowest, highest = min(image.norm.vmin for image in images), max(image.norm.vmax for image in images)
        for image in images:
            image.set_clim(lowest, highest)
        figure.colorbar(images[0], ax=list(grid[0]), label="log₁₀ mean |T − S|")
    return figure


@style()
def figure_energy(results: Results) -> Figure:
    """Share of a dropped matrix's squared norm that its k largest singular values hold: lines are means over the dropped blocks, bands
    go from the lowest to the highest block. The one teacher has no seeds; the dotted line is the rank of the study's adapters, and the
    percentages are the shares that they can hold.
    """
    settings = results.study.settings
    runs = [run for point, run in results.runs("spectra") if point["reduction"] == settings.reductions[0]]
    figure, ((axes,),) = canvas(height=2.6)
    for name, shown in distinct(("q", "k", "v", "proj", "fc1", "fc2")).items():
        for run in runs:
            shares = run.arrays[f"energy {name}"]
            ranks, held = np.arange(1, shares.shape[1] + 1), shares.mean(axis=0)
            label = f"{name}: {100 * held[min(settings.rank, len(held)) - 1]:.0f} %"
            axes.plot(ranks, held, label=label, **shown.lines | {"markevery": (shares.shape[1] // 8, shares.shape[1] // 4 or 1)})
            band(axes, ranks, shares.min(axis=0), shares.max(axis=0), of=label, colour=shown.colour)
    axes.axvline(settings.rank, color=TEACHER, linestyle=":", label="_rank")
    above = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points"}
    axes.annotate(f"rank {settings.rank}", (settings.rank, 1.0), xytext=(3, -8), fontsize=7.5, **above)
    axes.set(xlabel="rank k", ylabel="share of ‖W‖²", ylim=(0, 1.02))
    legend(axes, ncols=2, title=f"share at rank {settings.rank}", loc="lower right")
    return figure


@style()
def figure_accuracy(results: Results) -> Figure:
    """Table 1 as a figure: top-1 accuracy by start on each test set, open marks for plain and filled ones for staged distillation: large
    marks are means over seeds, whiskers 95 % intervals (none with one seed), small dots the seeds. Lines are the means of the teacher and
    of weight copy without training.
    """
    sets = results.study.settings.sets
    accuracies, reference = (_at_first_reduction(results, table) for table in ("accuracy", "reference"))
    accuracies = _trained(accuracies.reindex(columns=["lora_init", "schedule", "dataset", "seed", "top1"])).rename(
        columns={"top1": "value"}
    )
    references = summary(reference, ["row", "dataset"], "top1")
    figure, grid = canvas(1, len(sets), height=2.6, sharey=True)
    for axes, dataset in zip(grid[0], sets, strict=True):
        points(axes, accuracies[accuracies["dataset"] == dataset], TRAINED)
        for row, shown in REFERENCES.items():
            value = references.query("row == @row and dataset == @dataset")["measured"]
            axes.axvline(value.iloc[0], label=row, zorder=0, **shown.rule)
        axes.set(title=dataset, xlabel="top-1 (%)")
    _name_starts(grid[0, 0])
    lines = {name: Line2D([], [], **shown.rule) for name, shown in REFERENCES.items()}
    legend_above(figure, lines | _schedule_keys())
    return figure


@style()
def figure_ranks(results: Results) -> Figure:
    """Left: L1 distance of the last pair of blocks before training, by rank of the adapters, on the profile's test images (256 at
    `quick`), computed once. Right: top-1 accuracy after staged distillation: points are means over seeds, whiskers 95 % intervals (none
    with one seed).
    """
    settings = results.study.settings
    figure, ((before, after),) = canvas(1, 2, height=2.5)
    for run in [run for point, run in results.runs("spectra") if point["reduction"] == settings.reductions[0]]:
        for kind, values in zip(STEP_0, run.arrays["step-0"], strict=True):
            dashed = {"svd_shift": {"line": "--", "hollow": True}}.get(kind, {})  # lies on B = 0, which stays visible below
            before.plot(run.arrays["ranks"], values[:, -1], label=STARTS[kind], **LOOKS[kind].but(**dashed).lines)
    table = results.frame("ranks").reindex(columns=["lora_init", "rank", "seed", "top1"]).rename(columns={"rank": "x", "top1": "value"})
    curves(after, table.assign(name=table["lora_init"].map(STARTS)), {STARTS[kind]: shown for kind, shown in LOOKS.items()}, bars=True)
    before.set(xlabel="rank", ylabel="mean |T − S| at step 0", xscale="log", title="before training")
    after.set(xlabel="rank", ylabel=f"top-1 on {settings.sets[0]} (%)", xscale="log", title="after staged distillation")
    for axes in (before, after):
        axes.set_xticks(settings.ranks, settings.ranks)
        axes.xaxis.set_minor_locator(NullLocator())
    legend(before, above=True)
    return figure


@style()
def figure_times(results: Results) -> Figure:
    """Seconds an epoch, stage by stage and with the whole student, and of plain distillation, all with the SVD start: bars are medians over
    rounds of alternating trainings, dots the rounds (3 rounds on 30 digits at `quick`), percentages are of plain distillation.
    """
    rounds = {name: np.median(epochs, axis=1) for name, epochs in _epoch_seconds(results).items()}
    names = list(rounds)
    figure, ((axes,),) = canvas(height=2.5)
    for kind, colour in TIMED.items():
        places = [place for place, name in enumerate(names) if kind.startswith(name.split()[0])]
        if places:
            axes.bar(places, [np.median(rounds[names[place]]) for place in places], color=colour, label=kind)
    dots = [(place, seconds) for place, name in enumerate(names) for seconds in rounds[name]]
    if dots:
        axes.plot(*zip(*dots, strict=True), ".", color="black", label="one round")
    axes.set_xticks(range(len(names)), [name.replace("stage ", "stage\n") if is_narrow() else name for name in names])
    axes.set(ylabel="seconds an epoch")
    if "plain" in rounds:
        for place, name in enumerate(names):
            share = np.median(rounds[name]) / np.median(rounds["plain"])
            axes.annotate(
                f"{100 * share:.0f} %", (place, max(rounds[name])), xytext=(0, 4), textcoords="offset points", ha="center", fontsize=7
            )
        axes.margins(y=0.12)
    legend(axes, above=True)
    return figure


def _epoch_seconds(results: Results) -> dict[str, np.ndarray]:
    """Seconds of the epochs of each phase; (rounds, epochs)."""
    arrays = {name: values for _, run in results.runs("times") for name, values in run.arrays.items()}
    return {name.removeprefix("epochs of "): values for name, values in arrays.items() if name.startswith("epochs of ")}


def _first_seed(history: pd.DataFrame, schedule: str) -> np.ndarray:
    """log10 of the L1 by student block and epoch of the SVD start; (blocks, epochs)."""
    rows = history[(history["lora_init"] == "svd") & (history["schedule"] == schedule)]
    rows = rows[rows["seed"] == rows["seed"].min()].sort_values("epoch")
    return np.log10(rows[_block_columns(rows, "block ")].to_numpy(float).T)


def _at_first_reduction(results: Results, table: str) -> pd.DataFrame:
    frame = results.frame(table)
    return frame[frame["reduction"] == results.study.settings.reductions[0]]


def _trained(frame: pd.DataFrame) -> pd.DataFrame:
    """With the name that start and schedule have in `TRAINED`, and the place of their row."""
    trained = list(zip(frame["lora_init"], frame["schedule"], strict=True))
    places = {(kind, schedule): row + away for row, kind in enumerate(STARTS) for schedule, away in AWAY.items()}
    return frame.assign(name=[f"{STARTS[kind]}, {schedule}" for kind, schedule in trained], place=[places[pair] for pair in trained])


def _name_starts(axes: Axes) -> None:
    axes.set_yticks(range(len(STARTS)), STARTS.values())
    axes.set_ylim(len(STARTS) - 0.5, -0.5)
    for label, shown in zip(axes.get_yticklabels(), LOOKS.values(), strict=True):
        label.set_color(shown.colour)


def _schedule_keys() -> dict[str, Line2D]:
    return {name: Line2D([], [], **Look(TEACHER, "o", **fields).lines) for name, fields in SCHEDULES.items()}


def _staircase(axes: Axes, results: Results, blocks: int) -> None:
    """Which blocks run in which epoch."""
    settings = results.study.settings
    active = np.minimum(np.arange(settings.recipe.epochs) // settings.staged_epochs + 1, blocks)
    axes.bar(
        np.arange(1, settings.recipe.epochs + 1),
        active,
        width=1,
        color=LOSS,
        edgecolor="white",
        label="student blocks that run and train",
    )
    share = active.sum() / (blocks * settings.recipe.epochs)
    axes.set(xlabel="epoch", ylabel="student blocks that run and train", title=f"stages: {share:.1%} of the plain block calls")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(integer=True))


def _block_columns(frame: pd.DataFrame, prefix: str) -> list[str]:
    return [name for name in frame.columns if str(name).startswith(prefix)]
