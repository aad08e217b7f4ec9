"""DeiT's findings: what each main table or figure shows here, in words made from its numbers.

Differences are paired; their 95 % interval is that of the claims, over seeds and, where runs tell by image, test images. A sentence says
what was measured, also against the publication, and "not measured yet" where runs are missing.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from vitlib.grid.results import Results
from vitlib.papers.deit.figures import LABELS
from vitlib.papers.deit.tables import (
    CLASSIFIERS,
    disagreement_by_seed,
    disagreement_matrices,
    frame_cosines,
    frame_gains,
    frame_readouts_of_all,
    frame_schedules,
    frame_taught,
    measured_teachers,
    published_name,
    table_models,
)
from vitlib.report.evidence.intervals import Interval
from vitlib.report.evidence.words import answered
from vitlib.report.frames import BY_IMAGE
from vitlib.report.statistics import NOT_YET, difference, is_measured, over_seeds, side, worded
from vitlib.report.tables import DASH

READ = {"class": "class", "distillation": "distillation", "class+distillation": "both"}
STUDENTS = CLASSIFIERS[2:]  # of Table 4


def finding_answer(results: Results) -> str:
    """The document's main claims as they stand here, and the count of all verdicts."""
    return answered(results.board(), results.study.profile)


def finding_teachers(results: Results) -> str:
    """Table 2: convnet against transformer as teacher at both image sizes, and whether the better teacher has the better student."""
    native, larger = (_between(frame_taught(results, column), {"kind": "convnet"}, {"kind": "transformer"}) for column in ("native", "up"))
    return (
        f"Convnet teacher against transformer teacher, top-1 of the largest student: {worded(native)}. "
        f"With larger images: {worded(larger)}. {_best_teacher(measured_teachers(results))}"
    )


def finding_strategies(results: Results) -> str:
    """Table 3: the strategies at the native images, and the order of the readouts before and after fine-tuning at larger ones."""
    frame = frame_readouts_of_all(results)
    headline = np.where(frame["method"] == "token", "class+distillation", "class")
    strategies = _means(frame[(frame["resolution"] == "native") & (frame["readout"] == headline)], "method")
    listed = ", ".join(f"{LABELS[method]} {_percent(top1)}" for method, top1 in strategies.items())
    mine = frame[(frame["method"] == "token") & (frame["size"] == results.study.settings.sizes[-1]) & frame["readout"].isin(READ)]
    native, larger = (mine[mine["resolution"] == resolution].dropna(subset="top1") for resolution in ("native", "up"))
    gain = _between(larger, {"readout": "class+distillation"}, {"readout": "class"})
    return (
        f"Top-1 at the native images, mean over sizes: {listed}. Readouts of the largest size with the token, from low to high: "
        f"{_ranked(native)}; after fine-tuning at larger images: {_ranked(larger)} (published at both: class, distillation, both). "
        f"There both tokens against the class token: {worded(gain)}."
    )


def finding_models(results: Results) -> str:
    """Table 5: whether the order of the models survives the second test set, and what larger images do to the largest size."""
    frame = results.frame("models").reindex(columns=["method", "size", "resolution", "seed", "top1", f"top1{BY_IMAGE}"])
    frame = frame[frame["size"] == results.study.settings.sizes[-1]]
    methods = frame["method"].unique()
    changes = {m: _between(frame[frame["method"] == m], {"resolution": "up"}, {"resolution": "native"}) for m in methods}
    published = {method: _published_change(results, method) for method in methods}
    listed = "; ".join(f"{LABELS[method]} {worded(changes[method])}, published for DeiT-B {published[method]:+.1f}" for method in methods)
    return (
        f"{_kept_order(table_models(results))}Larger images, change of the largest size: {listed}. {_opposed(changes, published)}".strip()
    )


def finding_disagreement(results: Results) -> str:
    """Table 4: whether the distilled student is nearer to the convnet than its accuracy explains.

    Its disagreements with the convnet and with the labels can differ by the convnet's error at most (triangle inequality).
    """
    if not (by_seed := disagreement_by_seed(results)):
        return f"Disagreement: {NOT_YET}."
    mean = 100 * disagreement_matrices(results)
    columns, errors = (", ".join(_percent(mean.loc[row, student]) for student in STUDENTS) for row in ("convnet", "groundtruth"))
    distance, error = (
        pd.Series({seed: 100 * _change(matrix, row) for seed, matrix in by_seed.items()}) for row in ("convnet", "groundtruth")
    )
    beyond = over_seeds(distance - error)
    return (
        f"The convnet is wrong on {_percent(mean.loc['groundtruth', 'convnet'])} % of the test images. Its column can differ from the "
        f"error rates by no more: {columns} against {errors} ({', '.join(STUDENTS)}). From the plain to the distilled student (both "
        f"tokens) the distance to the convnet changes by {distance.mean():+z.1f} points and the error by {error.mean():+z.1f}. "
        f"The difference of the two is {worded(beyond)}: {_explained(beyond)}."
    )


