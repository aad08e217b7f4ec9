"""AFR pruning's tables, from results alone: measured beside published."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from vitlib.report.statistics import beside, summary

if TYPE_CHECKING:
    from vitlib.runs.study import Results

NAMES = {"snip": "SNIP", "refer": "ReFer", "afr": "AFR", "magnitude": "magnitude", "random": "random"}
BACKBONES = {"supervised": "table1a", "dino": "table1b"}
SHOWN = ["measured", "±", "n", "published", "difference"]


def table_1(results: Results) -> pd.DataFrame:
    """Table 1: fine-grained sets by backbone and criterion; every row of the document, a dash where this profile has no set for it."""
    published = _published(results, "teacher", {table: teacher for teacher, table in BACKBONES.items()})
    return _every_row(results, results.frame("fine"), ["teacher"], published)


def table_2(results: Results) -> pd.DataFrame:
    """Table 2: generic sets by sparsity and criterion; every row of the document."""
    published = _published(results, "sparsity", {"table2": None})
    return _every_row(results, results.frame("generic"), ["sparsity"], published)


def table_gains(results: Results) -> pd.DataFrame:
    """AFR - SNIP in points, paired by seed: the differences of Table 1."""
    measured = summary(frame_gains(results), ["teacher", "dataset"], "gain")
    published = pd.concat(
        results.published(table).query("metric == 'top1_gain'").assign(teacher=teacher) for teacher, table in BACKBONES.items()
    )
    published = published.assign(published=published["value"].astype(float)).rename(columns={"dataset": "document's set"})
    measured["document's set"] = measured["dataset"].map(results.study.settings.stands_for)
    return beside(measured, published, ["teacher", "document's set"])[["teacher", "dataset", "document's set", *SHOWN]]


def table_dense(results: Results) -> pd.DataFrame:
    """The same fine-tuning without pruning: what each criterion could at best keep."""
    return summary(results.frame("dense"), ["teacher", "dataset"], "top1")


def table_spread(results: Results) -> pd.DataFrame:
    """Mean singular value of the blocks' features of the pruning samples, in percent of the dense model's."""
    frame = frame_kept_spread(results)
    keys = ["sparsity", "criterion"]
    masked, tuned = (summary(frame, keys, column) for column in ("kept", "after fine-tuning"))
    lowest = summary(frame, keys, "lowest density")["measured"]
    table = masked[keys].assign(
        **{"after the mask": masked["measured"], "±": masked["±"], "after fine-tuning": tuned["measured"], "± ": tuned["±"]},
        **{"n": masked["n"], "lowest density, %": 100 * lowest},
    )
    return table.assign(criterion=table["criterion"].map(NAMES))


def table_scores(results: Results) -> pd.DataFrame:
    """Rank correlation of the criteria with SNIP and ReFer, and the skewness of their scores, by teacher; first seed."""
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


def frame_gains(results: Results) -> pd.DataFrame:
    """AFR - SNIP of Table 1 by teacher, set and seed: the frame of the claim about DINO."""
    keys = ["teacher", "dataset", "seed"]
    frame = results.frame("fine").reindex(columns=["criterion", *keys, "top1"])
    one, other = (frame[frame["criterion"] == name].set_index(keys)["top1"] for name in ("afr", "snip"))
    return (one - other).rename("gain").reset_index()


def frame_kept_spread(results: Results) -> pd.DataFrame:
    """Spread of the features after the mask and after fine-tuning, in percent of the dense model's: the frame of ReFer's goal."""
    frame = results.frame("generic")
    for column in ("spread dense", "spread pruned", "spread tuned", "lowest density"):
        if column not in frame:
            frame[column] = np.nan
    percent = 100 / frame["spread dense"]
    return frame.assign(**{"kept": percent * frame["spread pruned"], "after fine-tuning": percent * frame["spread tuned"]})


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
    table["difference"] = table["measured"] - table["published"]
    table["n"] = table["n"].fillna(0).astype(int)
    table["criterion"] = table["criterion"].map(NAMES)
    return table[[*on[:-1], "dataset", "criterion", *SHOWN]].reset_index(drop=True)


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
