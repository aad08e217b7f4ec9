"""AFR pruning's tables and what they show in words, from results alone: measured beside published."""

from __future__ import annotations

import numpy as np
import pandas as pd

from vitlib.grid.results import Results
from vitlib.inputs.foreign.architecture import known_vit
from vitlib.papers.afr_pruning.specs import Settings
from vitlib.report.evidence.intervals import Interval
from vitlib.report.evidence.words import answered
from vitlib.report.frames import BY_IMAGE, subtracted
from vitlib.report.statistics import against, beside, compared, difference, summary
from vitlib.report.tables import published_only

NAMES = {"snip": "SNIP", "refer": "ReFer", "afr": "AFR", "magnitude": "magnitude", "random": "random"}
BACKBONES = {"supervised": "table1a", "dino": "table1b"}
SHOWN = ["measured", "±", "n", "published"]
TEACHERS = {"supervised": "supervised", "dino": "DINO"}
SPOKEN = NAMES | {"magnitude": "magnitude pruning", "random": "random pruning"}
CORRELATIONS = ["rank correlation with SNIP", "rank correlation with ReFer"]
NOTHING = "Not measured yet."
SAMPLES = "sets of pruning samples"


def table_1(results: Results) -> pd.DataFrame:
    """Table 1: top-1 accuracy (%) on fine-grained sets after pruning to one sparsity (the document's: 80 %) and fine-tuning, by
    teacher and criterion; mean over seeds and half of its 95 % interval (±). Rows of the document for which this profile has no set stand
    apart; ReFer, magnitude and random pruning are added. Rank 1 is the highest of a teacher's rows of a set with both
    values; on the document's own data their difference stands instead of ranks.
    """
    published = _published(results, "teacher", {table: teacher for teacher, table in BACKBONES.items()})
    return _every_row(results, results.frame("fine"), ["teacher"], published)


def table_2(results: Results) -> pd.DataFrame:
    """Table 2: top-1 accuracy (%) on generic sets after pruning and fine-tuning, by sparsity (share of the prunable weights set to zero)
    and criterion, first teacher; mean over seeds and half of its 95 % interval (±). Rows of the document for which this profile has no set
    stand apart; magnitude and random pruning are added. Rank 1 is the highest of a set's rows of a sparsity with both
    values; on the document's own data their difference stands instead of ranks.
    """
    published = _published(results, "sparsity", {"table2": None})
    return _every_row(results, results.frame("generic"), ["sparsity"], published)


def table_gains(results: Results) -> pd.DataFrame:
    """The gains of Table 1: accuracy of AFR less that of SNIP in points, paired by seed; mean over seeds and half of its 95 %
    interval (±), beside those that the document prints. Rank 1 is the larger one of a set's rows; on the document's own data the
    difference between measured and published stands instead of ranks.
    """
    measured = summary(frame_gains(results), ["teacher", "dataset"], "gain")
    published = pd.concat(
        results.published(table).query("metric == 'top1_gain'").assign(teacher=teacher) for teacher, table in BACKBONES.items()
    )
    published = published.assign(published=published["value"].astype(float)).rename(columns={"dataset": "document's set"})
    measured["document's set"] = measured["dataset"].map(results.study.settings.stands_for)
    table = beside(measured, published, ["teacher", "document's set"])[["teacher", "dataset", "document's set", *SHOWN]]
    return compared(table, within=["dataset"], shared=results.study.shares_data)


def table_dense(results: Results) -> pd.DataFrame:
    """Top-1 accuracy (%) of the same fine-tuning without pruning, which a pruned model is compared with; mean over seeds and half of its
    95 % interval (±).
    """
    return summary(results.frame("dense"), ["teacher", "dataset"], "top1")


