"""What the main tables and figures show, in sentences made from their numbers, whichever way these came out."""

from __future__ import annotations

import pandas as pd

from vitlib.grid.results import Results
from vitlib.papers.multi_distillation.search.importance import MEASURES, beyond_chance
from vitlib.papers.multi_distillation.tables import (
    complete_trials,
    frame_results,
    table_importance,
    table_search,
    table_variations,
)
from vitlib.report.evidence.intervals import Interval
from vitlib.report.evidence.words import answered
from vitlib.report.statistics import difference, is_measured, side, worded

ONCE_IN = 20  # a measure exceeds all shuffles by chance


def finding_answer(results: Results) -> str:
    """The document's main claims as they stand here, and the count of all verdicts."""
    return answered(results.board(), results.study.profile)


def finding_importance(results: Results) -> str:
    """Which weights matter most by each measure, and which of them more than by chance."""
    table = table_importance(results)
    if MEASURES[0] not in table:
        return "Importances are not measured yet: they need more trials, of different accuracies."
    table, trained, trials = table.set_index("weight"), int(table["n"].max()), complete_trials(results)["number"].nunique()
    most = [f"{table[measure].abs().idxmax()} by {measure} ({_largest(table[measure]):.2f})" for measure in MEASURES]
    beyond = {measure: beyond_chance(table, measure) for measure in MEASURES}
    named = "; ".join(f"{measure} {', '.join(letters) or 'none'}" for measure, letters in beyond.items())
    comparisons = len(table) * len(MEASURES)
    return (
        f"Of {trials} trials, trained {trained} time{'s' * (trained > 1)} each, the largest means are {', '.join(most)}. "
        f"Beyond all shuffles in every training: {named}. "
        f"Of {comparisons} comparisons about {comparisons / ONCE_IN:.0f} would be so by chance in one training."
    )


def finding_variations(results: Results) -> str:
    """Which single changes of the prior-work row exceed what its own trainings differ by."""
    table = table_variations(results)
    row, changed = table.iloc[0], table[1:].dropna(subset="difference")
    changed = changed[changed["beyond its range"] != "the row itself"]
    if not row["n"] or changed.empty:
        return "Changes of the prior-work row are not measured yet."
    if row["n"] < 2:
        return "The row itself was trained once, so its range is not known, and no change can be judged."
    beyond = changed[changed["beyond its range"] == "yes"]
    named = ", ".join(f"{each['weight']} at {each['value']:g} ({each['difference']:+.1f})" for _, each in beyond.iterrows())
    return (
        f"The row itself reached {row['lowest']:.1f} to {row['highest']:.1f} % over its {row['n']} trainings. "
        f"Of {len(changed)} changes, one training each, {len(beyond)} exceed{'s' * (len(beyond) == 1)} that range of "
        f"{row['highest'] - row['lowest']:.1f} points{': ' * bool(named)}{named}."
    )


def finding_search(results: Results) -> str:
    """What TPE finds that the random search does not: on the held-out images, and on the test images."""
    table = table_search(results).dropna(subset="best held-out")
    if len(table) < 2:
        return "The two searches are not measured yet."
    held_out = ", ".join(f"{row['best held-out']:.1f} % by {row['search']} ({row['trials']} trials)" for row in table.to_dict("records"))
    selections = len(results.study.settings.seeds_of_trials)
    frame = frame_results(results)
    equal, given = (_differences(frame, f"best of TPE{step}", f"best of random search{step}") for step in (", equal step", ""))
    names = "TPE's best setting on the test images", "that of the random search"
    return (
        f"Best held-out top-1, by which settings are chosen, one training each, mean of {selections} selection{'s' * (selections > 1)}: "
        f"{held_out}. "
        f"{_said(equal, f'At an equal step, {names[0]}', names[1], 'selections')} "
        f"{_said(given, f'As given, {names[0]}', names[1], 'selections')}"
    )


def finding_results(results: Results) -> str:
    """The best settings against cross-entropy and the prior-work row at an equal step, and what the step alone does."""
    frame = frame_results(results)
    best, prior = "best of random search, equal step", "prior-work row, equal step"
    plain, published = "cross-entropy alone, equal step", "all three, prior-work row"
    pairs = [(best, plain), (best, prior), (prior, published)]
    against_plain, against_prior, of_step = (_differences(frame, *pair) for pair in pairs)
    return " ".join(
        [
            _said(against_plain, "At an equal step, the best setting of the random search", "cross-entropy alone", "selections"),
            _said(against_prior, "The same best setting", "the prior-work row", "selections"),
            _said(of_step, "The prior-work row at that step", "itself as given"),
        ]
    )


def finding_curriculum(results: Results) -> str:
    """Experiment 2: successive steps and phases against one step on the sum."""
    frame, together = frame_results(results), "one step on the sum"
    return " ".join(
        _said(_differences(frame, name.lower(), together), name, together) for name in ("Three successive steps", "Three phases")
    )


def _differences(frame: pd.DataFrame, first: str, second: str) -> Interval:
    """Of the test top-1 of two methods."""
    return difference(frame, "top1", {"method": first}, {"method": second}, ["seed"])


def _said(interval: Interval, first: str, second: str, over: str = "seeds") -> str:
    """One sentence."""
    verdict = f", {_verdict(interval, over)}" if is_measured(interval) else ""
    return f"{first} minus {second}: {worded(interval, over=over)}{verdict}."


def _verdict(interval: Interval, over: str) -> str:
    if interval.spread.n == 1:
        return f"one {over.removesuffix('s')} decides nothing"
    return {0: "undecided", 1: "better", -1: "worse"}[side(interval)]


def _largest(values: pd.Series) -> float:
    return float(values[values.abs().idxmax()])
