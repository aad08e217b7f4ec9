"""WeCoLoRA's tables, from results alone: measured beside published, and what they show in words."""

from __future__ import annotations

import pandas as pd

from vitlib.grid.results import Results
from vitlib.report.evidence.intervals import Interval
from vitlib.report.frames import subtracted
from vitlib.report.statistics import NOT_YET, beside, compared, difference, is_measured, over_seeds, side, spread_said, summary, worded

STARTS = {
    "zero_b": "B = 0 (WeCoLoRA)",
    "random": "both factors random",
    "svd": "SVD of the dropped blocks",
    "svd_shift": "SVD, W shifted back",
}
TRAININGS = ["plain", "staged", "plain, cached", "staged, cached"]
DOCUMENT_SETS = ("ImageNet-1k", "CIFAR-100")  # what a profile's downstream sets stand for, in their order
PUBLISHED = {"WeCoLoRA": ("zero_b", "plain"), "proposed": ("svd", "staged")}  # the start of the proposed row is implied by the prose alone
EFFECTS = {  # of the ablation: the student, and the one that it is compared with
    "the SVD start alone": (("svd", "plain"), ("zero_b", "plain")),
    "the stages alone": (("zero_b", "staged"), ("zero_b", "plain")),
    "both together": (("svd", "staged"), ("zero_b", "plain")),
    "shifting W back in the staged SVD student": (("svd_shift", "staged"), ("svd", "staged")),
}
DOES = {  # by the side of zero that an interval is on, for one and for several
    1: ("raises accuracy", "raise accuracy"),
    -1: ("lowers accuracy", "lower accuracy"),
    0: ("is not told apart from no effect", "are not told apart from no effect"),
}
BEFORE, AFTER = "L1 of the last pair, before distillation", "L1 of the last pair, after distillation"
ROOM = "The best distilled student has the higher mean, so a gain from start or stages (claim A) can show here."
NO_ROOM = "No distilled student has a higher mean than weight copy, so claim A cannot show a gain over plain copying here."


def table_1(results: Results) -> pd.DataFrame:
    """Table 1: top-1 accuracy (%) by start and schedule, below the teacher and weight copy without training; ± is half the 95 % interval
    over n seeds. Published accuracies and times are the document's, of a ViT-B on ImageNet-1k and CIFAR-100. On other data only the order
    of rows compares: rank 1 is the highest of a set's rows with both values, and no difference is given. Seconds are those of the table of
    training times, whose SVD start stands for all starts (30 digits at `quick`).
    """
    reduction = results.study.settings.reductions[0]
    table = pd.concat([_references(results, reduction), _grid(results, reduction)], ignore_index=True)
    schedule, (staged, whole) = table["schedule"], _epochs(results)
    derived = {
        "dataset": table["dataset"].map(titles(results)),
        "staged epochs": schedule.map({"staged": staged}),
        "whole epochs": schedule.map(whole),
        "seconds": schedule.map(table_times(results).set_index("training")["seconds"]),
        "published, s": schedule.map(_published_seconds(results)).where(table["published"].notna()),
    }
    columns = ["student", "schedule", "staged epochs", "whole epochs", "dataset", "measured", "±", "n", "published"]
    table = table.assign(**derived)[[*columns, "seconds", "published, s"]]
    return compared(table, within=["dataset"], shared=results.study.shares_data)


def table_reductions(results: Results) -> pd.DataFrame:
    """Table 1 at the other reductions r (every r-th block is kept): top-1 accuracy (%), ± half the 95 % interval over n seeds. The document
    prints r = 2 alone.
    """
    tables = [pd.concat([_references(results, r), _grid(results, r)]).assign(r=r) for r in results.study.settings.reductions[1:]]
    columns = ["r", "student", "schedule", "dataset", "measured", "±", "n"]
    return pd.concat(tables, ignore_index=True)[columns] if tables else pd.DataFrame(columns=columns)


def table_ranks(results: Results) -> pd.DataFrame:
    """Top-1 accuracy (%) after staged distillation, by start and rank of the adapters; ± is half the 95 % interval over n seeds."""
    table = summary(results.frame("ranks"), ["lora_init", "rank", "dataset"], "top1")
    return table.assign(lora_init=table["lora_init"].map(STARTS)).rename(columns={"lora_init": "start"})


