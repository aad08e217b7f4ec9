"""WeCoLoRA's tables, from results alone: measured beside published."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from vitlib.report.statistics import beside, summary

if TYPE_CHECKING:
    from vitlib.runs.study import Results

STARTS = {
    "zero_b": "B = 0 (WeCoLoRA)",
    "random": "both factors random",
    "svd": "SVD of the dropped blocks",
    "svd_shift": "SVD, W shifted back",
}
COLUMNS = ["student", "schedule", "dataset", "measured", "±", "n", "published", "difference"]
PUBLISHED = {  # row of the document's Table 1; the start of its proposed row is uncertain, the prose implies SVD
    ("WeCoLoRA", "ImageNet-1k"): ("zero_b", "plain", 0),
    ("WeCoLoRA", "CIFAR-100"): ("zero_b", "plain", 1),
    ("proposed", "ImageNet-1k"): ("svd", "staged", 0),
    ("proposed", "CIFAR-100"): ("svd", "staged", 1),
}


def table_1(results: Results) -> pd.DataFrame:
    """Table 1: accuracy by start and schedule, below teacher and weight copy. The published columns are ImageNet-1k and CIFAR-100."""
    reduction = results.study.settings.reductions[0]
    rows = [_references(results, reduction), _grid(results, reduction)]
    return pd.concat(rows, ignore_index=True)[COLUMNS].assign(dataset=lambda frame: frame["dataset"].map(_stands_for(results)))


def table_reductions(results: Results) -> pd.DataFrame:
    """Table 1 at the other reductions, measured only."""
    tables = [pd.concat([_references(results, r), _grid(results, r)]).assign(r=r) for r in results.study.settings.reductions[1:]]
    columns = ["r", "student", "schedule", "dataset", "measured", "±", "n"]
    return pd.concat(tables, ignore_index=True)[columns] if tables else pd.DataFrame(columns=columns)


def table_ranks(results: Results) -> pd.DataFrame:
    """Accuracy by rank of the adapters, staged distillation."""
    table = summary(results.frame("ranks"), ["lora_init", "rank", "dataset"], "top1")
    return table.assign(lora_init=table["lora_init"].map(STARTS)).rename(columns={"lora_init": "start"})


def table_distances(results: Results) -> pd.DataFrame:
    """Equation 1 before and after distillation: mean |T - S| after the last pair of blocks, on test images."""
    frame = results.frame("distilled").reindex(columns=["lora_init", "schedule", "seed", "step-0 last", "last", "block calls"])
    keys = ["lora_init", "schedule"]
    before, after = (summary(frame, keys, column) for column in ("step-0 last", "last"))
    calls = summary(frame, keys, "block calls")["measured"]
    table = before[keys].assign(
        **{"step 0": before["measured"], "distilled": after["measured"], "±": after["±"], "n": after["n"], "block calls": calls}
    )
    return table.assign(lora_init=table["lora_init"].map(STARTS)).rename(columns={"lora_init": "start"})


def table_costs(results: Results) -> pd.DataFrame:
    """The merged student beside its teacher; images/s are this machine's."""
    columns = ["parameters", "macs", "images/s"]
    frame = results.frame("costs").reindex(columns=["reduction", *[f"{who} {what}" for who in ("teacher", "student") for what in columns]])
    rows = [{"model": "teacher", **{what: frame.iloc[0][f"teacher {what}"] for what in columns}}]
    rows += [
        {"model": f"student, r = {row['reduction']:.0f}", **{what: row[f"student {what}"] for what in columns}}
        for _, row in frame.iterrows()
    ]
    return pd.DataFrame(rows)


def table_times(results: Results) -> pd.DataFrame:
    """Training time of the same number of epochs: medians of alternating trainings; published 20:33 and 17:17 minutes."""
    columns = ["seconds plain", "seconds staged", "seconds plain, cached", "seconds staged, cached"]
    row = results.frame("times").reindex(columns=[*columns, "n"]).iloc[0]
    published = {"seconds plain": 1233.0, "seconds staged": 1037.0}
    return pd.DataFrame(
        {
            "training": [name.removeprefix("seconds ") for name in columns],
            "seconds": row[columns].to_numpy(float),
            "saving, %": 100 * (1 - row[columns].to_numpy(float) / row["seconds plain"]),
            "n": row["n"],
            "published, s": [published.get(name) for name in columns],
            "published saving, %": [0.0, 100 * (1 - 1037 / 1233), None, None],
        }
    )


def frame_relative_times(results: Results) -> pd.DataFrame:
    """Time of each training in percent of plain distillation in the same round: the frame of the claim about time."""
    rows = [
        {"training": name.removeprefix("seconds "), "seed": turn, "time": 100 * value / run.arrays["seconds plain"][turn]}
        for _, run in results.runs("times")
        for name, values in run.arrays.items()
        for turn, value in enumerate(values)
    ]
    return pd.DataFrame(rows, columns=["training", "seed", "time"])


def _grid(results: Results, reduction: int) -> pd.DataFrame:
    frame = results.frame("accuracy")
    frame = frame[frame["reduction"] == reduction]
    measured = summary(frame, ["lora_init", "schedule", "dataset"], "top1")
    table = beside(measured, _published(results), ["lora_init", "schedule", "dataset"])
    return table.assign(student=table["lora_init"].map(STARTS))[
        ["student", "schedule", "dataset", "measured", "±", "n", "published", "difference"]
    ]


def _references(results: Results, reduction: int) -> pd.DataFrame:
    """The teacher, whatever the reduction, and weight copy at this one."""
    frame = results.frame("reference")
    frame = frame[(frame["row"] == "teacher") | (frame["reduction"] == reduction)]
    measured = summary(frame, ["row", "dataset"], "top1")
    return measured.assign(student=measured["row"], schedule="none", published=float("nan"), difference=float("nan")).drop(columns="row")


def _published(results: Results) -> pd.DataFrame:
    """The four accuracies of the document, by the position of the data set among the profile's."""
    known = results.published("table1").query("metric == 'top1'").set_index(["method", "dataset"])["value"].astype(float)
    sets = results.study.settings.sets
    rows = [(*key, sets[place], known[row]) for row, (*key, place) in PUBLISHED.items() if place < len(sets)]
    return pd.DataFrame(rows, columns=["lora_init", "schedule", "dataset", "published"])


def _stands_for(results: Results) -> dict[str, str]:
    sets = results.study.settings.sets
    theirs = dict(zip(sets, ("ImageNet-1k", "CIFAR-100"), strict=False))
    return {name: f"{name} (for {theirs[name]})" if results.study.profile != "paper" else name for name in sets}
