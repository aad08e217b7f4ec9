"""Figures of distillation from two self-supervised teachers, from results alone."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from vitlib.grid.results import Results
from vitlib.grid.stand_ins import titled
from vitlib.papers.dual_ssl_kd.tables import METHODS, TEACHERS, uniform_distance
from vitlib.report.diagrams import arrow, box
from vitlib.report.distances import draw_distances
from vitlib.report.figures import PALETTE, TEACHER, canvas, legend, style
from vitlib.report.statistics import summary

COLOURS = {  # the document: CL red, MIM blue
    "cl": "#c0392b",
    "mim": "#2463a8",
    "student": PALETTE[2],
    "supervised": PALETTE[2],
    "untrained": "0.6",
}
TOP1 = {"student": "top1", "cl": "top1 cl", "mim": "top1 mim"}  # how the accuracy of each network is named
NETWORKS = {"student": "student", "cl": "CL", "mim": "MIM"}
MANY = 4  # sets beside each other whose names take one line
BARS = {"baseline": "0.6", "kd-cl": COLOURS["cl"], "kd-mim": COLOURS["mim"], "two-frozen": PALETTE[1], "ours": PALETTE[2]}


@style()
def figure_distance(results: Results) -> Figure:
    """Figure 1: attention distance by block before any tuning, on test images of the size above the axes, one training of each network.
    Lines: mean over heads and images, with its 95 % interval over images (often narrower than the line); dots: single heads; dotted:
    attention spread evenly over the image.
    """
    figure, ((axes,),) = canvas(height=3.0)
    size = results.study.settings.distance_data.image_size
    for point, run in results.runs("distances"):
        name, distance = point["model"], run.arrays["distance"]  # images, blocks, heads
        colour = COLOURS.get(name, "0.3")
        draw_distances(axes, distance, colour, TEACHERS.get(name, name), f"{name} heads")
        axes.set_title(f"{len(distance)} test images of {size} px, one training each")
    axes.axhline(uniform_distance(results), color=TEACHER, linestyle=":", label="uniform attention")
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
    axes.set(xlim=(0, 12.4), ylim=(0, 6.4))
    axes.axis("off")
    frozen, lines = "0.88", {"cl": 4.9, "student": 2.7, "mim": 0.5}
    for name, y in lines.items():
        colour = COLOURS[name]
        label = "student (untrained)" if name == "student" else f"{TEACHERS[name]}, frozen blocks"
        box(axes, 0.1, y, 4.6, 1.0, label, colour if name == "student" else frozen)
        box(axes, 5.1, y, 2.2, 1.0, "last block", colour)
        box(axes, 7.7, y, 1.9, 1.0, "classifier", colour)
        arrow(axes, 4.7, y + 0.5, 5.05, y + 0.5)
        arrow(axes, 7.3, y + 0.5, 7.65, y + 0.5)
        arrow(axes, 9.6, y + 0.5, 10.2, y + 0.5)
        axes.text(10.3, y + 0.5, "cross-entropy", fontsize=7, va="center")
    for name, share, start, end in (("cl", settings.lambda_1, 4.9, 3.7), ("mim", 1 - settings.lambda_1, 1.5, 2.7)):
        arrow(axes, 8.65, start, 8.65, end, COLOURS[name])
        axes.text(8.8, (start + end) / 2, f"{share:g} KL of outputs", fontsize=7, va="center", color=COLOURS[name])
    for name, share, start, end, head in (("cl", settings.lambda_2, 4.9, 3.7, 1), ("mim", 1 - settings.lambda_2, 1.5, 2.7, 2)):
        arrow(axes, 5.6, start, 5.6, end, COLOURS[name] if share else "0.8")
        axes.text(5.75, (start + end) / 2, f"{share:g} KL to head {head}", fontsize=7, va="center", color=COLOURS[name] if share else "0.6")
    taught = f"attention is taught by the teacher's surest head of {settings.attention.where}"
    axes.text(0.1, 6.2, f"grey: frozen; coloured: trained; {taught}", fontsize=7.5)
    return figure


@style()
def figure_students(results: Results) -> Figure:
    """Left: Table 2 as a figure, top-1 accuracy of the student by method. Right: ours with one setting changed; lambda_1 is CL's share in
    the output term, lambda_2 in the attention term. Points: mean over seeds with its 95 % interval; dotted: the mean of ours.
    """
    figure, ((left, right),) = canvas(1, 2, height=2.7, sharex=True)
    table = summary(results.frame("students"), ["method"], "top1")
    for place, row in enumerate(table.itertuples(index=False)):
        left.errorbar([row[1]], [place], xerr=[row[2]], fmt="o", color=BARS[row[0]], label=METHODS[row[0]])
    left.set_yticks(range(len(table)), [METHODS[name] for name in table["method"]])
    ablation = summary(results.frame("ablation"), ["variant"], "top1")
    for place, row in enumerate(ablation.itertuples(index=False)):
        right.errorbar([row[1]], [place], xerr=[row[2]], fmt="o", color=PALETTE[1], label=row[0])
    right.set_yticks(range(len(ablation)), ablation["variant"])
    ours = table.set_index("method")["measured"].get("ours", np.nan)
    for axes, title in ((left, "methods (Table 2)"), (right, "ours, changed")):
        axes.axvline(ours, color=BARS["ours"], linestyle=":", label="ours")
        axes.set(xlabel="top-1 (%)", title=title)
        axes.invert_yaxis()
    return figure


@style()
def figure_downstream(results: Results) -> Figure:
    """Figure 3: top-1 accuracy of the student by single-teacher distillation and by ours, on each downstream set. Bars: mean over seeds;
    whiskers: its 95 % interval.
    """
    settings = results.study.settings
    table = summary(results.frame("downstream"), ["dataset", "method"], "top1")
    figure, ((axes,),) = canvas(height=2.6)
    sets, methods = list(settings.downstream), list(dict.fromkeys(table["method"]))
    for place, method in enumerate(methods):
        rows = table[table["method"] == method]
        places = np.arange(len(rows)) + 0.26 * (place - (len(methods) - 1) / 2)
        axes.bar(places, rows["measured"], 0.24, yerr=rows["±"], color=BARS[method], label=METHODS[method], error_kw={"linewidth": 0.8})
    many = len(sets) > MANY
    axes.set_xticks(range(len(sets)), [titled(settings, name, lines=1 + many) for name in sets], fontsize=6.5 if many else None)
    axes.set_ylabel("top-1 (%)")
    legend(axes, above=True)
    return figure


@style()
def figure_terms(results: Results) -> Figure:
    """Joint training by epoch, mean over seeds, on validation images where the data have some, otherwise on test images (the titles say
    which). Left: the terms of equation 4 on 128 of them, solid: cross-entropy of each network, dashed: divergences that teach the student.
    Right: accuracy of the three networks on all of them.
    """
    history = results.history("students")
    watched = "test" if "test top1" in history else "validation"
    figure, ((left, right),) = canvas(1, 2, height=2.7)
    if "ce_student" in history:
        rows = history[history["method"] == "ours"].dropna(subset="ce_student").groupby("epoch").mean(numeric_only=True)
        for name, short in NETWORKS.items():
            left.plot(rows.index, rows[f"ce_{name}"], ".-", color=COLOURS[name], label=f"CE, {short}")
            right.plot(rows.index, rows[f"{watched} {TOP1[name]}"], ".-", color=COLOURS[name], label=TEACHERS.get(name, name))
        for name, colour in (("output", PALETTE[1]), ("attention", PALETTE[4])):
            left.plot(rows.index, rows[name], ".--", color=colour, label=f"KL, {name}")
    left.set(xlabel="epoch", ylabel="term", title=f"equation 4 on {watched} images")
    right.set(xlabel="epoch", ylabel="top-1 (%)", title=f"on the {watched} images, while training")
    left.xaxis.set_major_locator(MaxNLocator(integer=True))
    right.xaxis.set_major_locator(MaxNLocator(integer=True))
    legend(left, fontsize=6)
    legend(right, fontsize=6)
    return figure


@style()
def figure_confidence(results: Results) -> Figure:
    """Left: attention confidence of every head of the teachers after joint training, by block, on 128 validation images (test images where
    the data have none), first seed; each head is a dot. Right: how often each head of the last block was the surest on these images, over
    evaluated epochs and seeds.

    Right, where heads are chosen once or attention is taught in other blocks: the heads that teach, over those blocks together.
    """
    runs = [run for point, run in results.runs("students") if point["method"] == "ours"]
    figure, ((left, right),) = canvas(1, 2, height=2.6)
    for name in ("cl", "mim"):
        for run in runs[:1]:
            values = run.arrays[f"confidence {name}"]
            places = np.repeat(np.arange(1, len(values) + 1), values.shape[1])
            left.plot(places, values.ravel(), ".", color=COLOURS[name], label=TEACHERS[name])
    history = results.history("students")
    if "ce_student" in history:
        rows = history[history["method"] == "ours"].dropna(subset="ce_student")
        for place, name in enumerate(("cl", "mim")):
            heads = rows.filter(like=f"{name}_head").melt()["value"].astype(int).value_counts().sort_index()
            right.bar(heads.index + 1 + 0.36 * (place - 0.5), heads, 0.34, color=COLOURS[name], label=TEACHERS[name])
    left.set(xlabel="block", ylabel="attention confidence", title="heads of the teachers, first seed")
    taught = f"head of {results.study.settings.attention.where}"
    right.set(xlabel=taught, ylabel="times chosen", title="surest head, over epochs and seeds")
    right.xaxis.set_major_locator(MaxNLocator(integer=True))
    legend(left, above=True)
    return figure
