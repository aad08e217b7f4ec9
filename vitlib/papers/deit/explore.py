"""DeiT's explorers: where the two tokens look, and what the soft target is."""

from __future__ import annotations

import numpy as np
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure

from vitlib.grid.results import Results
from vitlib.papers.deit.figures import CLASS, DISTILLATION
from vitlib.report.figures import TEACHER, canvas, style
from vitlib.report.widgets import Explorer, NothingToExplore, slider


def explore_attention(results: Results) -> Explorer | NothingToExplore:
    """Pick an image, a block and a head, all counted from 1: attention of the class and of the distillation token over the patches."""
    arrays = _token_arrays(results)
    if arrays is None:
        return NothingToExplore()
    images, depth, heads = arrays["attention"].shape[:3]
    controls = {
        "image": slider("image", 1, 1, images, 1),
        "block": slider("block", depth, 1, depth, 1),
        "head": slider("head", 1, 1, heads, 1),
    }
    return Explorer(lambda image, block, head: draw_attention(arrays, image, block, head), controls, width=640)


def explore_soft_target(results: Results) -> Explorer | NothingToExplore:
    """Pick an image, τ and λ: the teacher's softened distribution, the student's, and the weighted loss of equation 2."""
    arrays = _token_arrays(results)
    if arrays is None:
        return NothingToExplore()
    controls = {
        "image": slider("image", 1, 1, len(arrays["images"]), 1),
        "tau": slider("τ", 3.0, 0.5, 10.0, 0.5),
        "kd_weight": slider("λ", 0.1, 0.0, 1.0, 0.05),
    }
    return Explorer(lambda image, tau, kd_weight: draw_soft_target(arrays, image, tau, kd_weight), controls)


@style()
def draw_attention(arrays: dict[str, np.ndarray], image: int, block: int, head: int) -> Figure:
    """Image beside the attention of both prefix tokens; each map's patches sum to at most 1. Images, blocks and heads count from 1.

    One colour scale for both maps and for every choice: from 0 to the largest share that is stored, its root drawn.
    """
    figure, (panels,) = canvas(1, 3, height=2.5)
    attention = arrays["attention"][image - 1, block - 1, head - 1]  # (2, patches)
    side, scale = round(attention.shape[-1] ** 0.5), PowerNorm(0.5, 0, float(arrays["attention"].max()))
    panels[0].imshow(arrays["images"][image - 1].transpose(1, 2, 0).squeeze(), cmap="gray", label="image")
    panels[0].set_title(f"image {image}, label {arrays['labels'][image - 1]}")
    for axes, row, name in zip(panels[1:], attention, ("class token", "distillation token"), strict=True):
        shown = axes.imshow(row.reshape(side, side), cmap="viridis", norm=scale, label=name)
        axes.set_title(f"{name}\nblock {block}, head {head}")
    figure.colorbar(shown, ax=list(panels), shrink=0.8, label="share of attention")
    for axes in panels:
        axes.set(xticks=[], yticks=[])
        axes.grid(False)
    return figure


@style()
def draw_soft_target(arrays: dict[str, np.ndarray], image: int, tau: float, kd_weight: float) -> Figure:
    """softmax(Z_t / τ) beside softmax(Z_s / τ) of the distillation head, and both terms of equation 2. Images count from 1."""
    teacher, student = arrays["teacher_logits"][image - 1], arrays["student_logits"][1, image - 1]
    label = int(arrays["labels"][image - 1])
    soft_teacher, soft_student = _softmax(teacher / tau), _softmax(student / tau)
    cross_entropy = -np.log(_softmax(student)[label])
    divergence = float(np.sum(soft_teacher * np.log(soft_teacher / soft_student)))
    total = (1 - kd_weight) * cross_entropy + kd_weight * tau**2 * divergence
    figure, ((axes,),) = canvas(height=2.9)
    classes = np.arange(len(teacher))
    axes.bar(classes - 0.2, soft_teacher, 0.4, color=TEACHER, label="teacher, softened")
    axes.bar(classes + 0.2, soft_student, 0.4, color=DISTILLATION, label="student, softened")
    axes.axvline(label, color=CLASS, linestyle=":", label="true label")
    axes.set(xlabel="class", ylabel="probability", ylim=(0, 1), xticks=classes if len(classes) <= 20 else [])
    axes.set_title(
        f"image {image}, τ = {tau:g}, λ = {kd_weight:g}: (1 - λ) CE + λ τ² KL = "
        f"{1 - kd_weight:.2f} · {cross_entropy:.2f} + {kd_weight:.2f} · {tau**2 * divergence:.2f} = {total:.2f}"
    )
    figure.legend(loc="outside lower center", ncols=3)
    return figure


def _token_arrays(results: Results) -> dict[str, np.ndarray] | None:
    return next((run.arrays for point, run in results.runs("tokens") if point["method"] == "token"), None)


def _softmax(logits: np.ndarray) -> np.ndarray:
    shifted = np.exp(logits - logits.max())
    return shifted / shifted.sum()