def table_spread(results: Results) -> pd.DataFrame:
    """What is left of the mean singular value of the blocks' features, in percent of the dense model's, on as many held-out (test) images
    as there are pruning samples, and on these themselves: mean over blocks, generic sets and n seeds, and half of the 95 % interval (±).
    Each seed draws its samples, so that masks differ; those by magnitude are the same for every seed. Lowest density: share of weights
    kept in the emptiest matrix.
    """
    frame = frame_kept_spread(results)
    keys = ["sparsity", "criterion"]
    held_out, samples, tuned = (summary(frame, keys, column) for column in ("kept", "kept on samples", "after fine-tuning"))
    lowest = summary(frame, keys, "lowest density")["measured"]
    table = held_out[keys].assign(
        **{"after the mask, % of dense": held_out["measured"], "±": held_out["±"]},
        **{"on the pruning samples, %": samples["measured"], "± ": samples["±"]},
        **{"after fine-tuning, % of dense": tuned["measured"], "±  ": tuned["±"]},
        **{"n": held_out["n"], "lowest density, %": 100 * lowest},
    )
    return table.assign(criterion=table["criterion"].map(NAMES))


def table_scores(results: Results) -> pd.DataFrame:
    """Spearman's rank correlation of each criterion's scores with SNIP's and ReFer's over all prunable weights, and the skewness of its
    scores; by teacher, first generic set, one scoring each (first seed), so that there is no interval.
    """
    frame = results.frame("diagnosis")
    rows = [
        {
            "teacher": row["teacher"],
            "criterion": NAMES[name],
            "rank correlation with SNIP": _correlation(row, "snip", name),
            "rank correlation with ReFer": _correlation(row, "refer", name),
            "skewness": row.get(f"skewness {name}", np.nan),
        }
        for _, row in frame.iterrows()
        for name in ("snip", "refer", "afr", "magnitude")
    ]
    return pd.DataFrame(rows)


def table_cost(results: Results) -> pd.DataFrame:
    """Weights of the first teacher that can be pruned, and weights that AFR's mask keeps, counted in a run and by formula: 12 L D² for L
    blocks of width D at an MLP ratio of 4, and the share 1 - sparsity of it to the nearest whole number. First set, first seed; a dash
    where the width is not known here.
    """
    settings = results.study.settings
    frame = results.frame("generic").reindex(columns=["criterion", "dataset", "sparsity", "seed", "prunable", "kept"])
    rows = frame[(frame["criterion"] == "afr") & (frame["dataset"] == settings.first_generic[0]) & (frame["seed"] == settings.seeds[0])]
    sizes = _prunable_sizes(settings)
    return pd.DataFrame(
        {
            "sparsity": rows["sparsity"],
            "prunable": rows["prunable"],
            "prunable, by formula": sum(sizes) or np.nan,
            "kept": rows["kept"],
            "kept, by formula": [_kept(sizes, sparsity, settings.pruning.threshold) or np.nan for sparsity in rows["sparsity"]],
        }
    ).reset_index(drop=True)


def finding_answer(results: Results) -> str:
    """The document's main claims as they stand here, and the count of all verdicts."""
    return answered(results.board(), results.study.profile)


def finding_generic(results: Results) -> str:
    """Table 2 in words: AFR against the others, and where it is not the best of the document's three."""
    frame = results.frame("generic").reindex(columns=["criterion", "dataset", "sparsity", "seed", "top1", f"top1{BY_IMAGE}"])
    if frame["top1"].isna().all():
        return NOTHING
    keys = ["dataset", "sparsity", "seed"]
    pairs = [against("AFR", SPOKEN[other], _differences(frame, other, keys)) for other in ("snip", "refer", "magnitude")]
    return f"Mean over sparsities and sets: {'; '.join(pairs)}. {_who_is_first(frame)}".strip()


def finding_fine(results: Results) -> str:
    """Table 1 in words: AFR against SNIP and magnitude by teacher, and whether it gains more with the self-supervised one."""
    frame = results.frame("fine").reindex(columns=["criterion", "teacher", "dataset", "seed", "top1", f"top1{BY_IMAGE}"])
    if frame["top1"].isna().all():
        return NOTHING
    said = []
    for teacher, rows in frame.groupby("teacher", sort=False):
        pairs = [against("AFR", SPOKEN[other], _differences(rows, other, ["dataset", "seed"])) for other in ("snip", "magnitude")]
        said.append(f"With the {TEACHERS.get(teacher, teacher)} teacher {'; '.join(pairs)}.")
    gains = difference(frame_gains(results), "gain", {"teacher": "dino"}, {"teacher": "supervised"}, ["dataset", "seed"])
    return " ".join([*said, f"{against('The gain over SNIP with DINO', 'that with the supervised teacher', gains)}."])


