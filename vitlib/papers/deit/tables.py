"""DeiT's tables, from results alone: measured beside published, in the order of the publication."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from vitlib.report.statistics import beside, disagreement, summary

if TYPE_CHECKING:
    from vitlib.runs.store import Stored
    from vitlib.runs.study import Results

SHORT = {"tiny": "Ti", "small": "S", "base": "B"}
METHODS = {
    "none": "no distillation",
    "soft": "usual (soft) distillation",
    "hard": "hard distillation",
    "token": "distillation token",
    "token-long": "distillation token, longer",
}
READOUTS = {"class": "class embedding", "distillation": "distil. embedding", "class+distillation": "class + distillation"}
CLASSIFIERS = ["groundtruth", "convnet", "DeiT", *READOUTS]  # Table 4
PUBLISHED_METHODS = {  # rows of the paper's Table 3
    "no distillation": ("none", "class"),
    "usual distillation": ("soft", "class"),
    "hard distillation": ("hard", "class"),
    "distillation token: class embedding": ("token", "class"),
    "distillation token: distil. embedding": ("token", "distillation"),
    "distillation token: class+distillation": ("token", "class+distillation"),
}


def table_teachers(results: Results) -> pd.DataFrame:
    """Table 2: what the largest distilled student reaches with each teacher. Teachers are paired by rank, not by name."""
    frame = results.frame("teachers").drop_duplicates(["teacher", "column", "run"])  # a teacher is shared by all seeds
    measured = summary(frame, ["teacher", "column"], "top1")
    published = results.published("paper_table2").rename(columns={"value": "published", "method": "their teacher"})
    published["column"] = published["setting"].map(
        {"teacher itself": "teacher", "student DeiT-B distilled, 224": "native", "student DeiT-B distilled, fine-tuned 384": "up"}
    )
    theirs = _by_rank(measured["teacher"].unique(), published["their teacher"].unique())
    measured["their teacher"] = measured["teacher"].map(theirs)
    table = beside(measured, published, ["their teacher", "column"])
    shown = {"teacher": "teacher itself", "native": "student", "up": "student, larger images"}
    return table.assign(column=table["column"].map(shown))[
        ["teacher", "column", "measured", "±", "n", "their teacher", "published", "difference"]
    ]


def table_strategies(results: Results) -> pd.DataFrame:
    """Table 3: distillation strategies and readouts; the last row of each block is the fusion of the reference code."""
    measured = summary(frame_readouts_of_all(results), ["method", "readout", "size", "resolution"], "top1")
    table = beside(measured, _published_strategies(results), ["method", "readout", "size", "resolution"])
    order = {method: position for position, method in enumerate(METHODS)}
    table = table.sort_values(by="method", key=lambda column: column.map(order), kind="stable")
    return pd.DataFrame(
        {
            "method": table["method"].map(METHODS),
            "readout": table["readout"].map(READOUTS | {"logit mean": "mean of the logits (code)"}),
            "model": table["size"].map(SHORT) + table["resolution"].map({"native": "", "up": "↑"}),
            **{name: table[name] for name in ("measured", "±", "n", "published", "difference")},
        }
    )


def table_models(results: Results) -> pd.DataFrame:
    """Table 5: parameters, throughput and accuracy on the test set, with reassessed labels, and on a second test set.

    Without ImageNet there are no reassessed labels (a dash), and a photometrically shifted test set stands for V2.
    Throughput is this machine's: only its order may be compared with the publication's.
    """
    rows = [_model_row(results, key, group) for key, group in _model_groups(results)]
    return pd.DataFrame([*rows, _teacher_row(results)])


def table_disagreement(results: Results) -> pd.DataFrame:
    """Table 4: share of test images (percent) on which two classifiers disagree, mean over seeds; then the published share."""
    published = results.published("paper_table4").assign(other=lambda frame: frame["setting"].str.removeprefix("vs "))
    theirs = published.pivot(index="method", columns="other", values="value").loc[CLASSIFIERS, CLASSIFIERS]
    blocks = {"measured": disagreement_matrices(results), "published": theirs}
    stacked = pd.concat({source: 100 * matrix for source, matrix in blocks.items()}, names=["source", "classifier"])
    return stacked.rename_axis(columns=None).reset_index()


def table_cosine(results: Results) -> pd.DataFrame:
    """Cosine of the two prefix tokens at the input and after the last block."""
    measured = summary(frame_cosines(results), ["method", "place"], "cosine")
    published = pd.DataFrame(  # DeiT, section 4
        [("token", "input", 0.06), ("token", "last", 0.93), ("two-class", "last", 0.999)], columns=["method", "place", "published"]
    )
    table = beside(measured, published, ["method", "place"])
    names = {"token": "class and distillation token", "two-class": "two class tokens"}
    return table.assign(method=table["method"].map(names)).rename(columns={"method": "tokens"})


def table_cost(results: Results) -> pd.DataFrame:
    """Parameters and MACs of the distilled students, by formula and by count."""
    frame = results.frame("architecture")
    columns = ["tokens", "width", "blocks", "heads", "parameters", "parameters_formula", "macs", "macs_formula"]
    return frame.reindex(columns=["size", *columns]).rename(columns=lambda name: name.replace("_", ", by "))


def table_released(results: Results) -> pd.DataFrame:
    """Check values: top-1 of the released checkpoints beside the reference code's; empty where a profile has none."""
    frame = results.frame("released").reindex(columns=["released", "top1", "real_top1", "second_top1"])
    readme = results.published("repo_readme").query("metric == 'top1'")
    published = readme.rename(columns={"value": "published"})[["method", "published"]]
    table = frame.assign(method=frame["released"].astype(str).str.split(".").str[0]).merge(published, on="method", how="left")
    return table.drop(columns="method").assign(difference=table["top1"] - table["published"])


