"""Multi-distillation's tables, from results alone; the document prints ranges but no accuracy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from vitlib.papers.multi_distillation.search.space import LETTERS
from vitlib.report.statistics import half_width, summary
from vitlib.report.tables import DASH

if TYPE_CHECKING:
    from vitlib.runs.study import Results

METHODS = {
    "ce": "cross-entropy alone",
    "kd": "KD (online peer)",
    "kd-frozen": "KD (frozen teacher)",
    "rkd": "RKD",
    "byot": "BYOT",
    "kd-rkd": "KD + RKD",
    "prior": "all three, prior-work row",
}
ORDERS = {"sum": "one step on the sum", "successive": "three successive steps", "phases": "three phases"}
SEARCHES = {"random": "random search", "tpe": "TPE"}
FEWEST = 4  # trials that an importance or a forest is taken from
DOES = {
    "a": "weight of kd_loss",
    "b": "weight of rkd_loss",
    "c": "weight of skd_loss",
    "d": "distance relation",
    "e": "angle relation",
    "f": "smooth-L1 threshold, distance",
    "g": "smooth-L1 threshold, angle",
    "h": "exits' soft targets",
    "i": "exits' feature hints",
}


def table_1(results: Results) -> pd.DataFrame:
    """Table 1: prior-work values and search ranges, with the values that lie outside their own range."""
    settings, published = results.study.settings, results.published("table1")
    values, ranges = (published[published["metric"] == metric].set_index("method") for metric in ("prior_work_value", "search_range"))
    rows = []
    for letter in LETTERS:
        space, printed = getattr(settings.space, letter), float(values.loc[letter, "value"])
        rows.append(
            {
                "symbol": letter,
                "name": values.loc[letter, "setting"],
                "read as": DOES[letter],
                "prior work": f"{printed:g}",
                "search range": ranges.loc[letter, "value"],
                "prior work in range": "yes" if printed in space else "outside the range",
                "prior work here": f"{getattr(settings.prior, letter):g}",
                "searched here": f"{space.low:g} to {space.high:g} by {space.step:g}",
            }
        )
    return pd.DataFrame(rows)


def table_2(results: Results) -> pd.DataFrame:
    """The result table that the document lacks: test top-1 by method, with the weights and the effective step."""
    frame = frame_results(results)
    measured = summary(frame, ["method"], "top1")
    for column in ("label weight", "top1 peer 2", "top1 exit 1", "top1 exit 2", "top1 exit 3"):
        measured[column.removeprefix("top1 ")] = summary(frame, ["method"], column)["measured"]
    weights = frame.groupby("method", sort=False).first().reindex(columns=list(LETTERS))
    measured.insert(1, "weights", [written(weights.loc[method]) for method in measured["method"]])
    return measured


def table_search(results: Results) -> pd.DataFrame:
    """The two searches at an equal number of trials, and their best settings trained anew and measured on the test images."""
    best = results.frame("best").reindex(columns=["search", "step", "seed", "top1"])
    tests = {step: summary(best[best["step"] == step], ["search"], "top1").set_index("search") for step in ("as given", "equal")}
    rows = []
    for search, held_out in held_out_frame(results).groupby("search", sort=False)["top1"]:
        rows.append(
            {"search": SEARCHES[search], "trials": held_out.count(), "best held-out": held_out.max(), "median held-out": held_out.median()}
            | {f"test, {step}": frame["measured"].get(search, np.nan) for step, frame in tests.items()}
            | {f"± ({step})": frame["±"].get(search, np.nan) for step, frame in tests.items()}
            | {"n": tests["equal"]["n"].get(search, 0)}
        )
    return pd.DataFrame(rows)


def table_importance(results: Results) -> pd.DataFrame:
    """What the random search says of each weight: two importances (shares of 1) and the rank correlation with held-out top-1.

    Means and 95 % intervals over training seeds of the same settings.
    """
    found = importances(results)
    if found.empty:
        return pd.DataFrame({"weight": list(LETTERS)})
    columns = {}
    for measure in ("PED-ANOVA", "fANOVA", "rank correlation"):
        by_letter = found.groupby("weight", sort=False)[measure]
        columns |= {measure: by_letter.mean(), f"± ({measure})": by_letter.agg(half_width)}
    return pd.DataFrame(columns | {"n": found.groupby("weight", sort=False).size()}).reset_index()


def table_variations(results: Results) -> pd.DataFrame:
    """The prior-work row with one weight at an end of its range: held-out top-1 and its difference from the row itself, one training."""
    prior = results.frame("prior").reindex(columns=["seed", "top1"]).set_index("seed")["top1"]
    frame = results.frame("variations").reindex(columns=["letter", "end", "seed", "top1"])
    frame["difference"] = frame["top1"] - frame["seed"].map(prior)
    wide = frame.pivot_table(index="letter", columns="end", values=["top1", "difference"], sort=False, dropna=False)
    space = results.study.settings.space
    return pd.DataFrame(
        {"weight": list(LETTERS)}
        | {
            f"{end}: {name}": [
                wide[metric, end].get(k, np.nan) if metric else getattr(getattr(space, k), end) for k in LETTERS
            ]
            for end in ("low", "high")
            for name, metric in (("value", ""), ("top-1", "top1"), ("change", "difference"))
        }
    )  # fmt: skip


def table_speed(results: Results) -> pd.DataFrame:
    """Seconds of training and images/s, medians over the runs of each kind; hardware-dependent."""
    rows = [
        {"runs": table, "device": run.provenance["device"], **run.provenance["measured"]}
        for table in ("trials", "guided", "methods", "curriculum", "best")
        for _, run in results.runs(table)
    ]
    frame = pd.DataFrame(rows, columns=["runs", "device", "training_seconds", "images_per_second"])
    grouped = frame.groupby(["runs", "device"], sort=False)
    medians = grouped[["training_seconds", "images_per_second"]].median().rename(columns=lambda name: name.replace("_", " "))
    return medians.assign(n=grouped.size()).reset_index()


def frame_results(results: Results) -> pd.DataFrame:
    """Every run measured on the test images: method (as it is shown), seed, top-1, weights."""
    best = results.frame("best")
    best_names = best["search"].map(lambda name: f"best of {SEARCHES[name]}") + best["step"].map({"as given": "", "equal": ", equal step"})
    rows = [
        results.frame("methods").assign(method=lambda frame: frame["method"].map(lambda name: METHODS.get(name, name))),
        results.frame("prior_equal").assign(method="prior-work row, equal step"),
        results.frame("curriculum").assign(method=lambda frame: frame["order"].map(ORDERS)),
        best.assign(method=best_names),
    ]
    wanted = ["method", "seed", "top1", "top1 peer 2", *(f"top1 exit {k}" for k in (1, 2, 3)), "label weight", *LETTERS]
    return pd.concat(rows, ignore_index=True).reindex(columns=wanted)


def held_out_frame(results: Results) -> pd.DataFrame:
    """Trials of both searches in their order, on the first trial seed: search, number, held-out top-1, weights."""
    settings = results.study.settings
    columns = ["search", "number", "top1", *LETTERS]
    random = results.frame("trials").query("seed == @settings.trial_seeds[0]")
    started = random[random["number"] < settings.started]
    guided = results.frame("guided").assign(number=lambda frame: settings.started + frame["round"] * settings.positions + frame["position"])
    adaptive = pd.concat([started, guided])
    return pd.concat([random.assign(search="random"), adaptive.assign(search="tpe")], ignore_index=True).reindex(columns=columns)


def importances(results: Results) -> pd.DataFrame:
    """Of the random search, for each training seed and weight: PED-ANOVA, fANOVA and Spearman's rank correlation.

    Trainings that say nothing of the weights (too few trials, or all alike) are left out.
    """
    from optuna.importance import FanovaImportanceEvaluator, PedAnovaImportanceEvaluator, get_param_importances

    from vitlib.papers.multi_distillation.search.proposals import finished_study

    rows = []
    for seed, trials in complete_trials(results).groupby("seed"):
        if len(trials) < FEWEST or trials["top1"].nunique() < 2:
            continue
        study = finished_study(trials, results.study.settings.space)
        by_ped, by_forest = (
            get_param_importances(study, evaluator=each) for each in (PedAnovaImportanceEvaluator(), FanovaImportanceEvaluator(seed=0))
        )
        ranks = trials[[*LETTERS, "top1"]].corr(method="spearman")["top1"]
        measures = {"PED-ANOVA": by_ped, "fANOVA": by_forest, "rank correlation": ranks}
        rows += [{"seed": seed, "weight": k} | {name: float(values[k]) for name, values in measures.items()} for k in LETTERS]
    return pd.DataFrame(rows)


def complete_trials(results: Results) -> pd.DataFrame:
    """The random search's stored trials: number, seed, weights, held-out top-1."""
    return results.frame("trials").reindex(columns=["number", "seed", *LETTERS, "top1"]).dropna()


def frame_thirds(results: Results) -> pd.DataFrame:
    """Upper and lower third of the settings as one training seed ranks them, with their mean top-1 under the next seed.

    The frame of the claim that weights matter: what ranks and what is measured are different trainings.
    """
    table = complete_trials(results).pivot(index="number", columns="seed", values="top1").dropna()
    seeds, rows = list(table), []
    for place, seed in enumerate(seeds if len(seeds) > 1 else []):
        ranked = table.sort_values(seed, kind="stable")[seeds[place - 1]]
        size = max(1, len(ranked) // 3)
        rows += [{"third": name, "seed": seed, "top1": part.mean()} for name, part in (("lower", ranked[:size]), ("upper", ranked[-size:]))]
    return pd.DataFrame(rows, columns=["third", "seed", "top1"])


def written(weights: pd.Series) -> str:
    """'a 0.1, b 0.05, ...', without the weights that are zero; a dash where there are none."""
    kept = [f"{letter} {value:g}" for letter, value in weights.items() if value]
    return ", ".join(kept) if weights.notna().all() else DASH
