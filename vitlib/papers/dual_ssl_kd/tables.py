"""Tables of distillation from two self-supervised teachers and what they show in words, from results alone: measured beside published."""

from __future__ import annotations

import numpy as np
import pandas as pd

from vitlib.grid.results import Results
from vitlib.inputs.foreign.architecture import known_vit
from vitlib.inputs.models import Vit
from vitlib.inputs.pictures import DataError
from vitlib.inputs.sources import class_names
from vitlib.papers.dual_ssl_kd.specs import Settings
from vitlib.report.distances import uniform_attention_distance
from vitlib.report.evidence.intervals import Interval
from vitlib.report.evidence.words import answered
from vitlib.report.frames import BY_IMAGE, averaged, melt
from vitlib.report.statistics import (
    against,
    compared,
    difference,
    half_width,
    interval_said,
    is_measured,
    side,
    summary,
)

TEACHERS = {"cl": "CL (DINO)", "mim": "MIM (MAE)"}
PROTOCOLS = {"finetune": "fine-tuning", "linear": "linear evaluation", "partial1": "Partial-1"}
METHODS = {
    "baseline": "Baseline (no teacher)",
    "kd-cl": "KD from CL (DINO)",
    "kd-mim": "KD from MIM (MAE)",
    "two-frozen": "KD from both, frozen",
    "ours": "Ours (joint)",
}
PUBLISHED = {"baseline": 72.2, "kd-cl": 73.1, "kd-mim": 73.1, "ours": 74.4}  # Table 2, by our names; a test holds it against the file
KD = "KD from one teacher (mean of both)"
NOTHING = "Not measured yet."


def table_1(results: Results) -> pd.DataFrame:
    """Table 1: parameters trained and top-1 accuracy (%) of each teacher by how it is adapted; mean over seeds and half of its 95 %
    interval (±). Partial-1 trains the last block, the final norm and the classifier. Published: ViT-B/16 on ImageNet-1k. Rank 1 is the
    highest; on ImageNet-1k the difference of measured and published stands instead of ranks.
    """
    frame = results.frame("adapted").reindex(columns=["protocol", "teacher", "seed", "top1", "trainable"])
    measured = summary(frame, ["protocol", "teacher"], "top1")
    measured["trainable"] = summary(frame, ["protocol", "teacher"], "trainable")["measured"]
    rows = results.published("table1")
    accuracy, counted = (rows[rows["metric"] == name] for name in ("top1", "trainable_params"))
    known = accuracy.set_index(["method", accuracy["setting"].str.removeprefix("teacher=")])["value"].astype(float)
    millions = counted.set_index("method")["value"].astype(float)
    names = [(PROTOCOLS[row.protocol], TEACHERS[row.teacher]) for row in measured.itertuples()]
    table = pd.DataFrame(
        {
            "method": [protocol for protocol, _ in names],
            "teacher": [teacher for _, teacher in names],
            "trainable parameters": measured["trainable"],
            "published, M": [millions[protocol] for protocol, _ in names],
            **{name: measured[name] for name in ("measured", "±", "n")},
            "published": [known[name] for name in names],
        }
    )
    return compared(table, shared=results.study.shares_data)


def table_2(results: Results) -> pd.DataFrame:
    """Table 2: top-1 accuracy (%) of the student, trained from scratch, by method; mean over seeds and half of its 95 % interval (±).
    Teachers of KD are fine-tuned first and frozen, those of ours are trained with the student. KD from both is added. Rank 1 is the highest
    of the rows with both values; on ImageNet-1k their difference stands instead of ranks.
    """
    measured = summary(results.frame("students"), ["method"], "top1")
    table = measured.assign(method=measured["method"].map(METHODS), published=measured["method"].map(PUBLISHED))
    return compared(table, shared=results.study.shares_data)


