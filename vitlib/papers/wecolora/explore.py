"""WeCoLoRA's explorer: what a rank keeps of a dropped block, and what the start costs."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from vitlib.grid.results import Results
from vitlib.papers.wecolora.figures import COLOURS
from vitlib.papers.wecolora.specs import STEP_0
from vitlib.papers.wecolora.tables import STARTS
from vitlib.report.figures import PALETTE, TEACHER, canvas, style
from vitlib.report.widgets import Explorer, NothingToExplore, slider

MATRICES = ("q", "k", "v", "proj", "fc1", "fc2")


def explore_rank(results: Results) -> Explorer | NothingToExplore:
    """Pick a student block and a rank: energy kept, reconstruction error, and the step-0 loss of that block."""
    runs = [run for _, run in results.runs("spectra")]
    if not runs:
        return NothingToExplore()
    arrays = runs[0].arrays
    blocks, ranks = arrays["energy q"].shape
    controls = {
        "block": slider("block", 1, 1, blocks, 1),
        "rank": slider("rank", min(results.study.settings.rank, ranks), 1, ranks, 1),
    }
    return Explorer(lambda block, rank: draw_rank(arrays, block, rank), controls, width=760)


@style()
def draw_rank(arrays: dict[str, np.ndarray], block: int, rank: int) -> Figure:
    """Left: energy by rank of the block's matrices. Middle: relative error of rank k. Right: step-0 loss by rank, its axis that of all
    blocks.
    """
    figure, ((spectrum, error, start),) = canvas(1, 3, height=3.1)
    for colour, name in zip(PALETTE, MATRICES, strict=True):
        curve = arrays[f"energy {name}"][block - 1]
        spectrum.plot(np.arange(1, len(curve) + 1), curve, color=colour, label=name)
        error.bar([name], [np.sqrt(max(0.0, 1 - curve[rank - 1]))], color=colour, label=name)
    spectrum.set(title=f"dropped after block {block}", xlabel="rank", ylabel="share of ‖W‖²", ylim=(0, 1.02))
    error.set(title=f"error at rank {rank}", ylabel="‖W − BA‖ / ‖W‖", ylim=(0, 1))
    for kind, values in zip(STEP_0, arrays["step-0"], strict=True):
        start.plot(arrays["ranks"], values[:, block - 1], "o-", color=COLOURS[kind], label=STARTS[kind])
    start.set(title=f"block {block} at step 0", xlabel="rank", ylabel="mean |T − S|", ylim=(0, 1.05 * float(arrays["step-0"].max())))
    for axes, columns in ((spectrum, 4), (start, 1)):
        axes.axvline(rank, color=TEACHER, linestyle=":", label=f"rank {rank}")
        axes.set_xlim(0, len(curve) + 1)
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.22), ncols=columns, fontsize=6.5, columnspacing=0.9, handlelength=1.4)
    return figure
