"""WeCoLoRA's figures, from results alone."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator

from vitlib.grid.results import Results
from vitlib.papers.wecolora.specs import STEP_0
from vitlib.papers.wecolora.tables import STARTS, index_map
from vitlib.report.diagrams import arrow, box
from vitlib.report.figures import PALETTE, TEACHER, band, canvas, legend, style
from vitlib.report.statistics import half_width, summary

COLOURS = dict(zip(STARTS, (PALETTE[0], PALETTE[1], PALETTE[3], PALETTE[2]), strict=True))
LINES = {"plain": "--", "staged": "-"}
SHIFTED = {"svd_shift": {"linestyle": "--"}}  # starts on B = 0, whose line stays visible below
KEPT, DROPPED = PALETTE[0], "0.85"
TIMED = {"stage": PALETTE[3], "whole student": PALETTE[0], "plain distillation": TEACHER}


@style()
def figure_overview(results: Results) -> Figure:
    """Figure 1: weight copy with adapters. Blue teacher blocks are kept, copied and frozen, grey ones are dropped. Only the adapters (LoRA)
    train, by the L1 distance between the last features of teacher and student.
    """
    depth, groups = index_map(results)
    figure, ((axes,),) = canvas(height=2.6)
    axes.set(xlim=(0, depth + 2.2), ylim=(-0.1, 5.2))
    axes.axis("off")
    axes.text(0.0, 4.2, "teacher", fontsize=8)
    axes.text(0.0, 1.2, "student", fontsize=8)
    for kept, target in groups:
        for block in range(kept, target + 1):
            box(axes, 1.2 + block, 3.9, 0.8, 0.8, str(block + 1), KEPT if block == kept else DROPPED)
        box(axes, 1.2 + kept, 0.9, 0.8, 0.8, str(kept + 1), KEPT)
        box(axes, 1.2 + kept, 1.75, 0.8, 0.45, "LoRA", PALETTE[1])
        arrow(axes, 1.6 + kept, 3.8, 1.6 + kept, 2.3)
    last = groups[-1]
    box(axes, depth - 0.8, 0.0, 2.8, 0.5, "L1 of the features", PALETTE[3])
    arrow(axes, 1.6 + last[1], 3.8, 1.6 + last[1], 0.55, PALETTE[3])
    arrow(axes, 1.6 + last[0], 0.85, 1.6 + last[0], 0.55, PALETTE[3])
    axes.text(1.2, 4.9, "coloured: kept and copied, frozen;  grey: dropped;  adapters alone train", fontsize=7.5)
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
    box(left, 5.4, 3.5, 4.6, 1.0, "A = √Σ Vᵀ,  B = U √Σ", PALETTE[1])
    box(left, 5.4, 0.8, 4.6, 1.0, f"kept block {kept + 1}: W + B A", KEPT)
    left.text(0.0, 1.5, "q, k, v, proj, fc1, fc2,\neach on its own;\nof several dropped\nblocks the sum", fontsize=7, va="center")
    arrow(left, 2.3, 4.4, 2.3, 3.65)
    arrow(left, 4.6, 3.1, 5.35, 3.9)
    arrow(left, 7.6, 3.5, 7.6, 1.9)
    _staircase(right, results, len(groups))
    return figure


@style()
def figure_step0(results: Results) -> Figure:
    """L1 distance to the teacher after each student block, before any training, on 64 test images: points are means over seeds, whiskers
    95 % intervals. The shifted start (dashed) lies on B = 0, because both begin as plain weight copy.
    """
    frame = results.frame("distilled")
    figure, ((axes,),) = canvas(height=2.6)
    for kind, name in STARTS.items():
        rows = frame[(frame["lora_init"] == kind) & (frame["schedule"] == "plain")]
        columns = _block_columns(rows, "step-0 block ")
        if len(columns):
            values = rows[columns]
            options = {"marker": "o", "color": COLOURS[kind], "label": name} | SHIFTED.get(kind, {})
            axes.errorbar(np.arange(1, len(columns) + 1), values.mean(), values.apply(half_width), **options)
    axes.set(xlabel="student block", ylabel="mean |T − S| at step 0")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    legend(axes)
    return figure


@style()
def figure_losses(results: Results) -> Figure:
    """Equation 1, the L1 distance of the last pair of blocks, on 64 test images after each epoch: lines are means over seeds (dashed:
    plain, solid: staged), bands 95 % intervals.
    """
    history = results.history("distilled")
    figure, ((axes,),) = canvas(height=2.8)
    if "last" in history:
        for (kind, schedule), rows in history.groupby(["lora_init", "schedule"], sort=False):
            table = rows.pivot(index="epoch", columns="seed", values="last")
            mean, half = table.mean(axis=1), np.nan_to_num(table.apply(half_width, axis=1))
            label = f"{STARTS[kind]}, {schedule}"
            axes.plot(table.index, mean, LINES[schedule], color=COLOURS[kind], label=label)
            band(axes, table.index, mean - half, mean + half, of=label, colour=COLOURS[kind])
    axes.set(xlabel="epoch", ylabel="mean |T − S|, last pair")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    legend(axes, fontsize=6.5, ncols=2)
    return figure


@style()
def figure_blocks(results: Results) -> Figure:
    """L1 distance to the teacher after each student block and epoch, on 64 test images, for the SVD start, plain and staged: first seed
    only, both panels on one colour scale. In stage k only blocks 1 to k train.
    """
    history = results.history("distilled")
    figure, grid = canvas(1, 2, height=2.6)
    images = []
    for axes, schedule in zip(grid[0], LINES, strict=True):
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
    go from the lowest to the highest block. The one teacher has no seeds; the dotted line is the rank of the study's adapters.
    """
    runs = [run for point, run in results.runs("spectra") if point["reduction"] == results.study.settings.reductions[0]]
    figure, ((axes,),) = canvas(height=2.6)
    for index, name in enumerate(("q", "k", "v", "proj", "fc1", "fc2")):
        for run in runs:
            curves = run.arrays[f"energy {name}"]
            ranks = np.arange(1, curves.shape[1] + 1)
            axes.plot(ranks, curves.mean(axis=0), color=PALETTE[index], label=name)
            band(axes, ranks, curves.min(axis=0), curves.max(axis=0), of=name, colour=PALETTE[index])
    axes.axvline(results.study.settings.rank, color=TEACHER, linestyle=":", label=f"rank {results.study.settings.rank}")
    axes.set(xlabel="rank k", ylabel="share of ‖W‖²", ylim=(0, 1.02))
    legend(axes, ncols=2)
    return figure


