"""Explorers: where a head of a teacher looks from a patch; what the student would be pulled towards."""

from __future__ import annotations

import numpy as np
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure

from vitlib.grid.results import Results
from vitlib.papers.dual_ssl_kd.specs import AttentionTerm
from vitlib.papers.dual_ssl_kd.tables import TEACHERS
from vitlib.report.figures import PALETTE, canvas, style
from vitlib.report.widgets import Explorer, NothingToExplore, choice, slider
from vitlib.runs.reading.stored import Stored


def explore_attention(results: Results) -> Explorer | NothingToExplore:
    """Pick an image, a query patch, a model, a block and a head: its attention over the image, and how far it looks."""
    runs = {point["model"]: run for point, run in results.runs("maps")}
    if not runs:
        return NothingToExplore()
    images, blocks, heads, tokens, _ = next(iter(runs.values())).arrays["attention"].shape
    patches = tokens - int(next(iter(runs.values())).metrics["prefix"])
    controls = {
        "model": choice("model", {TEACHERS.get(name, name): name for name in runs}, "mim"),
        "image": slider("image", 1, 1, images, 1),
        "patch": slider("query patch", patches // 2 + int(patches**0.5) // 2, 1, patches, 1),
        "block": slider("block", blocks, 1, blocks, 1),
        "head": slider("head", 1, 1, heads, 1),
    }
    largest = max(_large(run) for run in runs.values())
    return Explorer(lambda model, **place: draw_attention(runs[model], model, **place, largest=largest), controls, width=640)


def explore_weights(results: Results) -> Explorer | NothingToExplore:
    """Choose the two shares and an image: the attention that the student's heads 1 and 2 would be pulled towards, and how strongly."""
    runs = {point["model"]: run for point, run in results.runs("maps")}
    if not {"cl", "mim"} <= set(runs):
        return NothingToExplore()
    settings = results.study.settings
    controls = {
        "lambda_1": slider("λ₁", settings.lambda_1, 0.0, 1.0, 0.05),
        "lambda_2": slider("λ₂", settings.lambda_2, 0.0, 1.0, 0.05),
        "image": slider("image", 1, 1, len(runs["cl"].arrays["images"]), 1),
    }
    return Explorer(lambda **chosen: draw_targets(runs["cl"], runs["mim"], attention=settings.attention, **chosen), controls, width=760)


@style()
def draw_attention(run: Stored, model: str, image: int, patch: int, block: int, head: int, largest: float = 1.0) -> Figure:
    """Left: the image, the query patch framed. Right: the attention of that patch over the patches, normalised over them.

    The colour scale goes from 0 to `largest`, its root drawn.
    """
    size = int(run.metrics["patch"])
    attention = _over_patches(run, image, block)[head - 1]
    side = int(len(attention) ** 0.5)
    row, column = divmod(patch - 1, side)
    figure, ((left, right),) = canvas(1, 2, height=2.9)
    left.imshow(_picture(run, image), label="image")
    left.add_patch(_frame(column * size, row * size, size))
    shown = right.imshow(attention[patch - 1].reshape(side, side), cmap="magma", norm=PowerNorm(0.5, 0, largest), label="attention")
    figure.colorbar(shown, ax=right, shrink=0.9, extend="max", label="share of attention")
    rows, columns = np.divmod(np.arange(side**2), side)
    distance = size * float(attention[patch - 1] @ np.hypot(rows - row, columns - column))
    left.set_title(f"image {image}, patch {patch}")
    right.set_title(f"{TEACHERS.get(model, model)}, block {block}, head {head}: {distance:.1f} px")
    for axes in (left, right):
        axes.axis("off")
    return figure


@style()
def draw_targets(
    cl: Stored,
    mim: Stored,
    lambda_1: float,
    lambda_2: float,
    image: int,
    attention: AttentionTerm = AttentionTerm(),  # noqa: B008  (frozen)
) -> Figure:
    """The image; the mean attention received by each patch under the surest head of each teacher, times its share, which is how strongly
    the student's head is pulled towards it; and the four weights of the two terms.

    The head is that of the last of the blocks that are taught, as it is before training. Both maps have one colour scale, which is that of
    the whole targets of all images.
    """
    figure, (panels,) = canvas(1, 4, height=2.5, width_ratios=(1, 1, 1, 1.1))
    taught = (("cl", cl, lambda_2, 1), ("mim", mim, 1 - lambda_2, 2))
    largest = max(
        _target(run, other, attention)[1].max() for _, run, _, _ in taught for other in range(1, len(run.arrays["attention"]) + 1)
    )
    for axes, (name, run, share, student_head) in zip(panels[1:], taught, strict=False):
        surest, target = _target(run, image, attention)
        axes.imshow(share * target, cmap="magma", vmin=0, vmax=largest, label=f"{name} target")
        axes.set_title(f"{TEACHERS[name]}, head {surest}\n× {share:g} → student head {student_head}", fontsize=7)
    panels[0].imshow(_picture(cl, image), label="image")
    panels[0].set_title(f"image {image}", fontsize=7)
    for axes in panels[:3]:
        axes.axis("off")
    weights = {"output CL": lambda_1, "output MIM": 1 - lambda_1, "attention CL": lambda_2, "attention MIM": 1 - lambda_2}
    panels[3].barh(list(weights), list(weights.values()), color=PALETTE[2], label="weight")
    panels[3].set(xlim=(0, 1), xlabel="weight in the loss")
    panels[3].set_title(f"λ₁ = {lambda_1:g}, λ₂ = {lambda_2:g}", fontsize=7)
    panels[3].invert_yaxis()
    return figure


def _target(run: Stored, image: int, attention: AttentionTerm) -> tuple[int, np.ndarray]:
    """The surest head (equation 2), counted from 1, and the mean attention (side, side) that each patch receives under it."""
    block = run.arrays["attention"].shape[1] + 1 - attention.blocks[0]
    maps = _over_patches(run, image, block)
    taken = {"all": run.arrays["attention"][image - 1, block - 1].astype(float), "patches": maps}[attention.tokens]
    surest = int(taken.max(axis=-1).mean(axis=-1).argmax())
    side = int(maps.shape[-1] ** 0.5)
    return surest + 1, maps[surest].mean(axis=0).reshape(side, side)


def _large(run: Stored) -> float:
    """A share of attention that one in a thousand exceeds: a scale up to the very largest would be dark."""
    images, blocks = run.arrays["attention"].shape[:2]
    return max(float(np.quantile(_over_patches(run, image + 1, block + 1), 0.999)) for image in range(images) for block in range(blocks))


def _over_patches(run: Stored, image: int, block: int) -> np.ndarray:
    """Attention (heads, patches, patches) of an image and block, both counted from 1, without prefix tokens, rows normalised."""
    prefix = int(run.metrics["prefix"])
    maps = run.arrays["attention"][image - 1, block - 1, :, prefix:, prefix:].astype(float)
    return maps / maps.sum(axis=-1, keepdims=True)


def _picture(run: Stored, image: int) -> np.ndarray:
    return np.moveaxis(run.arrays["images"][image - 1], 0, -1)


def _frame(x: float, y: float, size: int):
    from matplotlib.patches import Rectangle

    return Rectangle((x - 0.5, y - 0.5), size, size, fill=False, edgecolor=PALETTE[3], linewidth=1.5)
