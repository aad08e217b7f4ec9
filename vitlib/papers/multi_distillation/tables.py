"""Multi-distillation's tables, from results alone; the document prints ranges but no accuracy."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from vitlib.grid.results import Results, or_missing
from vitlib.papers.multi_distillation.search.importance import MEASURES, by_chance, importance
from vitlib.papers.multi_distillation.search.space import LETTERS
from vitlib.papers.multi_distillation.specs import Alone, Best
from vitlib.papers.multi_distillation.training.reading import Reading
from vitlib.report.frames import BY_IMAGE, averaged
from vitlib.report.statistics import summary
from vitlib.report.tables import DASH
from vitlib.spec import RunSpec

METHODS = {
    "ce": "cross-entropy alone",
    "kd": "KD (online peer)",
    "kd-frozen": "KD (frozen teacher)",
    "rkd": "RKD (CE + relations)",
    "byot": "BYOT",
    "kd-rkd": "KD + RKD (CE + KL + relations)",
    "prior": "all three, prior-work row",
}
ORDERS = {"sum": "one step on the sum", "successive": "three successive steps", "phases": "three phases"}
SEARCHES = {"random": "random search", "tpe": "TPE"}
STEPS = {"as given": "", "equal": ", equal step"}
NAMED = {  # tables measured on the test images: the method of a grid point, as it is shown
    "methods": lambda point: METHODS.get(point["method"], point["method"]),
    "ce_equal": lambda point: METHODS["ce"] + STEPS["equal"],
    "prior_equal": lambda point: "prior-work row" + STEPS["equal"],
    "curriculum": lambda point: ORDERS[point["order"]],
    "best": lambda point: f"best of {SEARCHES[point['search']]}{STEPS[point['step']]}",
}
PARTS = {
    "alone": "one network alone",
    "with exits": "one network with exits",
    "angle relation": "angle relation of a network and its peer",
}
FEWEST = 4  # trials that an importance or a forest is taken from
DOES = {"b": "weight of rkd_loss", "c": "weight of skd_loss", "d": "distance relation", "e": "angle relation"}
READ_AS = {  # what the other weights do, by the reading's fields
    "kd": {
        "ce+kl": {"a": "weight of kd_loss"},
        "ce": {"a": "weight of kd_loss, the labels alone"},
        "kl": {"a": "weight of kd_loss, the peer alone"},
    },
    "relation_reading": {
        "threshold": {"f": "smooth-L1 threshold, distance", "g": "smooth-L1 threshold, angle"},
        "multiplicative": {"f": "factor of the distance relation", "g": "factor of the angle relation"},
        "trade-off": {"f": "factor of both relations", "g": "nothing"},
        "ctsl": {"f": "factor of the angle relation", "g": "KL of the outputs, in rkd_loss"},
    },
    "exit_form": {"additive": {"h": "exits' soft targets"}, "convex": {"h": "exits' soft targets; 1 - h of the labels"}},
    "hint_reduction": {"mean": {"i": "exits' feature hints"}, "sum": {"i": "exits' feature hints, summed"}},
}


def table_1(results: Results) -> pd.DataFrame:
    """Table 1 of the document: the nine weights, what each scales, its prior-work value and its search range. The last two columns are what
    is used here. Nothing in it is measured.
    """
    settings, published = results.study.settings, results.published("table1")
    does = read_as(settings.reading)
    values, ranges = (published[published["metric"] == metric].set_index("method") for metric in ("prior_work_value", "search_range"))
    rows = []
    for letter in LETTERS:
        space, printed = getattr(settings.space, letter), float(values.loc[letter, "value"])
        rows.append(
            {
                "symbol": letter,
                "name": values.loc[letter, "setting"],
                "read as": does[letter],
                "prior work": f"{printed:g}",
                "search range": ranges.loc[letter, "value"],
                "prior work in range": "yes" if printed in space else "outside the range",
                "prior work here": f"{getattr(settings.prior, letter):g}",
                "searched here": f"{space.low:g} to {space.high:g} by {space.step:g}",
            }
        )
    return pd.DataFrame(rows)


def table_2(results: Results) -> pd.DataFrame:
    """The result table that the document lacks: test top-1 (percent) of peer 1, mean and half of its 95 % interval (±) over n seeds, then
    that of peer 2 and of the exits, which a method without them leaves out; each seed of a best setting has a selection of its own, among
    the same draws. At an equal step the first gradient of all terms together is as long as that of cross-entropy at the label weight of its
    own equal row. The label weight, a mean over runs scaled so, is that of the labels in an update of the deepest classifier: with + that
    of three steps on each batch, with commas that of three phases.
    """
    frame = frame_results(results)
    measured = summary(frame, ["method"], "top1")
    for column in ("top1 peer 2", "top1 exit 1", "top1 exit 2", "top1 exit 3"):
        measured[column.removeprefix("top1 ")] = summary(frame, ["method"], column)["measured"]
    weights = dict(list(frame.groupby("method", sort=False)[list(LETTERS)]))
    measured.insert(1, "weights", [written(weights[method]) for method in measured["method"]])
    measured.insert(2, "label weight", measured["method"].map(label_weights(results)))
    return measured


def table_search(results: Results) -> pd.DataFrame:
    """Random search and TPE at as many trials, one selection a trial seed; the settings of the random search are the same draw in each.
    Held-out top-1 (percent) is that of one training a trial, by which a selection chooses its best setting: best and median are means over
    selections, which together chose that many different settings. Test top-1 is that of the chosen settings trained anew, mean and half
    of its 95 % interval (±) over n selections, as given and scaled to an equal step (equal).
    """
    best = results.frame("best").reindex(columns=["search", "step", "seed", "top1", *LETTERS])
    tests = {step: summary(best[best["step"] == step], ["search"], "top1").set_index("search") for step in ("as given", "equal")}
    rows = []
    for search, held_out in held_out_frame(results).groupby("search", sort=False):
        top1 = held_out.groupby("seed")["top1"]
        rows.append(
            {"search": SEARCHES[search], "trials": top1.count().min()}
            | {"best held-out": top1.max().mean(), "median held-out": top1.median().mean()}
            | {"settings chosen": len(best[best["search"] == search][list(LETTERS)].dropna().drop_duplicates())}
            | {f"test, {step}": frame["measured"].get(search, np.nan) for step, frame in tests.items()}
            | {f"± ({step})": frame["±"].get(search, np.nan) for step, frame in tests.items()}
            | {"n": tests["equal"]["n"].get(search, 0)}
        )
    return pd.DataFrame(rows)


def table_importance(results: Results) -> pd.DataFrame:
    """What the random search says of each weight: two importances (shares of 1) and the rank correlation with held-out top-1; mean, lowest
    and highest over n trainings of the same settings. By chance is the highest of 19 shuffles of the first training's accuracies among its
    settings, without sign; chance exceeds it once in twenty.
    """
    found = importances(results)
    if found.empty:
        return pd.DataFrame({"weight": list(LETTERS)})
    by_weight, columns = found.groupby("weight", sort=False), {}
    chance = by_chance(next(_telling(results))[1], results.study.settings.space)
    for measure in MEASURES:
        of_weight = by_weight[measure]
        columns |= {measure: of_weight.mean(), f"{measure}, lowest": of_weight.min(), f"{measure}, highest": of_weight.max()}
        columns |= {f"{measure}, by chance": chance[measure]}
    return pd.DataFrame(columns | {"n": by_weight.size()}).reset_index()


def table_variations(results: Results) -> pd.DataFrame:
    """The prior-work row with one weight at an end of its search range: held-out top-1 (percent), one training each, and its difference
    from the same training of the row itself. The first line is the row itself, with its lowest and highest over n trainings: differences
    smaller than that range mean nothing (last column).
    """
    prior = results.frame("prior").reindex(columns=["seed", "top1"]).set_index("seed")["top1"]
    frame = results.frame("variations").reindex(columns=["letter", "end", "seed", "top1"])
    settings, span = results.study.settings, prior.max() - prior.min() if prior.count() > 1 else np.nan
    first = {"weight": "none: the row itself", "end": DASH, "top-1": prior.get(settings.seeds_of_trials[0], np.nan), "n": prior.count()}
    rows = [first | {"lowest": prior.min(), "highest": prior.max(), "beyond its range": DASH}]
    for letter, end, seed, top1 in frame.itertuples(index=False):
        value, difference = getattr(getattr(settings.space, letter), end), top1 - prior.get(seed, np.nan)
        same = value == getattr(settings.prior, letter)
        beyond = DASH if np.isnan(difference - span) else "yes" if abs(difference) > span else "no"
        row = {"weight": letter, "end": end, "value": value, "top-1": top1, "n": int(top1 == top1), "difference": difference}
        rows.append(row | {"beyond its range": "the row itself" if same else beyond})
    columns = ["weight", "end", "value", "top-1", "n", "lowest", "highest", "difference", "beyond its range"]
    return pd.DataFrame(rows).reindex(columns=columns)


def table_cost(results: Results) -> pd.DataFrame:
    """What a training computes forward: parameters, and multiply-accumulates (MACs) of one image, by count and by formula; those of the
    angle relation are the share of one image in its batch. A trial trains two networks with exits.
    """
    frame = results.frame("cost").reindex(columns=["part", "parameters", "parameters_formula", "macs", "macs_formula"])
    return frame.assign(part=frame["part"].map(PARTS)).rename(columns=lambda name: name.replace("_", ", by ").replace("macs", "MACs"))


def table_speed(results: Results) -> pd.DataFrame:
    """Seconds of training and images/s: medians over the n runs of each kind, on the hardware that computed them."""
    rows = [
        {"runs": table, "device": run.provenance["device"], **run.provenance["measured"]}
        for table in ("trials", "trials_equal", "guided", "methods", "curriculum", "best")
        for _, run in results.runs(table)
    ]
    frame = pd.DataFrame(rows, columns=["runs", "device", "training_seconds", "images_per_second"])
    grouped = frame.groupby(["runs", "device"], sort=False)
    medians = grouped[["training_seconds", "images_per_second"]].median().rename(columns=lambda name: name.replace("_", " "))
    return medians.assign(n=grouped.size()).reset_index()


def frame_results(results: Results) -> pd.DataFrame:
    """Every run measured on the test images: method (as it is shown), seed, top-1 and its values by image, weights."""
    frames = [
        frame.assign(method=[named(point) for point in frame.to_dict("records")])
        for frame, named in ((results.frame(table), named) for table, named in NAMED.items())
    ]
    wanted = ["method", "seed", "top1", f"top1{BY_IMAGE}", "top1 peer 2", *(f"top1 exit {k}" for k in (1, 2, 3)), *LETTERS]
    return pd.concat(frames, ignore_index=True).reindex(columns=wanted)


def label_weights(results: Results) -> dict[str, str]:
    """Weight of the labels in an update, by method as it is shown; what runs measured of it by their mean, a dash where none is stored."""
    runs: dict[str, list[RunSpec]] = {}
    for cell in (cell for cell in results.study.cells if cell.table in NAMED):
        runs.setdefault(NAMED[cell.table](cell.point), []).append(cell.spec)
    return {method: _label_weight(specs, results) for method, specs in runs.items()}


def held_out_frame(results: Results) -> pd.DataFrame:
    """Trials of both searches in their order, on each trial seed: search, seed, number, held-out top-1, weights."""
    settings = results.study.settings
    columns = ["search", "seed", "number", "top1", *LETTERS]
    random = results.frame("trials")
    started = random[random["number"] < settings.started]
    guided = results.frame("guided").assign(number=lambda frame: settings.started + frame["round"] * settings.positions + frame["position"])
    adaptive = pd.concat([started, guided])
    return pd.concat([random.assign(search="random"), adaptive.assign(search="tpe")], ignore_index=True).reindex(columns=columns)


def importances(results: Results) -> pd.DataFrame:
    """Of the random search, for each training seed and weight: PED-ANOVA, fANOVA and Spearman's rank correlation."""
    space = results.study.settings.space
    found = [importance(trials, space).reset_index().assign(seed=seed) for seed, trials in _telling(results)]
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame(columns=["weight", *MEASURES, "seed"])