def finding_scores(results: Results) -> str:
    """The scores in words: how alike SNIP and ReFer rank the weights, and which of them AFR follows."""
    rows = table_scores(results).reindex(columns=["teacher", "criterion", *CORRELATIONS, "skewness"]).dropna()
    said = [_scores_said(TEACHERS.get(name, name), group.set_index("criterion")) for name, group in rows.groupby("teacher", sort=False)]
    return f"{' '.join(said)} One scoring each, without an interval." if said else NOTHING


def finding_singular_values(results: Results) -> str:
    """ReFer's goal in words: what its mask keeps beside SNIP's, sparsity by sparsity, and what fine-tuning brings back."""
    frame = frame_kept_spread(results)
    kept = frame.groupby(["sparsity", "criterion"])["kept"].mean().unstack().reindex(columns=["refer", "snip"]).dropna()
    if kept.empty:
        return NOTHING
    keys = ["dataset", "sparsity", "seed"]
    held_out, on_samples = (_differences(frame, "snip", keys, first="refer", metric=metric) for metric in ("kept", "kept on samples"))
    apart = ", ".join(f"{value:+.1f} at {100 * sparsity:g} %" for sparsity, value in (kept["refer"] - kept["snip"]).items())
    means = frame.groupby("criterion", sort=False)[["kept", "after fine-tuning"]].mean().dropna()
    states = [f"{NAMES[name]} {means.loc[name, 'kept']:.1f} and {means.loc[name, 'after fine-tuning']:.1f}" for name in means.index]
    on_held_out, scored_on = (against("ReFer", "SNIP", interval, over=SAMPLES) for interval in (held_out, on_samples))
    return (
        "Mean singular value of the blocks' features after the mask, on held-out images, in percent of the dense model's, mean over "
        f"sparsities: {on_held_out}; {apart}. On the pruning samples, which the masks were scored on, "
        f"{scored_on}. On held-out images after the mask and after fine-tuning: {'; '.join(states)}."
    )


def frame_gains(results: Results) -> pd.DataFrame:
    """AFR - SNIP of Table 1 by teacher, set and seed: the frame of the claim about DINO."""
    frame = results.frame("fine")
    afr, snip = (frame[frame["criterion"] == name] for name in ("afr", "snip"))
    return subtracted(afr, snip, ["teacher", "dataset", "seed"], "top1", "gain")


def frame_kept_spread(results: Results) -> pd.DataFrame:
    """Mean singular value in percent of the dense model's: the frame of ReFer's goal.

    On held-out images after the mask (`kept`) and after fine-tuning, and after the mask on the pruning samples (`kept on samples`).
    """
    frame = results.frame("generic")
    for column in (*(f"{kind}spread {state}" for kind in ("", "held-out ") for state in ("dense", "pruned", "tuned")), "lowest density"):
        if column not in frame:
            frame[column] = np.nan
    left = {"kept": ("held-out ", "pruned"), "kept on samples": ("", "pruned"), "after fine-tuning": ("held-out ", "tuned")}
    return frame.assign(
        **{column: 100 * frame[f"{kind}spread {state}"] / frame[f"{kind}spread dense"] for column, (kind, state) in left.items()}
    )


def _every_row(results: Results, frame: pd.DataFrame, keys: list[str], published: pd.DataFrame) -> pd.DataFrame:
    """All rows of the document in its order, with the measured ones joined, then the criteria that it lacks."""
    measured = summary(frame, [*keys, "dataset", "criterion"], "top1")
    measured["document's set"] = measured["dataset"].map(results.study.settings.stands_for)
    on = [*keys, "document's set", "criterion"]
    table = published.merge(measured, on=on, how="outer", sort=False)
    order = {name: place for place, name in enumerate(NAMES)}
    sets = {name: place for place, name in enumerate(published["document's set"].unique())}
    table["order"], table["place"] = table["criterion"].map(order), table["document's set"].map(sets)
    table = table.sort_values([*keys, "place", "order"], ascending=[keys != ["teacher"], True, True], kind="stable")
    table["n"] = table["n"].fillna(0).astype(int)
    table["criterion"] = table["criterion"].map(NAMES)
    table = compared(table[[*on[:-1], "dataset", "criterion", *SHOWN]], within=[*keys, "dataset"], shared=results.study.shares_data)
    return published_only(table, table["dataset"].isna())


