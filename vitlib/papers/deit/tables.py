"""DeiT's tables, from results alone: measured beside published, in the order of the publication."""

from __future__ import annotations

import numpy as np
import pandas as pd

from vitlib.grid.results import Results
from vitlib.report.frames import BY_IMAGE, averaged, melt, subtracted
from vitlib.report.statistics import beside, compared, disagreement, summary
from vitlib.report.tables import published_only
from vitlib.runs.reading.stored import Stored

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
    """Table 2: top-1 (percent) of each teacher and of the largest distilled student that it taught, with the native and with larger
    images; ± is half of the 95 % interval of the mean over n trainings. A teacher with n = 1 was trained once, for the students of all
    seeds. Convnets stand beside the publication's by size, the largest with the largest; those without a counterpart stand apart. Rank 1
    is the highest of a column's rows with both values; on the publication's own data their difference stands instead of ranks.
    """
    measured = measured_teachers(results)
    published = results.published("paper_table2").rename(columns={"value": "published", "method": "their teacher"})
    published["column"] = published["setting"].map(
        {"teacher itself": "teacher", "student DeiT-B distilled, 224": "native", "student DeiT-B distilled, fine-tuned 384": "up"}
    )
    theirs = published["their teacher"].unique()
    measured["their teacher"] = measured["teacher"].map(_by_size(measured["teacher"].unique(), theirs))
    alone = published[~published["their teacher"].isin(measured["their teacher"])].assign(n=0)
    table = pd.concat([beside(measured, published, ["their teacher", "column"]), alone], ignore_index=True)
    table = table.sort_values("their teacher", key=lambda names: names.map(list(theirs).index, na_action="ignore"), kind="stable")
    shown = {"teacher": "teacher itself", "native": "student", "up": "student, larger images"}
    table = table.assign(column=table["column"].map(shown))
    columns = ["teacher", "column", "measured", "±", "n", "their teacher", "published"]
    return published_only(compared(table[columns], within=["column"], shared=results.study.shares_data), table["teacher"].isna())


def table_strategies(results: Results) -> pd.DataFrame:
    """Table 3: top-1 (percent) by distillation strategy and readout, mean over seeds; ± is half of the 95 % interval of the mean. The four
    readouts of the distillation token are those of the same trained models; ↑ is fine-tuned at the larger images. The mean of the logits
    is the fusion of the reference code, which the publication does not print. Rank 1 is the highest of a model's rows with both values; on
    the publication's own data their difference stands instead of ranks.
    """
    measured = summary(frame_readouts_of_all(results), ["method", "readout", "size", "resolution"], "top1")
    table = beside(measured, _published_strategies(results), ["method", "readout", "size", "resolution"])
    order = {method: position for position, method in enumerate(METHODS)}
    table = table.sort_values(by="method", key=lambda column: column.map(order), kind="stable")
    shown = pd.DataFrame(
        {
            "method": table["method"].map(METHODS),
            "readout": table["readout"].map(READOUTS | {"logit mean": "mean of the logits (code)"}),
            "model": table["size"].map(SHORT) + table["resolution"].map({"native": "", "up": "↑"}),
            **{name: table[name] for name in ("measured", "±", "n", "published")},
        }
    )
    return compared(shown, within=["model"], shared=results.study.shares_data)


def table_models(results: Results) -> pd.DataFrame:
    """Table 5: parameters, images/s on this machine, and top-1 (percent) on the test set (mean over seeds, ± half of its 95 % interval),
    with the labels of ImageNet-Real, and on a second test set (means over seeds); then the publication's model and its numbers. Without
    ImageNet there is no Real, and a photometrically shifted test set stands for V2. Models without a counterpart here stand apart.
    """
    rows = [_model_row(results, key, group) for key, group in _model_groups(results)]
    measured = pd.DataFrame([*rows, _teacher_row(results)])
    published = _published_models(results)
    alone = published[~published["their model"].isin(measured["their model"])].assign(n=0)
    table = pd.concat([measured.merge(published, on="their model", how="left", validate="many_to_one"), alone], ignore_index=True)
    return published_only(table, table["model"].isna())