def table_distances(results: Results) -> pd.DataFrame:
    """Equation 1, the L1 distance mean |T - S| of the last pair of blocks, before and after distillation, on 64 test images; means over n
    seeds, ± is half the 95 % interval of the distance after distillation. Block calls are relative to plain distillation.
    """
    frame = results.frame("distilled").reindex(columns=["lora_init", "schedule", "seed", "step-0 last", "last", "block calls"])
    keys = ["lora_init", "schedule"]
    before, after = (summary(frame, keys, column) for column in ("step-0 last", "last"))
    calls = summary(frame, keys, "block calls")["measured"]
    columns = {BEFORE: before["measured"], AFTER: after["measured"], "±": after["±"], "n": after["n"], "block calls": calls}
    return before[keys].assign(**columns, lora_init=before["lora_init"].map(STARTS)).rename(columns={"lora_init": "start"})


def table_costs(results: Results) -> pd.DataFrame:
    """Parameters and multiply-accumulates (MACs, one image) by count and by formula, without classifier: the teacher, the merged student,
    and what its adapters add until they are merged. Images/s are this machine's, medians of 20 batches; nothing here has seeds.
    """
    counts = [f"{what}{how}" for what in ("parameters", "macs") for how in ("", ", by formula")]
    columns = [*counts, "images/s"]
    frame = results.frame("costs").reindex(columns=["reduction", *[f"{who} {what}" for who in ("teacher", "student") for what in columns]])
    adapters = results.frame("costs").reindex(columns=[f"adapters {what}" for what in columns])
    rows = [{"model": "teacher", **{what: frame.iloc[0][f"teacher {what}"] for what in columns}}]
    for (_, row), (_, added) in zip(frame.iterrows(), adapters.iterrows(), strict=True):
        r, rank = f"r = {row['reduction']:.0f}", results.study.settings.rank
        rows.append({"model": f"student, {r}", **{what: row[f"student {what}"] for what in columns}})
        rows.append({"model": f"its adapters, {r}, rank {rank}", **{what: added[f"adapters {what}"] for what in columns}})
    return pd.DataFrame(rows)


def table_times(results: Results) -> pd.DataFrame:
    """Training time of equal epochs, plain and staged, with and without kept (cached) teacher features: medians of n rounds, in each of
    which the trainings alternate, with the SVD start (30 digits at `quick`). The saving of the medians compares these medians; the mean
    saving of the rounds, which the claim tests, compares each training with plain training in its own round, ± half the 95 % interval.
    """
    frame = frame_relative_times(results)
    rounds = summary(frame.assign(saving=100 - frame["time"]), ["training"], "saving").set_index("training").reindex(TRAININGS)
    seconds = frame.groupby("training")["seconds"].median().reindex(TRAININGS).astype(float)
    published = pd.Series(_published_seconds(results)).reindex(TRAININGS)
    columns = {
        "seconds": seconds,
        "saving of the medians, %": 100 * (1 - seconds / seconds["plain"]),
        "mean saving of the rounds, %": rounds["measured"].astype(float),
        "±": rounds["±"].astype(float),
        "n": rounds["n"].fillna(0).astype(int),
        "published, s": published,
        "published saving, %": 100 * (1 - published / published["plain"]),
    }
    return pd.DataFrame(columns, index=pd.Index(TRAININGS, name="training")).reset_index()


def frame_relative_times(results: Results) -> pd.DataFrame:
    """Seconds of each training, and in percent of plain distillation in the same round: the frame of the claim about time."""
    rows = [
        {"training": name.removeprefix("seconds "), "seed": turn, "seconds": value, "time": 100 * value / run.arrays["seconds plain"][turn]}
        for _, run in results.runs("times")
        for name, values in run.arrays.items()
        if name.startswith("seconds ")
        for turn, value in enumerate(values)
    ]
    return pd.DataFrame(rows, columns=["training", "seed", "seconds", "time"])


def frame_downstream(results: Results) -> pd.DataFrame:
    """Accuracies of students and references, with the document's set that each data set stands for: the frame of the claims on accuracy."""
    students, references = results.frame("accuracy"), results.frame("reference")
    students["student"] = students["lora_init"].map(STARTS) + ", " + students["schedule"]
    frame = pd.concat([students, references.assign(student=references["row"])], ignore_index=True)
    return frame.assign(stands_for=frame["dataset"].map(dict(zip(results.study.settings.sets, DOCUMENT_SETS, strict=False))))


def finding_table_1(results: Results) -> str:
    """Which row is best on each set, and how weight copy stands against the teacher and the best distilled student."""
    return _best_rows(results, results.study.settings.reductions[0])


def finding_reductions(results: Results) -> str:
    """The same at the other reductions."""
    others = results.study.settings.reductions[1:]
    return "\n\n".join(f"At r = {r}. {_best_rows(results, r)}" for r in others) or f"Other reductions: {NOT_YET}."


