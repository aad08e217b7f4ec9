"""What multi-distillation's tables and figures hold: whole, empty and with runs missing; planted dependences are found."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from tests.papers.multi_distillation.support import NOTHING, WEIGHTS, smoke_of
from vitlib.grid.results import Results
from vitlib.papers import multi_distillation
from vitlib.papers.multi_distillation.search.space import LETTERS
from vitlib.papers.multi_distillation.tables import METHODS, ORDERS, frame_results, held_out_frame, importances
from vitlib.report.tables import DASH, formatted
from vitlib.runs.execute import execute

ARTEFACTS = sorted(name for name in vars(multi_distillation) if name.startswith(("table_", "figure_")))


def drawn(name, results):
    """An artefact; of a table, as a reader sees it."""
    found = getattr(multi_distillation, name)(results)
    return found if isinstance(found, Figure) else formatted(found)


@pytest.mark.parametrize("name", ARTEFACTS)
def test_every_artefact_is_drawn_from_whole_results_from_none_and_with_runs_missing(results, name):
    whole, empty = drawn(name, results), drawn(name, Results(results.study, {}))
    for found in (whole, empty) if name.startswith("figure") else ():
        found.draw_without_rendering()
    if name in ("table_2", "table_search"):
        measured = [column for column in empty if column in ("measured", "weights") or column.startswith(("best", "median", "test"))]
        assert len(measured) >= 2 and (empty[measured] == DASH).all(axis=None) and (empty["n"] == "0").all()
    for table in results.study.entry["grid"]:
        gone = next(cell.spec.id for cell in results.study.cells if cell.table == table)
        drawn(name, Results(results.study, {run_id: run for run_id, run in results.stored.items() if run_id != gone}))


@pytest.mark.parametrize("count", range(6))
def test_importances_and_what_shows_trials_do_with_few(study, count):
    every = planted(study, lambda w: 50 - w["h"])
    few = Results(study, dict(list(every.stored.items())[:count]))
    for name in ("table_importance", "table_search", "figure_importance", "figure_weights", "figure_parallel", "figure_search"):
        drawn(name, few)
    explored = type(multi_distillation.explore_weights(few)).__name__ == "Explorer"
    assert explored == (not importances(few).empty) == (count >= 4)


@pytest.mark.parametrize("prior", [{}, {"b": 0.5, "i": 0.5, "a": 0.01}])
def test_table_1_marks_the_prior_work_values_outside_their_own_range(study, prior):
    """Whatever row a notebook puts in their place."""
    table = multi_distillation.table_1(Results(smoke_of(study.place.results_dir, overrides={"prior": prior}), {})).set_index("symbol")
    assert list(table.index) == list(LETTERS)
    outside = table.index[table["prior work in range"] != "yes"]
    assert list(outside) == ["b", "c", "i"] and set(table.loc[outside, "prior work in range"]) == {"outside the range"}
    assert table["prior work"].astype(float).to_dict() == dict(zip(LETTERS, (0.1, 0.05, 0.09, 25, 50, 1, 1, 0.1, 1e-6), strict=True))


def test_table_2_has_a_row_for_every_method_and_claims_name_rows_that_exist(results):
    table = multi_distillation.table_2(results).set_index("method")
    equal = {"prior-work row, equal step", "cross-entropy alone, equal step"}
    assert {*METHODS.values(), *ORDERS.values(), *equal} <= set(table.index) and (table["n"] == 1).all()
    assert {"kd", "rkd", "byot", "kd-rkd", "kd-frozen"} == set(results.study.settings.methods) <= set(METHODS)
    assert table.loc["BYOT", "measured"] == results.run("methods", method="byot").metrics["top1"]
    assert table.loc["best of TPE", "measured"] == results.run("best", search="tpe", step="as given").metrics["top1"]
    both = {METHODS[name]: table.loc[METHODS[name], "weights"] for name in ("rkd", "kd-rkd")}
    assert set(both.values()) == {"a 1, b 1, d 25, e 50, f 1, g 1"} and ["KL" in name for name in both] == [False, True]
    assert table.loc[METHODS["ce"], "weights"] == DASH
    names = set(frame_results(results)["method"])
    about = [claim for claim in results.study.entry["claim"] if claim["table"] == "results"]
    assert about and all(claim[side]["method"] in names for claim in about for side in ("first", "second"))
    assert (results.claims()["verdict"] == "undecided").all()
    assert results.claims("results")["n"].str.match("1 (seed|selection) ").all()
    assert len(Results(results.study, {}).claims()) == len(results.claims())


def test_the_table_of_the_search_compares_as_many_trials(results):
    table = multi_distillation.table_search(results).set_index("search")
    trials, guided = (results.frame(name)["top1"].tolist() for name in ("trials", "guided"))
    assert list(table["trials"]) == [6, 6]
    assert held_out_frame(results).groupby("search", sort=False)["number"].apply(list).tolist() == [list(range(6))] * 2
    assert set(table["settings chosen"]) == {1}
    assert list(table["best held-out"]) == [max(trials), max(trials[:4] + guided)]
    assert list(table["median held-out"]) == [np.median(trials), np.median(trials[:4] + guided)]
    assert table.loc["TPE", "test, equal"] == results.run("best", search="tpe", step="equal").metrics["top1"]


def test_the_best_run_has_the_weights_of_the_best_trial(results):
    for search, trials in (("random", results.frame("trials")), ("tpe", pd.concat([results.frame("trials")[:4], results.frame("guided")]))):
        best = trials.iloc[int(trials["top1"].argmax())]
        for step in ("as given", "equal"):
            metrics = results.run("best", search=search, step=step).metrics
            assert {k: metrics[k] for k in LETTERS} == best[list(LETTERS)].to_dict()
        assert metrics["label weight"] == pytest.approx(metrics["scale"] * (metrics["a"] + metrics["c"]))


def test_of_several_selections_means_and_lines_are_means(tmp_path):
    """Held-out top-1 by number and seed: 40 + 10 seed + number, so that the last of six trials is the best."""
    study = smoke_of(tmp_path, overrides={"seeds": [0, 1, 2], "trial_seeds": [0, 1, 2]})
    stored = {}
    for cell in (cell for cell in study.cells if cell.table in ("trials", "guided")):
        place = cell.point.get("number", 4 + cell.point.get("round", 0))
        top1 = 40.0 + 10 * cell.point["seed"] + place + 0.5 * (cell.table == "guided")
        stored[cell.spec.id] = SimpleNamespace(metrics={**WEIGHTS.model_dump(), "top1": top1}, arrays={}, history=None)
    table = multi_distillation.table_search(Results(study, stored)).set_index("search")
    assert table["trials"].tolist() == [6, 6] and table["best held-out"].tolist() == [55.0, 55.5]
    assert table["median held-out"].tolist() == [52.5, 52.5]
    lines = multi_distillation.figure_search(Results(study, stored)).axes[0].get_lines()
    steps = [line.get_ydata().tolist() for line in lines if line.get_drawstyle() == "steps-post"]
    assert steps == [[50.0, 51.0, 52.0, 53.0, 54.0, 55.0], [50.0, 51.0, 52.0, 53.0, 54.5, 55.5]]
    gone = next(cell.spec.id for cell in study.cells if cell.table == "guided")
    fewer = multi_distillation.table_search(Results(study, {i: run for i, run in stored.items() if i != gone}))
    assert fewer["trials"].tolist() == [6, 5]


def test_variations_stand_beside_the_row_that_they_vary(results):
    table, prior = multi_distillation.table_variations(results), results.run("prior").metrics["top1"]
    assert table.loc[0, ["weight", "top-1", "n", "lowest", "highest"]].tolist() == ["none: the row itself", prior, 1, prior, prior]
    table = table.set_index(["weight", "end"])
    for cell in (cell for cell in results.study.cells if cell.table == "variations"):
        letter, end = cell.point["letter"], cell.point["end"]
        top1, value = results.stored[cell.spec.id].metrics["top1"], getattr(getattr(results.study.settings.space, letter), end)
        assert table.loc[(letter, end), ["value", "top-1", "n", "difference"]].tolist() == [value, top1, 1, top1 - prior]
        assert results.stored[cell.spec.id].metrics[letter] == value
        itself = cell.spec.id in {each.spec.id for each in results.study.cells if each.table == "prior"}
        assert table.loc[(letter, end), "beyond its range"] == ("the row itself" if itself else DASH)  # of one training no range is known


def planted(study, accuracy, noise=0.1, **settings):
    """A random search whose accuracy is a function of the weights, with a little noise."""
    study = smoke_of(study.place.results_dir, overrides=settings)
    generator = np.random.default_rng(0)
    trials = {c.spec.id: c.spec.objective.weights.model_dump() for c in study.cells if c.table == "trials"}
    stored = {i: SimpleNamespace(metrics=w | {"top1": accuracy(w) + generator.normal(0, noise)}, arrays={}) for i, w in trials.items()}
    return Results(study, stored)


def test_a_planted_dependence_is_found(study):
    letter, sign = "h", -1
    found = planted(study, lambda w: 50 + sign * 10 * w[letter], numbers=60, seeds=[0, 1], trial_seeds=[0, 1])
    table = multi_distillation.table_importance(found).set_index("weight")
    assert (table["n"] == 2).all()
    for measure in ("PED-ANOVA", "fANOVA"):
        assert table[measure].idxmax() == letter and table[measure].sum() == pytest.approx(1)
        assert table.loc[letter, measure] > 0.5 and (table[measure] >= 0).all()
    assert sign * table.loc[letter, "rank correlation"] > 0.99
    assert table["rank correlation"].drop(letter).abs().max() < 0.5
    by_seed = importances(found).groupby("seed")[["PED-ANOVA", "fANOVA"]].sum()
    assert np.allclose(by_seed, 1) and len(by_seed) == 2
    for measure in ("PED-ANOVA", "fANOVA", "rank correlation"):
        trainings = importances(found).pivot(index="weight", columns="seed", values=measure).loc[list(LETTERS)]
        assert (table[f"{measure}, lowest"] == trainings.min(axis=1)).all()
        assert (table[f"{measure}, highest"] == trainings.max(axis=1)).all()
    for measure in ("fANOVA", "rank correlation"):
        beyond = table[[f"{measure}, lowest", f"{measure}, highest"]].abs().min(axis=1) > table[f"{measure}, by chance"]
        assert beyond[letter] and beyond.sum() <= 3  # chance exceeds its shuffles once in twenty


def test_equal_accuracies_have_no_importances_to_warn_of(study):
    """As a smoke study may have, whose ten held-out images leave eleven accuracies."""
    found = planted(study, lambda w: 50.0, noise=0.0)
    assert importances(found).empty and list(drawn("table_importance", found)) == ["weight"]
    drawn("figure_importance", found)


def trainings(table, seeds, top1, images=3):
    """Results whose table holds six settings under each seed, `top1(number, seed)` made of values by image."""
    spread = np.linspace(-2.0, 2.0, images)
    rows = [
        {"number": n, "seed": s, "top1": top1(n, s), "top1 by image": top1(n, s) + spread * n, **NOTHING.model_dump()}
        for n in range(6)
        for s in seeds
    ]
    settings = SimpleNamespace(seeds_of_trials=seeds)
    return SimpleNamespace(frame={table: pd.DataFrame(rows)}.__getitem__, study=SimpleNamespace(settings=settings))


@pytest.mark.parametrize(("derived", "table"), [("thirds", "trials"), ("thirds_equal", "trials_equal")])
def test_thirds_are_ranked_by_the_first_seed_of_a_pair_and_measured_by_the_second(derived, table):
    """Of six settings: seed 4 ranks 0 < 1 < ... < 5, seed 2 is measured; 9 ranks the other way round, 1 is measured; 7 has no second."""
    results = trainings(table, (4, 2, 9, 1, 7), lambda n, s: {4: 10.0 * n, 2: 50.0 + n, 9: -10.0 * n, 1: 70.0 + n * n, 7: 0.0}[s])
    found = getattr(multi_distillation, f"frame_{derived}")(results).set_index(["seed", "third"])
    assert found["top1"].to_dict() == {(2, "lower"): 50.5, (2, "upper"): 54.5, (1, "lower"): 90.5, (1, "upper"): 70.5}
    for row in found.itertuples():
        assert row[2].shape == (3,) and row[2].mean() == pytest.approx(row.top1)
    np.testing.assert_allclose(found.loc[(2, "upper"), "top1 by image"], [54.5 - 9, 54.5, 54.5 + 9])


def test_a_seed_ranks_or_is_measured_once_and_no_pair_is_none():
    alone = multi_distillation.frame_thirds(trainings("trials", (0,), lambda n, s: float(n)))
    assert alone.empty and list(alone) == ["third", "seed", "top1", "top1 by image"]
    twelve = multi_distillation.frame_thirds(trainings("trials", tuple(range(12)), lambda n, s: float(n)))
    assert twelve["seed"].unique().tolist() == [1, 3, 5, 7, 9, 11]


def test_thirds_leave_out_settings_of_which_a_training_of_the_pair_is_missing():
    results = trainings("trials", (0, 1, 2, 3), lambda n, s: 10.0 * n + s)
    frame = results.frame("trials")
    frame.loc[(frame["seed"] == 1) & (frame["number"] == 5), ["top1", "top1 by image"]] = np.nan
    frame.loc[frame["seed"] == 2, ["top1", "top1 by image"]] = np.nan
    found = multi_distillation.frame_thirds(SimpleNamespace(frame=lambda table: frame, study=results.study))
    assert found[["third", "seed", "top1"]].to_numpy().tolist() == [["lower", 1, 1.0], ["upper", 1, 41.0]]


def test_thirds_of_stored_trials_are_paired_by_image(tmp_path):
    study = smoke_of(tmp_path, overrides={"seeds": [0, 1], "trial_seeds": [0, 1]})
    stored = execute([cell.spec for cell in study.cells if cell.table.startswith("trials")], study.place)
    for frame in (multi_distillation.frame_thirds, multi_distillation.frame_thirds_equal):
        found = frame(Results(study, stored))
        assert found["third"].tolist() == ["lower", "upper"] and found["seed"].tolist() == [1, 1]
        assert all(
            row["top1 by image"].shape == (10,) and row["top1"] == pytest.approx(row["top1 by image"].mean()) for _, row in found.iterrows()
        )


def test_shares_of_the_terms_add_up_to_one(results):
    for axes in multi_distillation.figure_terms(results).axes:
        tops = [bar.get_y() + bar.get_height() for bar in axes.patches]
        assert len(tops) >= 5 and max(tops) == pytest.approx(1) and all(bar.get_height() >= 0 for bar in axes.patches)


def test_lines_of_the_search_never_fall(results):
    figure = multi_distillation.figure_search(results)
    steps = [line.get_ydata() for line in figure.axes[0].get_lines() if line.get_drawstyle() == "steps-post"]
    assert [len(line) for line in steps] == [6, 6] and all((np.diff(line) >= 0).all() for line in steps)