def table_disagreement(results: Results) -> pd.DataFrame:
    """Table 4: share of the test images (percent) on which two classifiers disagree: the labels, the convnet teacher, the
    plain and the distilled student of the largest size, the latter by its three readouts. Measured is the mean over seeds.
    """
    published = results.published("paper_table4").assign(other=lambda frame: frame["setting"].str.removeprefix("vs "))
    theirs = published.pivot(index="method", columns="other", values="value").loc[CLASSIFIERS, CLASSIFIERS]
    blocks = {"measured": disagreement_matrices(results), "published": theirs}
    stacked = pd.concat({source: 100 * matrix for source, matrix in blocks.items()}, names=["source", "classifier"])
    return stacked.rename_axis(columns=None).reset_index()


def table_cosine(results: Results) -> pd.DataFrame:
    """Section 4: cosine of the two prefix tokens at the input and after the last block, mean over the test images and then over seeds; ± is
    half of the 95 % interval over seeds. The control has two class tokens, which both learn the label; the largest student. Rank 1 is the
    highest of the rows with both values; on the publication's own data their difference stands instead of ranks.
    """
    measured = summary(frame_cosines(results), ["method", "place"], "cosine")
    published = pd.DataFrame(  # DeiT, section 4
        [("token", "input", 0.06), ("token", "last", 0.93), ("two-class", "last", 0.999)], columns=["method", "place", "published"]
    )
    table = beside(measured, published, ["method", "place"])
    names = {"token": "class and distillation token", "two-class": "two class tokens"}
    table = table.assign(method=table["method"].map(names)).rename(columns={"method": "tokens"})
    return compared(table, shared=results.study.shares_data)


def table_cost(results: Results) -> pd.DataFrame:
    """Parameters and multiply-accumulates (MACs) of one image through each distilled student, by count and by formula. Nothing is trained
    for it.
    """
    frame = results.frame("architecture")
    columns = ["tokens", "width", "blocks", "heads", "parameters", "parameters_formula", "macs", "macs_formula"]
    return frame.reindex(columns=["size", *columns]).rename(columns=lambda name: name.replace("_", ", by "))


def table_released(results: Results) -> pd.DataFrame:
    """Check values: top-1 (percent) of the released checkpoints on ImageNet, with the labels of ImageNet-Real and on ImageNet-V2, beside
    the top-1 that the reference code states. Nothing is trained; profile `paper` only, empty elsewhere.
    """
    frame = results.frame("released").reindex(columns=["released", "top1", "real_top1", "second_top1"])
    readme = results.published("repo_readme").query("metric == 'top1'")
    published = readme.rename(columns={"value": "published"})[["method", "published"]]
    table = frame.assign(method=frame["released"].astype(str).str.split(".").str[0]).merge(published, on="method", how="left")
    return compared(table.drop(columns="method"), measured="top1", shared=results.study.shares_data)


def measured_teachers(results: Results) -> pd.DataFrame:
    """Mean, interval and n of each teacher (column teacher) and of the student it taught (native, up); a shared teacher counts once."""
    frame = results.frame("teachers").drop_duplicates(["teacher", "column", "run"])
    return summary(frame, ["teacher", "column"], "top1")


def frame_readouts_of_all(results: Results) -> pd.DataFrame:
    """One row a trained model and readout; a plain model has one readout."""
    frame, keys = results.frame("strategies"), ["method", "size", "resolution", "seed"]
    melted = melt(frame, keys, "readout", {name: f"top1 {name}" for name in (*READOUTS, "logit mean")}, "top1")
    return melted[(melted["readout"] == "class") | (melted["method"] == "token")].reset_index(drop=True)


def frame_readouts(results: Results) -> pd.DataFrame:
    """Readouts of the models with a distillation token, at the native resolution: the frame of two claims."""
    frame = frame_readouts_of_all(results)
    return frame[(frame["method"] == "token") & (frame["resolution"] == "native")]


def frame_taught(results: Results, column: str = "native") -> pd.DataFrame:
    """Students by the kind of their teacher, at the native resolution or another column of Table 2; convnets are averaged, all or none."""
    frame = results.frame("teachers")
    frame = frame[frame["column"] == column]
    kind = np.where(frame["teacher"].str.startswith("DeiT"), "transformer", "convnet")
    return averaged(frame.assign(kind=kind), ["kind", "seed"], "top1")


def frame_schedules(results: Results) -> pd.DataFrame:
    """Figure 3: one row a training of the largest student; method none or token, its epochs, and whether they are the longer ones."""
    wanted = ["method", "seed", "top1", f"top1{BY_IMAGE}"]
    frame, settings = results.frame("schedules").reindex(columns=wanted), results.study.settings
    longer = frame["method"].str.endswith("-long")
    epochs = np.where(longer, settings.long_epochs, settings.recipe.epochs)
    return frame.assign(method=frame["method"].str.removesuffix("-long"), longer=longer, epochs=epochs)