def finding_ablation(results: Results) -> str:
    """What start and stages bring, alone and together, set by set: the verdict, then the numbers."""
    frame = _at(frame_downstream(results), results.study.settings.reductions[0])
    return "\n\n".join(f"On {title}: {_effects(frame[frame['dataset'] == name])}" for name, title in titles(results).items())


def finding_times(results: Results) -> str:
    """What staged training saves by round and by median, beside the document and the block calls."""
    staged = table_times(results).set_index("training").loc["staged"]
    frame = frame_relative_times(results).query("training == 'staged'")
    if frame.empty:
        return f"Training time: {NOT_YET}."
    calls = table_distances(results).query("schedule == 'staged'")["block calls"].dropna()
    expected = f"; {100 * (1 - calls.iloc[0]):.1f} % fewer block calls are made here" if len(calls) else ""
    rounds, saved = 100 - frame["time"], over_seeds(100 - frame["time"])
    return (
        f"Staged training saved {saved.mean:.1f} % of the time of plain training in the same round, in the mean of the rounds "
        f"({spread_said(saved, over='rounds')}; from {rounds.min():.1f} to {rounds.max():.1f} % in single rounds). "
        f"The ratio of the two medians, which pairs no rounds, says {staged['saving of the medians, %']:.1f} %. "
        f"The document's saving is {staged['published saving, %']:.1f} %{expected}."
    )


def finding_distances(results: Results) -> str:
    """How far each start is from the teacher, which student ends nearest, and whether that one is the most accurate."""
    table = table_distances(results)
    table = table.assign(student=table["start"] + ", " + table["schedule"]).dropna(subset=[BEFORE, AFTER]).set_index("student")
    starts = table.drop_duplicates("start").set_index("start")[BEFORE]
    if not {STARTS["zero_b"], STARTS["svd"]} <= {*starts.index}:
        return f"Distances to the teacher: {NOT_YET}."
    said = "; ".join(f"'{start}' {value:.2f}" for start, value in starts.items())
    farther = "farther from" if starts[STARTS["svd"]] > starts[STARTS["zero_b"]] else "no farther from"
    nearest = table[AFTER].idxmin()
    left, n = table[AFTER][nearest], table["n"][nearest]
    return (
        f"Before distillation the L1 of the last pair is: {said}. The SVD start is {farther} the teacher than B = 0, which is weight copy. "
        f"After it '{nearest}' is nearest, at {left:.2f} (n = {n}). {_accuracy_of(results, nearest)}"
    )


def index_map(results: Results) -> tuple[int, list[tuple[int, int]]]:
    """Depth of the teacher, and first and last teacher block of each group."""
    settings = results.study.settings
    depth, r = getattr(settings.teacher.model, "depth", 12), settings.reductions[0]
    return depth, [(kept, min(kept + r, depth) - 1) for kept in range(0, depth, r)]


def titles(results: Results) -> dict[str, str]:
    """Each downstream set with the document's set that it stands for."""
    theirs = dict(zip(results.study.settings.sets, DOCUMENT_SETS, strict=False))
    shared = results.study.shares_data
    return {name: name if shared else f"{name} (for {stands_for})" for name, stands_for in theirs.items()}


def _best_rows(results: Results, reduction: int) -> str:
    frame = frame_downstream(results)
    frame = frame[(frame["reduction"] == reduction) | (frame["student"] == "teacher")]
    return "\n\n".join(f"On {title}: {_best_row(frame[frame['dataset'] == name])}" for name, title in titles(results).items())


def _best_row(rows: pd.DataFrame) -> str:
    table = summary(rows, ["student"], "top1").dropna(subset="measured").set_index("student")
    students = table.drop(index=["teacher", "weight copy"], errors="ignore")["measured"]
    if students.empty or len(table) < len(students) + 2:
        return f"{NOT_YET}."
    best, student = table["measured"].idxmax(), students.idxmax()
    over_teacher, over_student = (_gain(rows, {"student": "weight copy"}, {"student": other}) for other in ("teacher", student))
    room = students[student] > table.loc["weight copy", "measured"]
    return (
        f"the best of {len(table)} rows by mean is '{best}', with {table.loc[best, 'measured']:.1f} % (n = {table.loc[best, 'n']}). "
        f"Weight copy, which trains nothing, stands at {worded(over_teacher)} against the teacher and at {worded(over_student)} against "
        f"the best distilled student, '{student}'. {ROOM if room else NO_ROOM}"
    )