def complete_trials(results: Results) -> pd.DataFrame:
    """The random search's stored trials: number, seed, weights, held-out top-1."""
    return results.frame("trials").reindex(columns=["number", "seed", *LETTERS, "top1"]).dropna()


def frame_thirds(results: Results) -> pd.DataFrame:
    """Upper and lower third of the settings as one training ranks them, with their mean held-out top-1 in another.

    The frame of the claim that weights matter. Trial seeds are taken in pairs, each seed in one: the first ranks, the second, `seed`, is
    measured; of an odd number the last is not used.
    """
    return _thirds(results, "trials")


def frame_thirds_equal(results: Results) -> pd.DataFrame:
    """The same of the same settings at an equal effective step."""
    return _thirds(results, "trials_equal")


def read_as(reading: Reading) -> dict[str, str]:
    """What each weight does."""
    return DOES | {letter: text for field, texts in READ_AS.items() for letter, text in texts[getattr(reading, field)].items()}


def written(weights: pd.DataFrame) -> str:
    """Of a method's runs: 'a 0.1, b 0.05, ...', without weights that are zero; '3 settings' where they differ; a dash for none."""
    settings = weights.dropna().drop_duplicates()
    if len(settings) > 1:
        return f"{len(settings)} settings"
    kept = [f"{letter} {value:g}" for setting in settings.to_dict("records") for letter, value in setting.items() if value]
    return ", ".join(kept) or DASH