def frame_gains(results: Results) -> pd.DataFrame:
    """What the longer training adds to top-1, by method and seed: the frame of a claim."""
    frame = frame_schedules(results)
    return subtracted(frame[frame["longer"]], frame[~frame["longer"]], ["method", "seed"], "top1", "gain")


def frame_cosines(results: Results) -> pd.DataFrame:
    """One row a student and place: the cosine of its two prefix tokens there."""
    places = {place: f"cosine_at_{place}" for place in ("input", "last")}
    return melt(results.frame("tokens"), ["method", "seed"], "place", places, "cosine")


def disagreement_matrices(results: Results) -> pd.DataFrame:
    """Mean over seeds of the disagreement between labels, convnet, plain and distilled student; a square frame of shares."""
    blank = pd.DataFrame(np.nan, index=CLASSIFIERS, columns=CLASSIFIERS)
    matrices = disagreement_by_seed(results)
    return sum(matrices.values()) / len(matrices) if matrices else blank


def disagreement_by_seed(results: Results) -> dict[int, pd.DataFrame]:
    """The square frame of each seed whose plain and distilled student are both stored."""
    largest = results.study.settings.sizes[-1]
    runs = {(point["method"], point["seed"]): run for point, run in results.runs("strategies") if _is_native(point, largest)}
    teachers = {point["seed"]: run for point, run in results.runs("best_teacher")}
    seeds = sorted(seed for method, seed in runs if method == "token" and ("none", seed) in runs and seed in teachers)
    return {seed: _disagreement(teachers[seed], runs["none", seed], runs["token", seed]) for seed in seeds}


def _disagreement(teacher: Stored, plain: Stored, distilled: Stored) -> pd.DataFrame:
    by_token = [distilled.arrays[f"predictions {name}"] for name in READOUTS]
    values = [plain.arrays["labels"], teacher.arrays["predictions class"], plain.arrays["predictions class"], *by_token]
    return pd.DataFrame(disagreement(dict(zip(CLASSIFIERS, values, strict=True))), index=CLASSIFIERS, columns=CLASSIFIERS)


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


def _by_size(ours: np.ndarray, theirs: np.ndarray) -> dict[str, str]:
    """The transformer with the transformer; convnets from the largest down, so that the last is the last."""
    return {ours[0]: theirs[0], **dict(zip(ours[:0:-1], theirs[:0:-1], strict=False))}


def _model_groups(results: Results):
    return results.frame("models").groupby(["method", "size", "resolution"], sort=False)


def _model_row(results: Results, key: tuple[str, str, str], group: pd.DataFrame) -> dict:
    method, size, resolution = key
    speeds = results.frame("throughput").set_index(["method", "size", "resolution"]).reindex(columns=["images_per_second", "parameters"])
    speed = speeds.loc[("none" if method == "none" else "token", size, resolution)]
    row = {"model": model_name(method, size, resolution), "params M": speed["parameters"] / 1e6, "images/s": speed["images_per_second"]}
    return row | _accuracies(group) | {"their model": published_name(method, size, resolution)}


def _teacher_row(results: Results) -> dict:
    speed = results.frame("teacher_throughput").reindex(columns=["images_per_second", "parameters"]).iloc[0]
    row = {
        "model": f"{results.study.settings.teacher} (teacher)",
        "params M": speed["parameters"] / 1e6,
        "images/s": speed["images_per_second"],
    }
    return row | _accuracies(results.frame("best_teacher").drop_duplicates("run")) | {"their model": "RegNetY-16GF"}


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


def _published_models(results: Results) -> pd.DataFrame:
    """One row a model of the paper's Table 5, in its order."""
    columns = {
        ("", "params"): "params M (theirs)",
        ("", "throughput"): "images/s (V100)",
        ("ImageNet-1k", "top1"): "ImageNet",
        ("ImageNet-Real", "top1"): "ImageNet-Real",
        ("ImageNet-V2 matched", "top1"): "ImageNet-V2",
    }
    published = results.published("paper_table5")
    keys = zip(published["dataset"].fillna(""), published["metric"], strict=True)
    table = published.assign(column=[columns[key] for key in keys]).pivot(index="method", columns="column", values="value")
    table = table.reindex(index=published["method"].unique(), columns=columns.values())
    return table.rename_axis(index="their model", columns=None).reset_index()


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