def frame_readouts_of_all(results: Results) -> pd.DataFrame:
    """One row a trained model and readout; a plain model has one readout."""
    frame = results.frame("strategies")
    keys = ["method", "size", "resolution", "seed"]
    readouts = [f"top1 {name}" for name in (*READOUTS, "logit mean")]
    melted = frame.reindex(columns=[*keys, *readouts]).melt(keys, var_name="readout", value_name="top1")
    melted["readout"] = melted["readout"].str.removeprefix("top1 ")
    return melted[(melted["readout"] == "class") | (melted["method"] == "token")].reset_index(drop=True)


def frame_readouts(results: Results) -> pd.DataFrame:
    """Readouts of the models with a distillation token, at the native resolution: the frame of two claims."""
    frame = frame_readouts_of_all(results)
    return frame[(frame["method"] == "token") & (frame["resolution"] == "native")]


def frame_taught(results: Results) -> pd.DataFrame:
    """Students at the native resolution by the kind of their teacher; convnets are averaged."""
    frame = results.frame("teachers").reindex(columns=["teacher", "column", "seed", "top1"]).query("column == 'native'")
    kind = np.where(frame["teacher"].str.startswith("DeiT"), "transformer", "convnet")
    return frame.assign(kind=kind).groupby(["kind", "seed"], as_index=False)["top1"].mean()


def frame_cosines(results: Results) -> pd.DataFrame:
    frame = results.frame("tokens").reindex(columns=["method", "seed", "cosine_at_input", "cosine_at_last"])
    melted = frame.melt(["method", "seed"], var_name="place", value_name="cosine")
    return melted.assign(place=melted["place"].str.removeprefix("cosine_at_"))


def disagreement_matrices(results: Results) -> pd.DataFrame:
    """Mean over seeds of the disagreement between labels, convnet, plain and distilled student; a square frame of shares."""
    largest = results.study.settings.sizes[-1]
    runs = {(point["method"], point["seed"]): run for point, run in results.runs("strategies") if _is_native(point, largest)}
    teachers = [run for _, run in results.runs("best_teacher")]
    seeds = sorted({seed for method, seed in runs if method == "token"} & {seed for method, seed in runs if method == "none"})
    blank = np.full((len(CLASSIFIERS), len(CLASSIFIERS)), np.nan)
    matrices = [disagreement(_classifiers(teachers[0], runs["none", seed], runs["token", seed])) for seed in seeds if teachers]
    return pd.DataFrame(np.mean(matrices, axis=0) if matrices else blank, index=CLASSIFIERS, columns=CLASSIFIERS)