def _published(results: Results, key: str, tables: dict[str, str | None]) -> pd.DataFrame:
    """The document's accuracies; `key` is the teacher of each table, or the sparsity of each row."""
    frames = []
    for table, value in tables.items():
        rows = results.published(table).query("metric == 'top1'")
        sparsity = rows["setting"].str.extract(r"sparsity=(\d+)%")[0].astype(float) / 100
        frames.append(rows.assign(**{key: value or sparsity}))
    rows = pd.concat(frames, ignore_index=True)
    return pd.DataFrame(
        {
            key: rows[key],
            "document's set": rows["dataset"],
            "criterion": rows["method"].str.lower(),
            "published": rows["value"].astype(float),
        }
    )


def _correlation(row: pd.Series, one: str, other: str) -> float:
    if one == other:
        return 1.0
    return row.get(f"spearman {one} {other}", row.get(f"spearman {other} {one}", np.nan))


def _differences(frame: pd.DataFrame, other: str, pair_by: list[str], *, first: str = "afr", metric: str = "top1") -> Interval:
    return difference(frame, metric, {"criterion": first}, {"criterion": other}, pair_by)


def _who_is_first(frame: pd.DataFrame) -> str:
    """In how many conditions AFR has the highest mean of the document's criteria, and who has it elsewhere; empty without a whole one."""
    means = frame.groupby(["dataset", "sparsity", "criterion"], sort=False)["top1"].mean().unstack()
    best = means.reindex(columns=["snip", "refer", "afr"]).dropna().idxmax(axis=1)
    others = [f"{NAMES[name]} for {dataset} at {100 * sparsity:g} %" for (dataset, sparsity), name in best.items() if name != "afr"]
    elsewhere = f"; elsewhere another has it: {', '.join(others)}" if others else ""
    count = f"{len(best) - len(others)} of {len(best)} conditions"
    return f"Of SNIP, ReFer and AFR, AFR has the highest mean in {count}{elsewhere}." if len(best) else ""


def _scores_said(teacher: str, rows: pd.DataFrame) -> str:
    """One teacher's sentence; `rows` by criterion."""
    snip, refer = rows.loc["AFR", CORRELATIONS]
    tails = rows.loc[["SNIP", "ReFer"], "skewness"]
    return (
        f"With the {teacher} teacher SNIP's and ReFer's ranks correlate by {rows.loc['SNIP', CORRELATIONS[1]]:.2f}; AFR's ranks lie "
        f"closer to {'SNIP' if snip > refer else 'ReFer'}'s (SNIP {snip:.2f}, ReFer {refer:.2f}), and {tails.idxmin()}'s scores have "
        f"the shorter tail (skewness SNIP {tails['SNIP']:.1f}, ReFer {tails['ReFer']:.1f})."
    )


def _prunable_sizes(settings: Settings) -> list[int]:
    """Weights of each prunable matrix of the first teacher by formula; none if no formula holds for it."""
    teacher = settings.teachers[settings.first_teacher[0]]
    vit = known_vit(teacher.model, settings.data.image_size, teacher.channels)
    if vit is None:
        return []
    square, hidden = vit.embed_dim**2, round(vit.mlp_ratio * vit.embed_dim**2)
    patch = [teacher.channels * vit.patch_size**2 * vit.embed_dim] if settings.pruning.include_patch_embed else []
    return patch + vit.depth * [3 * square, square, hidden, hidden]


def _kept(sizes: list[int], sparsity: float, threshold: str) -> int:
    """Weights that a mask keeps: of all together, or of each matrix."""
    if threshold == "layer":
        return sum(round((1 - sparsity) * size) for size in sizes)
    return round((1 - sparsity) * sum(sizes))