@style()
def figure_accuracy(results: Results) -> Figure:
    """Table 1 as a figure: top-1 accuracy by start on each test set, open squares for plain and filled circles for staged distillation:
    points are means over seeds, whiskers 95 % intervals. Lines are the means of the teacher and of weight copy without training.
    """
    sets = results.study.settings.sets
    accuracies, reference = (_at_first_reduction(results, table) for table in ("accuracy", "reference"))
    grid_frame = summary(accuracies, ["lora_init", "schedule", "dataset"], "top1")
    references = summary(reference, ["row", "dataset"], "top1")
    figure, grid = canvas(1, len(sets), height=2.6, sharey=True)
    for axes, dataset in zip(grid[0], sets, strict=True):
        _starts(axes, grid_frame[grid_frame["dataset"] == dataset])
        for row, line in (("teacher", "-"), ("weight copy", ":")):
            value = references.query("row == @row and dataset == @dataset")["measured"]
            axes.axvline(value.iloc[0], color=TEACHER, linestyle=line, label=row)
        axes.set(title=dataset, xlabel="top-1 (%)")
    grid[0, 0].set_yticks(range(len(STARTS)), STARTS.values())
    grid[0, 0].invert_yaxis()
    legend(grid[0, 0], above=True)
    return figure


@style()
def figure_ranks(results: Results) -> Figure:
    """Left: L1 distance of the last pair of blocks before training, by rank of the adapters, on the profile's test images (256 at
    `quick`), computed once. Right: top-1 accuracy after staged distillation: points are means over seeds, whiskers 95 % intervals.
    """
    figure, ((before, after),) = canvas(1, 2, height=2.5)
    runs = [run for point, run in results.runs("spectra") if point["reduction"] == results.study.settings.reductions[0]]
    for run in runs:
        for kind, values in zip(STEP_0, run.arrays["step-0"], strict=True):
            options = {"marker": "o", "color": COLOURS[kind], "label": STARTS[kind]} | SHIFTED.get(kind, {})
            before.plot(run.arrays["ranks"], values[:, -1], **options)
    table = summary(results.frame("ranks"), ["lora_init", "rank"], "top1")
    for kind, rows in table.groupby("lora_init", sort=False):
        after.errorbar(rows["rank"], rows["measured"], rows["±"], marker="o", color=COLOURS[kind], label=STARTS[kind])
    before.set(xlabel="rank", ylabel="mean |T − S| at step 0", xscale="log")
    after.set(xlabel="rank", ylabel=f"top-1 on {results.study.settings.sets[0]} (%)", xscale="log")
    for axes in (before, after):
        axes.set_xticks(results.study.settings.ranks, results.study.settings.ranks)
        axes.xaxis.set_minor_locator(NullLocator())
    legend(before)
    return figure


@style()
def figure_times(results: Results) -> Figure:
    """Seconds an epoch, stage by stage and with the whole student, and of plain distillation, all with the SVD start: bars are medians over
    rounds of alternating trainings, dots the rounds (5 rounds on 60 digits at `quick`).
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
    axes.set_xticks(range(len(names)), names)
    axes.set(ylabel="seconds an epoch")
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


def _starts(axes: Axes, rows: pd.DataFrame) -> None:
    for position, kind in enumerate(STARTS):
        for offset, schedule in ((-0.12, "plain"), (0.12, "staged")):
            point = rows.query("lora_init == @kind and schedule == @schedule")
            if len(point):
                half = np.nan_to_num(point["±"].iloc[0])
                axes.errorbar(
                    point["measured"].iloc[0],
                    position + offset,
                    xerr=half,
                    fmt="o" if schedule == "staged" else "s",
                    mfc=COLOURS[kind] if schedule == "staged" else "white",
                    color=COLOURS[kind],
                    label=schedule if kind == "svd" else "_",
                )


def _staircase(axes: Axes, results: Results, blocks: int) -> None:
    """Which blocks run in which epoch."""
    settings = results.study.settings
    active = np.minimum(np.arange(settings.recipe.epochs) // settings.staged_epochs + 1, blocks)
    axes.bar(
        np.arange(1, settings.recipe.epochs + 1),
        active,
        width=1,
        color=PALETTE[3],
        edgecolor="white",
        label="student blocks that run and train",
    )
    share = active.sum() / (blocks * settings.recipe.epochs)
    axes.set(xlabel="epoch", ylabel="student blocks that run and train", title=f"stages: {share:.1%} of the plain block calls")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(integer=True))


def _block_columns(frame: pd.DataFrame, prefix: str) -> list[str]:
    return [name for name in frame.columns if str(name).startswith(prefix)]
