"""What the numbers of an own model say, in Markdown."""

from __future__ import annotations

import pandas as pd

from vitlib.compress.own.study import OwnModel, OwnResults

NOTHING = 'Nothing is stored of this yet; with `mode = "cached"` it is computed.'


def recipe(study: OwnModel) -> str:
    """How photos are split and models trained, a line each."""
    return "\n".join(f"- {note[0].upper()}{note[1:]}." for note in study.notes)


def finding_answer(results: OwnResults) -> str:
    """Which model is the smallest within the tolerance, and what it lost."""
    table, study = results.models.set_index("model"), results.study
    if table.loc[[study.reference, *study.candidates], "top-1 %"].isna().any():
        return NOTHING
    before = table.loc[study.reference]
    if study.reference != "before":
        return _student(table, study)
    if (chosen := results.smallest()) is None:
        best = str(results.nearest())
        return (
            f"No model is within {study.tolerance:g} points of `{study.reference}` ({_accuracy(before)}). "
            f"The nearest is `{best}` with {_accuracy(table.loc[best])}."
        )
    after = table.loc[chosen]
    return (
        f"The smallest model within {study.tolerance:g} points of `{study.reference}` ({_accuracy(before)}) is **{chosen}**: "
        f"{_accuracy(after)}, a packed file of {after['packed MB']:.3g} MB instead of {before['packed MB']:.3g}, "
        f"{_share(after['MACs'], before['MACs'])} multiply-accumulates. {_overlap(before, after)}"
    )


def _student(table: pd.DataFrame, study: OwnModel) -> str:
    (student,) = study.candidates
    teachers = "".join(f" `{name}` has {_accuracy(table.loc[name])}." for name in table.index if name not in (student, study.reference))
    return (
        f"**{student}** has {_accuracy(table.loc[student])}; `{study.reference}`, the same training on labels only, "
        f"{_accuracy(table.loc[study.reference])}. {_overlap(table.loc[study.reference], table.loc[student])}{teachers}"
    )


def _accuracy(row: pd.Series) -> str:
    return f"{row['top-1 %']:.1f} %, {row['low']:.1f} to {row['high']:.1f}"


def _share(after: float, before: float) -> str:
    return "as many" if after == before else f"{100 * after / before:.0f} % of the"


def _overlap(before: pd.Series, after: pd.Series) -> str:
    apart = after["high"] < before["low"] or before["high"] < after["low"]
    return f"The two intervals over {after['test photos']:.0f} test photos {'do not overlap' if apart else 'overlap'}."