def finding_schedules(results: Results) -> str:
    """Figure 3: what the longer training adds with and without distillation."""
    gains, times = frame_gains(results), results.study.settings.long_factor
    frame = frame_schedules(results)
    plain, distilled = (_between(frame[frame["method"] == method], {"longer": True}, {"longer": False}) for method in ("none", "token"))
    more = _between(gains, {"method": "token"}, {"method": "none"}, "gain")
    return (
        f"{times:g} times the epochs, change of the largest student without a teacher: {worded(plain)}; with the distillation token: "
        f"{worded(distilled)}. The second less the first: {worded(more)}. {_gained(more)}"
    ).strip()


def finding_cosine(results: Results) -> str:
    """Section 4: how the cosine changes from input to last block, and where it ends beside the published value."""
    frame = frame_cosines(results)
    token, control = (
        _between(frame[frame["method"] == method], {"place": "last"}, {"place": "input"}, "cosine") for method in ("token", "two-class")
    )
    ends = frame[(frame["method"] == "token") & (frame["place"] == "last")]["cosine"].mean()
    changes = [worded(differences, unit="", decimals=2) for differences in (token, control)]
    return (
        f"Cosine from input to last block, change of class and distillation token: {changes[0]}; of two class tokens: {changes[1]}. "
        f"Class and distillation token end at {DASH if np.isnan(ends) else f'{ends:.2f}'} (published: 0.93)."
    )


def _between(frame: pd.DataFrame, first: dict, second: dict, metric: str = "top1") -> Interval:
    """The difference of a metric."""
    return difference(frame, metric, first, second, ["seed"])


def _percent(value: float) -> str:
    return DASH if np.isnan(value) else f"{value:.1f}"


def _verdict(interval: Interval, above: str, below: str, between: str) -> str:
    """By the interval: all of it above zero, all below, or neither; one seed has none."""
    return {1: above, -1: below, 0: between}[side(interval)]


def _means(frame: pd.DataFrame, by: str) -> dict[str, float]:
    return frame.groupby(by, sort=False)["top1"].mean().to_dict()


def _ranked(frame: pd.DataFrame) -> str:
    means = sorted(_means(frame, "readout").items(), key=lambda item: item[1])
    return ", ".join(f"{READ[readout]} {_percent(top1)}" for readout, top1 in means) or NOT_YET


def _best_teacher(table: pd.DataFrame) -> str:
    """The most accurate teacher beside that of the most accurate student."""
    known = table.dropna(subset="measured")
    itself, students = (known[known["column"] == column].set_index("teacher")["measured"] for column in ("teacher", "native"))
    if not len(itself) or not len(students):
        return f"The teachers themselves: {NOT_YET}."
    return (
        f"The most accurate teacher is {itself.idxmax()} ({_percent(itself.max())} %), "
        f"the most accurate student that of {students.idxmax()} ({_percent(students.max())} %)."
    )


def _kept_order(table: pd.DataFrame) -> str:
    """How many pairs of models have the same order on both test sets."""
    first, second = (
        table[table["n"] > 0].dropna(subset=["test", "V2 / shifted"])[column].to_numpy() for column in ("test", "V2 / shifted")
    )
    pairs = np.triu_indices(len(first), k=1)
    kept = np.sign(np.subtract.outer(first, first)) == np.sign(np.subtract.outer(second, second))
    return f"{int(kept[pairs].sum())} of {len(pairs[0])} pairs of models have the same order on both test sets. " if len(pairs[0]) else ""


def _published_change(results: Results, method: str) -> float:
    """What the larger images add to DeiT-B in the paper's Table 5."""
    published = results.published("paper_table5").query("dataset == 'ImageNet-1k'").set_index("method")["value"]
    return published[published_name(method, "base", "up")] - published[published_name(method, "base", "native")]


def _opposed(changes: dict[str, Interval], published: dict[str, float]) -> str:
    """Which means go the other way than published."""
    known = [method for method in changes if is_measured(changes[method])]
    against = [LABELS[method] for method in known if changes[method].mean * published[method] < 0]
    if against:
        return f"On average these go the other way than published: {'; '.join(against)}."
    return "All of them go the published way on average." if known else ""


def _change(matrix: pd.DataFrame, row: str) -> float:
    """How the disagreement with `row` changes from the plain to the distilled student."""
    return matrix.loc[row, "class+distillation"] - matrix.loc[row, "DeiT"]


def _explained(beyond: Interval) -> str:
    if beyond.spread.n < 2:
        return "one seed does not decide whether that is more than its accuracy"
    below, above = "it is nearer to the convnet than its accuracy explains", "it is farther from the convnet than its accuracy would put it"
    return _verdict(beyond, above, below, "its nearness to the convnet cannot be told from its accuracy")


def _gained(more: Interval) -> str:
    if not is_measured(more):
        return ""
    above, below = "The distilled student gains more, as published.", "The distilled student gains less, against the publication."
    return _verdict(more, above, below, "Which of them gains more is undecided.")