def _effects(rows: pd.DataFrame) -> str:
    """What raises or lowers accuracy, whether start and stages add up, and then the EFFECTS in numbers."""
    points = {name: [{"lora_init": kind, "schedule": schedule} for kind, schedule in pair] for name, pair in EFFECTS.items()}
    gains = {name: _gain(rows, *pair) for name, pair in points.items()}
    if not all(map(is_measured, gains.values())):
        return f"{NOT_YET}."
    sides = {name: side(gain) for name, gain in gains.items()}
    found = [_listed(words, [name for name in gains if sides[name] == which]) for which, words in DOES.items()]
    numbers = "; ".join(f"{name} {worded(gain)}" for name, gain in gains.items())
    return f"{'; '.join(filter(None, found))}. {_adding_up(_interaction(rows))} In numbers: {numbers}."


def _listed(words: tuple[str, str], names: list[str]) -> str:
    """'the SVD start alone and both together raise accuracy'; empty without a name."""
    said = " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))
    return f"{said} {words[len(names) > 1]}" if names else ""


def _adding_up(more: Interval) -> str:
    """Both together beside the sum of the two."""
    bring = {1: "Together they bring more than their sum", -1: "Together they bring less than their sum"}
    return f"{bring.get(side(more), 'Whether the two add up is open')} ({worded(more).replace(' (', ', ').removesuffix(')')})."


def _interaction(rows: pd.DataFrame) -> Interval:
    """What stages bring from the SVD start less what they bring from B = 0."""
    staged, plain = (rows[rows["schedule"] == schedule] for schedule in ("staged", "plain"))
    brought = subtracted(staged, plain, ["lora_init", "seed"], "top1", "brought")
    return difference(brought, "brought", {"lora_init": "svd"}, {"lora_init": "zero_b"}, ["seed"])


def _accuracy_of(results: Results, nearest: str) -> str:
    """Whether the student nearest to the teacher is the most accurate on the first set."""
    first, title = next(iter(titles(results).items()))
    frame = _at(frame_downstream(results), results.study.settings.reductions[0])
    frame = frame[(frame["dataset"] == first) & frame["lora_init"].notna()]
    table = summary(frame, ["student"], "top1").dropna(subset="measured").set_index("student")["measured"]
    if table.empty:
        return f"Accuracies on {title}: {NOT_YET}."
    best = table.idxmax()
    said = "the same" if best == nearest else f"another one, '{best}'"
    return f"The most accurate student on {title} is {said}."


def _gain(frame: pd.DataFrame, first: dict, second: dict) -> Interval:
    """Difference of accuracies of two selections."""
    return difference(frame, "top1", first, second, ["seed"])


def _at(frame: pd.DataFrame, reduction: int) -> pd.DataFrame:
    return frame[frame["reduction"] == reduction]


def _grid(results: Results, reduction: int) -> pd.DataFrame:
    measured = summary(_at(results.frame("accuracy"), reduction), ["lora_init", "schedule", "dataset"], "top1")
    table = beside(measured, _published(results), ["lora_init", "schedule", "dataset"])
    return table.assign(student=table["lora_init"].map(STARTS)).drop(columns="lora_init")


def _references(results: Results, reduction: int) -> pd.DataFrame:
    """The teacher, whatever the reduction, and weight copy at this one."""
    frame = results.frame("reference")
    frame = frame[(frame["row"] == "teacher") | (frame["reduction"] == reduction)]
    measured = summary(frame, ["row", "dataset"], "top1")
    return measured.assign(student=measured["row"], schedule="none", published=float("nan")).drop(columns="row")


def _epochs(results: Results) -> tuple[str, dict[str, str]]:
    """Epochs of the stages as the document writes them (epochs x stages), and of the whole student by schedule."""
    settings, stages = results.study.settings, len(index_map(results)[1]) - 1
    epochs = settings.recipe.epochs
    return f"{settings.staged_epochs} × {stages}", {"plain": str(epochs), "staged": str(epochs - settings.staged_epochs * stages)}


def _published(results: Results) -> pd.DataFrame:
    """The four accuracies of the document, by the position of the data set among the profile's."""
    known = results.published("table1").query("metric == 'top1'").set_index(["method", "dataset"])["value"].astype(float)
    sets = zip(results.study.settings.sets, DOCUMENT_SETS, strict=False)
    rows = [(*key, name, known[method, theirs]) for name, theirs in sets for method, key in PUBLISHED.items()]
    return pd.DataFrame(rows, columns=["lora_init", "schedule", "dataset", "published"])


def _published_seconds(results: Results) -> dict[str, float]:
    """Training time of the document by schedule."""
    known = results.published("table1").query("metric == 'train_time_s'").set_index("method")["value"].astype(float)
    return {schedule: known[method] for method, (_, schedule) in PUBLISHED.items()}
