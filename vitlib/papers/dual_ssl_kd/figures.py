"""Figures of distillation from two self-supervised teachers, from results alone."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from vitlib.grid.results import Results
from vitlib.grid.stand_ins import titled
from vitlib.papers.dual_ssl_kd.tables import METHODS, TEACHERS, uniform_distance
from vitlib.report.diagrams import arrow, box, note
from vitlib.report.distances import draw_distances
from vitlib.report.drawing.plots import curves, heat_map, points
from vitlib.report.figures import Look, canvas, distinct, is_narrow, label_ends, legend, look, style

LOOKS = {  # of networks and of what teaches the student
    "cl": look("DINO"),
    "mim": look("MAE"),
    "student": look("DINO + MAE"),
    "supervised": look("supervised"),
    "untrained": look("untrained"),
    "baseline": look("no distillation"),
    "kd-cl": look("DINO"),
    "kd-mim": look("MAE"),
    "two-frozen": look("DINO + MAE, frozen"),
    "ours": look("DINO + MAE"),
}
COLOURS = {name: found.colour for name, found in LOOKS.items()}
TERMS = {"output": look("teacher").but(line="--"), "attention": look("no distillation").but(line="--")}
TOP1 = {"student": "top1", "cl": "top1 cl", "mim": "top1 mim"}  # how the accuracy of each network is named
NETWORKS = {"student": "student", "cl": "CL", "mim": "MIM"}
VARIANTS = {  # of ours, by the changed setting: what that means
    "lambda_1 = 0": "outputs of MIM alone (λ₁ = 0)",
    "lambda_1 = 1": "outputs of CL alone (λ₁ = 1)",
    "lambda_2 = 0.5": "attention of both (λ₂ = 0.5)",
    "lambda_2 = 1": "attention of CL alone (λ₂ = 1)",
}
BESIDE = 0.12  # of networks at one block, in blocks
EPOCHS = 6  # at most, that are named on an axis
MANY = 4  # sets beside each other whose names take one line


@style()
def figure_distance(results: Results) -> Figure:
    """Figure 1: attention distance by block before any tuning, on test images of the size above the axes, one training of each network.
    Marks: mean over heads and images, with its 95 % interval over images (often smaller than the mark); dots: single heads; dotted:
    attention spread evenly over the image. Networks at one block are drawn beside each other.
    """
    figure, ((axes,),) = canvas(height=3.0)
    size = results.study.settings.distance_data.image_size
    runs = results.runs("distances")
    others = distinct([point["model"] for point, _ in runs if point["model"] not in LOOKS])
    for place, (point, run) in enumerate(runs):
        name, distance = point["model"], run.arrays["distance"]  # images, blocks, heads
        beside = BESIDE * (place - (len(runs) - 1) / 2)
        draw_distances(axes, distance, (LOOKS | others)[name], TEACHERS.get(name, name), f"{name} heads", beside=beside)
        axes.set_title(f"{len(distance)} test images of {size} px, one training each")
    axes.axhline(uniform_distance(results), label="uniform attention", **look("uniform attention").rule)
    axes.set(xlabel="block", ylabel="attention distance (px)")
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    legend(axes, above=True, leave_out="heads", ncols=5)
    return figure


@style()
def figure_method(results: Results) -> Figure:
    """Figure 2: frozen and trained parts of the three networks, and the terms of equation 4 with this profile's weights (an arrow of weight
    zero is grey). A diagram: nothing in it is measured.
    """
    settings = results.study.settings
    figure, ((axes,),) = canvas(height=3.0)
    axes.set(xlim=(0, 12.4), ylim=(0, 6.8))
    axes.axis("off")
    frozen, lines = "0.88", {"cl": 4.7, "student": 2.5, "mim": 0.3}
    for name, y in lines.items():
        colour = COLOURS[name]
        label = "student (untrained)" if name == "student" else f"{TEACHERS[name]}, frozen blocks"
        box(axes, 0.1, y, 4.4, 1.0, label, colour if name == "student" else frozen)
        box(axes, 4.9, y, 2.2, 1.0, "last block", colour)
        box(axes, 7.5, y, 2.0, 1.0, "classifier", colour)
        arrow(axes, 4.5, y + 0.5, 4.85, y + 0.5)
        arrow(axes, 7.1, y + 0.5, 7.45, y + 0.5)
        arrow(axes, 9.5, y + 0.5, 9.9, y + 0.5)
        note(axes, 10.0, y + 0.5, "cross-entropy")
    for name, share, start, end in (("cl", settings.lambda_1, 4.7, 3.5), ("mim", 1 - settings.lambda_1, 1.3, 2.5)):
        _teaches(axes, 8.5, start, end, f"{share:g} KL of outputs", COLOURS[name], share)
    for name, share, start, end, head in (("cl", settings.lambda_2, 4.7, 3.5, 1), ("mim", 1 - settings.lambda_2, 1.3, 2.5, 2)):
        _teaches(axes, 5.2, start, end, f"{share:g} KL to head {head}", COLOURS[name], share)
    taught = f"attention is taught by the teacher's surest head of {settings.attention.where}"
    note(axes, 0.1, 6.3, f"grey: frozen; coloured: trained;{chr(10) if is_narrow() else ' '}{taught}")
    return figure


def _teaches(axes: Axes, x: float, start: float, end: float, said: str, colour: str, share: float) -> None:
    """An arrow from a teacher to the student, grey where its share is zero."""
    shown = colour if share else look("untrained").colour
    arrow(axes, x, start, x, end, shown if share else "0.8")
    note(axes, x + 0.15, (start + end) / 2, said, shown)


@style()
def figure_students(results: Results) -> Figure:
    """Left: Table 2 as a figure, top-1 accuracy of the student by method. Right: ours with one setting changed. Marks: mean over seeds with
    its 95 % interval, faint dots single seeds; dotted: the mean of ours.
    """
    figure, ((left, right),) = canvas(1, 2, height=2.7, sharex=True, narrow_height=4.6)
    students = results.frame("students").reindex(columns=["method", "top1"])
    ablation = results.frame("ablation").reindex(columns=["variant", "top1"])
    ablation = ablation.assign(variant=ablation["variant"].map(lambda name: VARIANTS.get(name, name)))
    _rows(left, students, "method", {name: (METHODS[name], LOOKS[name]) for name in dict.fromkeys(students["method"])})
    changed = LOOKS["ours"].but(hollow=True)
    _rows(right, ablation, "variant", {name: (name, changed) for name in dict.fromkeys(ablation["variant"])})
    ours = students.loc[students["method"] == "ours", "top1"].mean()
    for axes, title in ((left, "methods (Table 2)"), (right, "ours, changed")):
        axes.axvline(ours, color=COLOURS["ours"], linestyle=":", label="ours")
        axes.set(xlabel="top-1 (%)", title=title)
    return figure


@style()
def figure_downstream(results: Results) -> Figure:
    """Figure 3: top-1 accuracy of the student by single-teacher distillation and by ours, on each downstream set. Marks: mean over seeds
    with its 95 % interval, faint dots single seeds.
    """
    settings = results.study.settings
    frame = results.frame("downstream").reindex(columns=["dataset", "method", "top1"])
    figure, ((axes,),) = canvas(height=2.6)
    sets, methods = list(settings.downstream), list(dict.fromkeys(frame["method"]))
    beside = {name: 0.22 * (place - (len(methods) - 1) / 2) for place, name in enumerate(methods)}
    places = frame["dataset"].map({name: place for place, name in enumerate(sets)}) + frame["method"].map(beside)
    frame = frame.assign(name=frame["method"].map(METHODS), place=places, value=frame["top1"])
    many = len(sets) > MANY
    points(axes, frame, {METHODS[name]: LOOKS[name] for name in methods}, sideways=False, each=not many)
    axes.set_xticks(range(len(sets)), [titled(settings, name, lines=1 + many) for name in sets], fontsize=6.5 if many else None)
    axes.set(ylabel="top-1 (%)", xlim=(-0.5, len(sets) - 0.5))
    axes.grid(False, axis="x")
    legend(axes, above=True)
    return figure


@style()
def figure_terms(results: Results) -> Figure:
    """Joint training by epoch, mean over seeds with its 95 % interval as a band, on validation images where the data have some, otherwise
    on test images (the titles say which). Left: the terms of equation 4 on 128 of them, cross-entropy (CE) of each network and, dashed, the
    divergences that teach the student. Right: accuracy of the three networks on all of them.
    """
    history = results.history("students")
    watched = "test" if "test top1" in history else "validation"
    figure, ((left, right),) = canvas(1, 2, height=2.7)
    if "ce_student" in history:
        rows = history[history["method"] == "ours"].dropna(subset="ce_student")
        entropies = {f"ce_{name}": (f"CE, {short}", LOOKS[name]) for name, short in NETWORKS.items()}
        _by_epoch(left, rows, entropies | {name: (f"KL, {name}", found) for name, found in TERMS.items()})
        _by_epoch(right, rows, {f"{watched} {TOP1[name]}": (TEACHERS.get(name, name), LOOKS[name]) for name in NETWORKS})
    left.set(xlabel="epoch", ylabel="term (nats)", title=f"equation 4 on {watched} images")
    right.set(xlabel="epoch", ylabel="top-1 (%)", title=f"accuracy on {watched} images")
    for axes in (left, right):
        label_ends(axes)
    return figure


@style()
def figure_confidence(results: Results) -> Figure:
    """Heat maps: attention confidence of every head of the teachers after joint training, by block, on 128 validation images (test images
    where the data have none), mean over seeds. Bars: how often each head of the last block was the surest on these images, over evaluated
    epochs and seeds.

    Bars, where heads are chosen once or attention is taught in other blocks: the heads that teach, over those blocks together.
    """
    runs = [run for point, run in results.runs("students") if point["method"] == "ours"]
    figure, ((left, middle, right),) = canvas(1, 3, height=2.5, width_ratios=[1.3, 1.3, 1], narrow_height=5.2)
    maps = {name: np.mean([run.arrays[f"confidence {name}"] for run in runs], axis=0) for name in TEACHERS if runs}
    norm = Normalize(0, max([0.1, *(values.max() for values in maps.values())]))
    for axes, name in zip((left, middle), TEACHERS, strict=True):
        if name in maps:
            _heads(axes, maps[name], TEACHERS[name], norm)
        axes.set(title=TEACHERS[name], xlabel="block", ylabel="head")
    figure.colorbar(
        ScalarMappable(norm, "Blues"),
        ax=[middle] if is_narrow() else [left, middle],
        label="attention confidence",
        location="bottom",
        aspect=40,
    )
    history = results.history("students")
    if "ce_student" in history:
        rows = history[history["method"] == "ours"].dropna(subset="ce_student")
        for place, name in enumerate(TEACHERS):
            heads = rows.filter(like=f"{name}_head").melt()["value"].astype(int).value_counts().sort_index()
            bars = LOOKS[name].bars | {"label": TEACHERS[name]}
            right.bar(heads.index + 1 + 0.4 * (place - 0.5), heads, 0.38, **bars)
    taught = f"head of {results.study.settings.attention.where}"
    right.set(xlabel=taught, ylabel="times chosen", title="surest head")
    right.xaxis.set_major_locator(MaxNLocator(integer=True))
    right.set_ylim(top=1.5 * right.dataLim.ymax if right.containers else None)  # the legend stands above the bars
    legend(right, loc="upper right")
    return figure


def _rows(axes: Axes, frame: pd.DataFrame, key: str, shown: dict[str, tuple[str, Look]]) -> None:
    """Top-1 with intervals, a row a method from above to below."""
    places = {name: place for place, name in enumerate(shown)}
    names = {name: label for name, (label, _) in shown.items()}
    seeds = pd.DataFrame({"name": frame[key].map(names), "place": frame[key].map(places), "value": frame["top1"]})
    points(axes, seeds, dict(shown.values()))
    axes.set_yticks(range(len(shown)), names.values())
    axes.set_ylim(len(shown) - 0.5, -0.5)


def _by_epoch(axes: Axes, rows: pd.DataFrame, shown: dict[str, tuple[str, Look]]) -> None:
    parts = [pd.DataFrame({"name": label, "x": rows["epoch"], "value": rows[column]}) for column, (label, _) in shown.items()]
    curves(axes, pd.concat(parts), dict(shown.values()))
    epochs = sorted(set(rows["epoch"]))
    axes.set_xticks(epochs[:: -(-len(epochs) // EPOCHS) or 1])


def _heads(axes: Axes, values: np.ndarray, name: str, norm: Normalize) -> None:
    """Confidence (blocks, heads): blocks across, heads down, both counted from 1."""
    blocks, heads = values.shape
    table = pd.DataFrame(values.T, index=np.arange(1, heads + 1), columns=np.arange(1, blocks + 1))
    heat_map(axes, table, name=name, norm=norm, cbar=False, annot=False)
    axes.tick_params(axis="y", labelrotation=0)