def table_ablation(results: Results) -> pd.DataFrame:
    """Top-1 accuracy (%) of the student by ours with one setting changed, and the change from ours in points, paired by seed; means over
    seeds and half of their 95 % intervals (±). lambda_1 is CL's share in the output term, lambda_2 in the attention term.
    """
    ours = results.frame("students").query("method == 'ours'").reindex(columns=["seed", "top1"])
    rows = results.frame("ablation").reindex(columns=["variant", "seed", "top1"])
    measured = summary(pd.concat([ours.assign(variant="ours"), rows]), ["variant"], "top1")
    paired = rows.merge(ours, on="seed", suffixes=("", " ours"))
    change = (paired["top1"] - paired["top1 ours"]).groupby(paired["variant"], sort=False)
    return measured.assign(
        **{"change": measured["variant"].map(change.mean()), "± of the change": measured["variant"].map(change.agg(half_width))}
    )


def table_downstream(results: Results) -> pd.DataFrame:
    """Figure 3 as a table: top-1 accuracy (%) of the student on the downstream sets; mean over seeds and half of its 95 % interval (±). The
    document prints no values: it says that ours is above KD but on DTD and VOC2007.
    """
    measured = summary(results.frame("downstream"), ["dataset", "method"], "top1")
    stands = measured["dataset"].map(results.study.settings.stands_for)
    return measured.assign(method=measured["method"].map(METHODS), **{"document's set": stands})


def table_distance(results: Results) -> pd.DataFrame:
    """Attention distance in pixels before any tuning, mean over heads and the last third of the blocks; ± is half of the 95 % interval over
    test images of the size in the table, one training of each network, so that it says nothing about other trainings.
    """
    size = results.study.settings.distance_data.image_size
    rows = [
        {
            "model": TEACHERS.get(point["model"], point["model"]),
            "distance, px": values.mean(),
            "±": half_width(pd.Series(values)),
            "images": len(values),
            "image size, px": size,
        }
        for point, values in deep_distances(results)
    ]
    return pd.DataFrame(rows, columns=["model", "distance, px", "±", "images", "image size, px"])


def table_cost(results: Results) -> pd.DataFrame:
    """Parameters that each way to adapt a teacher trains, counted in a run and by formula: with width D, MLP ratio m and C classes,
    (4 + 2m) D² + (9 + m) D in a block, 2D in the final norm, C (D + 1) in the classifier. First seed; a dash where width or classes are
    not known.
    """
    settings = results.study.settings
    frame = results.frame("adapted").reindex(columns=["protocol", "teacher", "seed", "trainable"])
    rows, classes = frame[frame["seed"] == settings.seeds[0]], _classes(results)
    return pd.DataFrame(
        {
            "method": rows["protocol"].map(PROTOCOLS),
            "teacher": rows["teacher"].map(TEACHERS),
            "trained": rows["trainable"],
            "trained, by formula": [_trained_by_formula(settings, row.protocol, row.teacher, classes) for row in rows.itertuples()],
        }
    ).reset_index(drop=True)


def finding_answer(results: Results) -> str:
    """The document's main claims as they stand here, and the count of all verdicts."""
    return answered(results.board(), results.study.profile)


def finding_distance(results: Results) -> str:
    """Figure 1 in words: who attends how far in the deep blocks, beside uniform attention and the network untrained."""
    found, frame = {point["model"]: values for point, values in deep_distances(results)}, frame_deep(results)
    if not {"cl", "mim"} <= found.keys():
        return NOTHING
    names = TEACHERS | {"untrained": "the untrained network"}
    means = [f"{names.get(name, name)} {values.mean():.1f} px" for name, values in found.items()]
    said = {"sides": ("attends farther than", "attends nearer than"), "unit": "px", "over": "images", "decimals": 2}
    others = [name for name in ("mim", "untrained") if name in found]
    apart = {other: difference(frame, "distance", {"model": "cl"}, {"model": other}, ["seed"]) for other in others}
    pairs = [against(names["cl"], names[other], interval, **said) for other, interval in apart.items()]
    size, uniform = results.study.settings.distance_data.image_size, uniform_distance(results)
    return (
        f"In the last third of the blocks: {', '.join(means)}; attention spread evenly over the image would have {uniform:.1f} px. "
        f"{'; '.join(pairs)}. Test images of {size} px, one training of each network: the intervals are over images alone."
    )