def _thirds(results: Results, trials: str) -> pd.DataFrame:
    frame = results.frame(trials).reindex(columns=["number", "seed", "top1", f"top1{BY_IMAGE}"]).dropna(subset="top1")
    thirds, seeds = [], results.study.settings.seeds_of_trials
    for ranking, measuring in zip(seeds[::2], seeds[1::2], strict=False):
        ranked = frame[frame["seed"] == ranking].sort_values("top1", kind="stable")["number"]
        measured = frame[frame["seed"] == measuring].set_index("number").reindex(ranked).dropna(subset="top1")
        size = max(1, len(measured) // 3)
        thirds += [measured[:size].assign(third="lower"), measured[-size:].assign(third="upper")]
    return averaged(pd.concat([frame[:0], *thirds]), ["third", "seed"], "top1")


def _telling(results: Results) -> Iterator[tuple[int, pd.DataFrame]]:
    """Seed and trials of each training that says something of the weights: of enough trials, not all alike."""
    for seed, trials in complete_trials(results).groupby("seed"):
        if len(trials) >= FEWEST and trials["top1"].nunique() > 1:
            yield seed, trials


def _label_weight(specs: list[RunSpec], results: Results) -> str:
    spec = specs[0]
    if isinstance(spec, Alone):
        return f"{spec.label_weight:.2g}"
    if isinstance(spec, Best) or spec.equal_step:
        stored = [results.stored[each.id] for each in specs if each.id in results.stored]
        measured = [metrics["label weight"] for run in stored if (metrics := or_missing(run, "metrics"))]
        return f"{np.mean(measured):.2g}" if measured else DASH
    between = {"together": "", "successive": " + ", "phases": ", "}[spec.order]
    objective = spec.objective
    return between.join(f"{weight:.2g}" for weight in objective.label_weights.values()) if between else f"{objective.label_weight:.2g}"