def _classifiers(teacher: Stored, plain: Stored, distilled: Stored) -> dict[str, np.ndarray]:
    by_token = [distilled.arrays[f"predictions {name}"] for name in READOUTS]
    values = [plain.arrays["labels"], teacher.arrays["predictions class"], plain.arrays["predictions class"], *by_token]
    return dict(zip(CLASSIFIERS, values, strict=True))


def _is_native(point: dict, size: str) -> bool:
    return point["size"] == size and point["resolution"] == "native"


def _published_strategies(results: Results) -> pd.DataFrame:
    published = results.published("paper_table3")
    model = published["setting"].str.extract(r"model=DeiT-(?P<short>\w+)@(?P<pixels>\d+)")
    method = published["method"].map(PUBLISHED_METHODS)
    return pd.DataFrame(
        {
            "method": method.str[0],
            "readout": method.str[1],
            "size": model["short"].map({short: size for size, short in SHORT.items()}),
            "resolution": model["pixels"].map({"224": "native", "384": "up"}),
            "published": published["value"],
        }
    )


def _by_rank(ours: np.ndarray, theirs: np.ndarray) -> dict[str, str]:
    """The transformer with the transformer; convnets from the largest down, so that the last is the last."""
    return {ours[0]: theirs[0], **dict(zip(ours[:0:-1], theirs[:0:-1], strict=False))}


def _model_groups(results: Results):
    return results.frame("models").groupby(["method", "size", "resolution"], sort=False)


def _model_row(results: Results, key: tuple[str, str, str], group: pd.DataFrame) -> dict:
    method, size, resolution = key
    speeds = results.frame("throughput").set_index(["method", "size", "resolution"]).reindex(columns=["images_per_second", "parameters"])
    speed = speeds.loc[("none" if method == "none" else "token", size, resolution)]
    row = {"model": model_name(method, size, resolution), "params M": speed["parameters"] / 1e6, "images/s": speed["images_per_second"]}
    return row | _accuracies(group) | _published_model(results, published_name(method, size, resolution))


def _teacher_row(results: Results) -> dict:
    speed = results.frame("teacher_throughput").reindex(columns=["images_per_second", "parameters"]).iloc[0]
    row = {
        "model": f"{results.study.settings.teacher} (teacher)",
        "params M": speed["parameters"] / 1e6,
        "images/s": speed["images_per_second"],
    }
    return row | _accuracies(results.frame("best_teacher")) | _published_model(results, "RegNetY-16GF")


def _accuracies(group: pd.DataFrame) -> dict:
    group = group.reindex(columns=["top1", "real_top1", "second_top1"])
    tested = summary(group.assign(all=""), ["all"], "top1").iloc[0]
    return {
        "test": tested["measured"],
        "±": tested["±"],
        "n": int(tested["n"]),
        "Real": group["real_top1"].mean(),
        "V2 / shifted": group["second_top1"].mean(),
    }


def _published_model(results: Results, name: str) -> dict:
    published = results.published("paper_table5")
    mine = published[published["method"] == name].set_index(["dataset", "metric"])["value"]
    wanted = {
        "images/s (V100)": (np.nan, "throughput"),
        "ImageNet": ("ImageNet-1k", "top1"),
        "ImageNet-Real": ("ImageNet-Real", "top1"),
        "ImageNet-V2": ("ImageNet-V2 matched", "top1"),
    }
    return {column: mine.get(key, np.nan) for column, key in wanted.items()}


def model_name(method: str, size: str, resolution: str) -> str:
    suffix = {"none": "", "token": " distilled", "token-long": " distilled, longer"}[method]
    return f"DeiT-{SHORT[size]}{suffix}{'↑' if resolution == 'up' else ''}"


def published_name(method: str, size: str, resolution: str) -> str:
    """Our model's row in the paper's Table 5."""
    name = f"DeiT-{SHORT[size]}"
    if method == "none":
        return f"{name}↑384" if resolution == "up" else name
    arrow = " ↑384" if resolution == "up" else ""
    return f"{name} distilled{arrow}{' / 1000 epochs' if method == 'token-long' else ''}"