def finding_adapted(results: Results) -> str:
    """Table 1 in words: for each teacher linear evaluation beside fine-tuning, and Partial-1 beside linear evaluation."""
    frame = results.frame("adapted").reindex(columns=["protocol", "teacher", "seed", "top1", f"top1{BY_IMAGE}"])
    if frame["top1"].isna().all():
        return NOTHING
    said = []
    for teacher, name in TEACHERS.items():
        rows = frame[frame["teacher"] == teacher]
        linear = against("linear evaluation", "fine-tuning", _differences(rows, "protocol", "linear", "finetune"))
        partial = against("Partial-1", "linear evaluation", _differences(rows, "protocol", "partial1", "linear"))
        said.append(f"{name}: {linear}; {partial}.")
    return " ".join(said)


def finding_students(results: Results) -> str:
    """Table 2 in words: ours against distillation from one teacher, from both frozen ones, and against none."""
    frame = frame_best_kd(results)
    if frame["top1"].isna().all():
        return NOTHING
    others = {"kd": KD, "two-frozen": "KD from both, frozen", "baseline": "the baseline"}
    return (
        f"The student: {'; '.join(against('ours', name, _differences(frame, 'method', 'ours', other)) for other, name in others.items())}."
    )


def finding_teachers(results: Results) -> str:
    """The teachers behind Table 2: KD's, which are fine-tuned, beside their linear evaluation and beside those that ours trains."""
    frame = frame_teachers(results)
    by_teacher = {name: frame[frame["teacher"] == teacher] for teacher, name in TEACHERS.items()}
    ahead = {name: _differences(rows, "source", "joint", "finetune") for name, rows in by_teacher.items()}
    if not all(map(is_measured, ahead.values())):
        return NOTHING
    said = []
    for name, rows in by_teacher.items():
        means = rows.groupby("source")["top1"].mean()
        linear = against("the fine-tuned one", "its linear evaluation", _differences(rows, "source", "finetune", "linear"))
        reached = f"fine-tuned for KD {means['finetune']:.1f} %, trained with the student in ours {means['joint']:.1f} %"
        said.append(f"{name}: {reached} ({interval_said(ahead[name])}); {linear}.")
    return f"{' '.join(said)} {_whose_gap(ahead)}"


def finding_downstream(results: Results) -> str:
    """Figure 3 in words: ours against the mean of both single-teacher distillations, set by set."""
    frame = results.frame("downstream").reindex(columns=["method", "dataset", "seed", "top1", f"top1{BY_IMAGE}"])
    if frame["top1"].isna().all():
        return NOTHING
    stands = results.study.settings.stands_for
    pairs = {dataset: _differences(_with_single_kd(rows), "method", "ours", "kd") for dataset, rows in frame.groupby("dataset", sort=False)}
    return " ".join(f"{dataset} (for {stands[dataset]}): {against('ours', KD, differences)}." for dataset, differences in pairs.items())


def frame_best_kd(results: Results) -> pd.DataFrame:
    """Students by seed, with the mean of both single-teacher distillations as a method of its own: the frame of the claim about KD."""
    return _with_single_kd(results.frame("students"))


def frame_teachers(results: Results) -> pd.DataFrame:
    """Accuracy of each teacher by seed and source: fine-tuned as KD has it, by linear evaluation, trained jointly as ours has it."""
    tuned = results.frame("adapted").rename(columns={"protocol": "source"})
    tuned = tuned.reindex(columns=["source", "teacher", "seed", "top1", f"top1{BY_IMAGE}"])
    ours = results.frame("students").query("method == 'ours'")
    joint = melt(ours, ["seed"], "teacher", {teacher: f"top1 {teacher}" for teacher in TEACHERS}, "top1")
    return pd.concat([tuned, joint.assign(source="joint")], ignore_index=True)


def frame_deep(results: Results) -> pd.DataFrame:
    """Attention distance in the last third of the blocks, of one training each: its mean and its values by image."""
    found = [(point["model"], values) for point, values in deep_distances(results)]
    rows = [{"model": model, "seed": "the one training", "distance": values.mean(), "distance by image": values} for model, values in found]
    return pd.DataFrame(rows, columns=["model", "seed", "distance", "distance by image"])


def deep_distances(results: Results) -> list[tuple[dict, np.ndarray]]:
    """Grid point, and for each image the mean over heads and the last third of the blocks."""
    found = [(point, run.arrays["distance"]) for point, run in results.runs("distances")]
    return [(point, values[:, -max(1, values.shape[1] // 3) :].mean(axis=(1, 2)).astype(float)) for point, values in found]


def uniform_distance(results: Results) -> float:
    """Attention distance of uniform attention over the images of Figure 1, NaN for a teacher whose patches are not known here."""
    settings = results.study.settings
    size = settings.distance_data.image_size
    vit = known_vit(settings.cl.model, size, settings.cl.channels)
    return np.nan if vit is None else uniform_attention_distance(size, vit.patch_size)


def _with_single_kd(frame: pd.DataFrame) -> pd.DataFrame:
    """The mean of both single-teacher distillations as a method of its own; NaN for a seed that lacks one of them."""
    single = averaged(frame[frame["method"].isin(["kd-cl", "kd-mim"])], ["seed"], "top1")
    return pd.concat([frame, single.assign(method="kd")], ignore_index=True)


def _trained(vit: Vit, protocol: str, *, image_size: int, channels: int, classes: int) -> int:
    """Parameters that a protocol trains, by formula."""
    width, ratio = vit.embed_dim, vit.mlp_ratio
    block, head = round((4 + 2 * ratio) * width**2 + (9 + ratio) * width), classes * (width + 1)
    tokens = (image_size // vit.patch_size) ** 2 + 1
    embedding = width * (channels * vit.patch_size**2 + 1) + width + width * tokens
    end = block + 2 * width + head
    return {"linear": head, "partial1": end, "finetune": embedding + (vit.depth - 1) * block + end}[protocol]


def _trained_by_formula(settings: Settings, protocol: str, teacher: str, classes: int | None) -> float:
    sizes = {"image_size": settings.data.image_size, "channels": settings.teachers[teacher].channels}
    vit = known_vit(settings.teachers[teacher].model, **sizes)
    return np.nan if classes is None or vit is None else _trained(vit, protocol, classes=classes, **sizes)


def _classes(results: Results) -> int | None:
    """Number of classes, None where the images are not on this machine."""
    try:
        return len(class_names(results.study.settings.data, results.study.place.data_dir))
    except DataError:
        return None


def _differences(frame: pd.DataFrame, key: str, one: str, other: str) -> Interval:
    return difference(frame, "top1", {key: one}, {key: other}, ["seed"])


def _whose_gap(ahead: dict[str, Interval]) -> str:
    """What the teachers' accuracies say about the gap between ours and KD; `ahead` is how much better each one is in ours."""
    stronger = [name for name, differences in ahead.items() if differences.mean > 0]
    if not stronger:
        return "No teacher is stronger in ours than in KD, so that a gap in favour of ours is not the teachers'."
    clear = any(side(differences) > 0 for differences in ahead.values())
    verb = "partly measures" if clear else "may partly measure"
    return f"More accurate in ours on average: {' and '.join(stronger)}. The gap between ours and KD {verb} the teachers."
