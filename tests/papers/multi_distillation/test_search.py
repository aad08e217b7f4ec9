"""Multi-distillation's search: its draws and proposals, kills and rivals, and what tables, figures and files hold of it."""

import json
import random
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from scipy.stats import chi2

from tests.support import assert_same_result, computed, files_below, leave_trace
from vitlib import load_study
from vitlib.__main__ import main
from vitlib.inputs.models import build, weights_of
from vitlib.papers import multi_distillation
from vitlib.papers.multi_distillation.search.proposals import best_weights, finished_study, propose
from vitlib.papers.multi_distillation.search.settings import run_best, run_guided, run_trial, searched
from vitlib.papers.multi_distillation.search.space import LETTERS, Range, Weights
from vitlib.papers.multi_distillation.search.surrogate import fit
from vitlib.papers.multi_distillation.specs import Alone, Best, Combined, Guided, Proposals
from vitlib.papers.multi_distillation.tables import METHODS, NAMED, ORDERS, frame_results, held_out_frame, importances
from vitlib.report.tables import DASH, formatted
from vitlib.runs.execute import execute, one_thread
from vitlib.runs.store import Store
from vitlib.runs.study import Results, Study
from vitlib.spec import Context, RunSpec, SpecError, dump, rebuild

WEIGHTS = Weights(a=0.3, b=0.7, c=0.9, d=1.0, e=2.0, f=0.5, g=0.2, h=0.4, i=0.6)
NOTHING = Weights(**dict.fromkeys(LETTERS, 0.0))
SEARCH = ("trials", "guided", "best")
ARTEFACTS = sorted(name for name in vars(multi_distillation) if name.startswith(("table_", "figure_")))


def smoke_of(folder, **options) -> Study:
    return load_study("multi_distillation", "smoke", results_dir=str(folder), device="cpu", **options)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return smoke_of(tmp_path_factory.mktemp("multi") / "results")


@pytest.fixture(scope="module")
def results(study):
    return study.execute()


@pytest.fixture
def where(tmp_path):
    """Makes a context."""
    return lambda **fields: Context("cpu", tmp_path, **{"scratch": None, "parent": lambda run: None, **fields})


# ------------------------------------------------------------------------------------------------ the search


def draws(space, seed, numbers):
    return {number: space.drawn(seed, number).model_dump() for number in numbers}


def test_a_trial_is_a_function_of_the_searchs_seed_and_its_number_alone(study):
    space, order = study.settings.space, list(range(20))
    random.shuffle(order)
    assert draws(space, 3, order) == draws(space, 3, range(20))
    assert space.drawn(3, 1) != space.drawn(1, 3) != space.drawn(1, 4)
    assert len({json.dumps(each) for seed in (0, 1) for each in draws(space, seed, range(20)).values()}) == 40
    more = study.settings.changed(numbers=50, seeds=(0, 1), trial_seeds=(0, 1))
    assert [run_trial(more, number=n, seed=1).objective for n in range(6)] == [
        run_trial(study.settings, number=n, seed=0).objective for n in range(6)
    ]


def test_another_process_draws_the_same_trials(study):
    program = (
        "import json, sys; from vitlib.papers.multi_distillation.search.space import Space; space = Space.parse(json.load(sys.stdin)); "
    )
    program += "print(json.dumps([space.drawn(7, number).model_dump() for number in (9, 2)])); assert 'torch' not in sys.modules"
    space = study.settings.space
    done = subprocess.run([sys.executable, "-c", program], input=space.model_dump_json(), capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [space.drawn(7, number).model_dump() for number in (9, 2)]


def test_draws_are_uniform_on_the_grid_and_independent(study):
    space, count = study.settings.space, 3000
    drawn = pd.DataFrame([space.drawn(0, number).model_dump() for number in range(count)])
    for letter in LETTERS:
        each = getattr(space, letter)
        grid = [round(each.low + place * each.step, 9) for place in range(round((each.high - each.low) / each.step) + 1)]
        assert grid[-1] == each.high and set(drawn[letter]) == set(grid)
        counts = drawn[letter].value_counts()
        statistic = float(((counts - count / len(grid)) ** 2).sum() / (count / len(grid)))
        assert statistic < chi2.isf(1e-4, len(grid) - 1)
    assert np.abs(drawn.corr().to_numpy() - np.eye(9)).max() < 5 / np.sqrt(count)


@pytest.mark.parametrize(("high", "step"), [(0.9, 0.3), (1.0, 0.2)])
def test_steps_that_do_not_tile_a_range_are_refused(high, step):
    with pytest.raises(SpecError, match=rf"step={step} does not lead from low=0\.1 to high={high}; allowed: a whole number of steps"):
        Range(low=0.1, high=2.0, step=0.1).changed(high=high, step=step)


@pytest.fixture
def round_of(study, where):
    """Proposals of a round after six random trials whose accuracy is a function of their weights."""

    def proposed(accuracy, **fields):
        spec = run_guided(study.settings.changed(numbers=8, positions=1), round=0, position=0, seed=0).proposals.changed(**fields)
        answers = {t.id: SimpleNamespace(metrics=(w := t.objective.weights.model_dump()) | {"top1": accuracy(w)}) for t in spec.trials()}
        return propose(spec, where(parent=lambda run: answers[run.id])).arrays["weights"]

    return proposed


def test_proposals_are_a_function_of_the_trials_before_and_the_seed(round_of):
    first, again = (round_of(lambda w: 50 - w["h"], size=5) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert first.shape == (5, 9) and len(np.unique(first, axis=0)) == 5
    for other in (
        round_of(lambda w: 50 + w["h"], size=5),
        round_of(lambda w: 50 - w["h"], size=5, search_seed=1),
        round_of(lambda w: 50 - w["h"], size=5, first=5),
    ):
        assert (first != other).any()


def test_proposals_after_the_same_trials_differ_by_the_searchs_seed(study, where):
    spec = run_guided(study.settings, round=0, position=0, seed=0).proposals.changed(size=3)
    rows = iter(2 * [study.settings.space.drawn(5, n).model_dump() | {"top1": 10.0 * n} for n in range(spec.first)])
    found = [
        propose(spec.changed(search_seed=seed), where(parent=lambda run: SimpleNamespace(metrics=next(rows)))).arrays["weights"]
        for seed in (0, 1)
    ]
    assert (found[0] != found[1]).any()


def test_proposals_lie_where_trials_were_good(round_of):
    """Of 40 random trials, those of small h and large c are the best."""
    found = pd.DataFrame(round_of(lambda w: 50 - 5 * w["h"] + 10 * w["c"], size=40, first=40), columns=list(LETTERS))
    assert found["h"].mean() < 1.7 and found["c"].mean() > 0.65


def test_proposals_lie_on_the_grid(study, round_of):
    for letter, column in zip(LETTERS, round_of(lambda w: 50 - w["h"], size=30).T, strict=True):
        each = getattr(study.settings.space, letter)
        assert column.min() >= each.low and column.max() <= each.high + 1e-9
        places = (column - each.low) / each.step
        np.testing.assert_allclose(places, places.round(), atol=1e-9)


def test_proposals_are_the_numbers_that_the_random_search_draws(study, round_of):
    for letter, column in zip(LETTERS, round_of(lambda w: 50 - w["h"], size=30).T, strict=True):
        assert set(column) <= set(getattr(study.settings.space, letter).values)


def test_a_guided_trial_is_the_proposal_at_its_place(study, where, monkeypatch):
    seen, proposed = [], np.round(np.random.default_rng(0).random((2, 9)) + 0.1, 1)
    monkeypatch.setattr(Combined, "compute", lambda spec, context: seen.append(spec))
    for guided in run_guided(study.settings.changed(positions=2), round=0, position=0, seed=0).proposals.guided():
        guided.compute(where(parent=lambda run: SimpleNamespace(arrays={"weights": proposed})))
    assert [list(run.objective.weights.model_dump().values()) for run in seen] == proposed.tolist()
    trial = run_trial(study.settings, number=0, seed=0)
    assert all(run.changed(objective=trial.objective) == trial for run in seen)


def test_a_finished_study_holds_the_trials_with_their_values(study):
    trials = pd.DataFrame([study.settings.space.drawn(0, n).model_dump() | {"top1": 10.0 * n} for n in (2, 0, 1)])
    found = finished_study(trials, study.settings.space).trials
    assert [trial.state.name for trial in found] == ["COMPLETE"] * 3 and [trial.value for trial in found] == [20, 0, 10]
    assert [trial.params for trial in found] == trials[list(LETTERS)].to_dict("records")


def test_the_best_setting_has_the_highest_mean_over_its_trainings_and_comes_first():
    one, two, three = (WEIGHTS.changed(h=h) for h in (1.0, 2.0, 3.0))
    trials = [(one, 60.0), (two, 90.0), (three, 70.0), (one, 60.0), (two, 10.0), (three, 50.0)]
    stored = [SimpleNamespace(metrics=weights.model_dump() | {"top1": top1, "other": "x"}) for weights, top1 in trials]
    assert best_weights(stored) == one and best_weights(stored[2:4] + stored[5:]) == three and best_weights(stored[1:3]) == two
    assert best_weights(stored[::-1]) == three


def test_both_searches_have_as_many_trials_and_share_the_first(study):
    settings = study.settings.changed(numbers=20, rounds=3, positions=4)
    random_trials, guided = (searched(settings, name, 1) for name in ("random", "tpe"))
    assert len({run.id for run in random_trials}) == len({run.id for run in guided}) == 20
    assert guided[:8] == random_trials[:8] and all(isinstance(run, Guided) for run in guided[8:])
    assert guided[8:] == [run_guided(settings, round=r, position=p, seed=1) for r in range(3) for p in range(4)]
    assert [len(run.proposals.trials()) for run in guided[8::4]] == [8, 12, 16]
    assert {run.seed for run in random_trials} == {1}


def test_each_seed_of_the_comparison_has_selections_of_its_own(tmp_path):
    """From the random search and a TPE search on its own trial seed, whose random settings are the same draw."""
    study = smoke_of(tmp_path, overrides={"seeds": [0, 1, 2], "trial_seeds": [7, 3, 5]})
    chosen = {(cell.point["search"], cell.point["seed"]): cell.spec for cell in study.cells if cell.table == "best"}
    grid = {table: {cell.spec.id for cell in study.cells if cell.table == table} for table in ("trials", "guided")}
    assert len(grid["guided"]) == 3 * 2
    for seed, trial_seed in enumerate((7, 3, 5)):
        random_trials, guided = (chosen[search, seed].trials for search in ("random", "tpe"))
        assert {seeds_of(run)[0].pop() for run in (*random_trials, *guided)} == {trial_seed}
        assert [run.objective for run in random_trials] == [run.objective for run in chosen["random", 0].trials]
        assert {run.id for run in random_trials} <= grid["trials"] and {run.id for run in guided} <= grid["trials"] | grid["guided"]
        assert {parent.base.seed for run in guided[4:] for parent in run.parents()} == {trial_seed}
    assert len({run.id for best in chosen.values() for run in best.trials}) == 3 * (6 + 2)


def seeds_of(run: RunSpec) -> tuple[set[int], set[int]]:
    """Seeds of the batches and of the networks of a run's own training, and of the networks that it starts or learns from."""
    if isinstance(run, Guided):
        return seeds_of(run.proposals.base)
    if isinstance(run, Best):
        return seeds_of(run.base)
    if isinstance(run, Alone):
        return {run.seed}, {run.seed}
    others = [seeds_of(other) for other in (run.teacher, *(run.warm_start or ())) if other]
    own = run.peers[:1] if run.teacher else run.peers
    return {run.seed}.union(*(batches for batches, _ in others)), set(own).union(*(networks for _, networks in others))


@pytest.mark.parametrize("profile", ["smoke", "quick", "desk", "cifar", "paper"])
@pytest.mark.parametrize("warm", [False, True])
def test_no_training_of_the_comparison_has_a_network_or_an_order_of_batches_that_the_selection_saw(profile, warm, tmp_path):
    study = load_study("multi_distillation", profile, overrides={"warm": warm}, results_dir=str(tmp_path), data_dir=str(tmp_path))
    compared = [cell.spec for cell in study.cells if cell.table in NAMED]
    selected = [cell.spec for cell in study.cells if cell.table in ("trials", "trials_equal", "guided", "variations", "prior")]
    assert len(compared) + len(selected) + 3 == len(study.cells), "a table is in neither, and the three costs train nothing"
    kinds = [[set().union(*seeds) for seeds in zip(*map(seeds_of, runs), strict=True)] for runs in (compared, selected)]
    for used, seen in zip(*kinds, strict=True):
        assert used and seen and not used & seen
    (batches, networks), (seen_batches, seen_networks) = kinds
    assert not (batches | networks) & (seen_batches | seen_networks), "one number does not seed a network here and batches there"


def test_rows_of_the_comparison_are_paired_by_the_same_networks_and_batches(study):
    """One seed is one order of batches, and one first network, for every row with peers."""
    rows = [cell.spec.base if isinstance(cell.spec, Best) else cell.spec for cell in study.cells if cell.table in NAMED]
    assert len({run.seed for run in rows}) == 1
    assert len({run.peers for run in rows if isinstance(run, Combined)}) == 1


@pytest.mark.parametrize(
    ("seeds", "trial_seeds", "shared", "first"),
    [
        ([0], [10_000], "10000, 11000, 20000, 20001, 21000, 21001", 5),
        ([0, 1], [5000, 6], "10000, 10001, 11000, 11001", 2),
        ([10_000], [20_000], "20000, 21000, 40000, 40001, 41000, 41001", 1),
        ([7], [9007], "10007", 0),
    ],
)
def test_seeds_that_a_trial_trains_with_are_refused_for_the_comparison(seeds, trial_seeds, shared, first):
    overrides = {"seeds": seeds, "trial_seeds": trial_seeds}
    with pytest.raises(SpecError) as refused:
        load_study("multi_distillation", "smoke", overrides=overrides)
    for text in (
        f"seeds={seeds}, which train from 10000 on, share {shared} with",
        f"trial_seeds={trial_seeds}",
        "allowed: other trial_seeds",
    ):
        assert text in str(refused.value)
    load_study("multi_distillation", "smoke", overrides={"seeds": [first], "trial_seeds": trial_seeds[:1]})
    load_study("multi_distillation", "smoke", overrides={"seeds": [0, 1, 2], "trial_seeds": [0, 1, 2]})


def test_runs_keep_their_identity_through_a_file(study):
    for spec in (
        run_guided(study.settings, round=1, position=0, seed=0),
        *(run_best(study.settings, search=s, step="equal", seed=0) for s in ("random", "tpe")),
    ):
        again = rebuild(json.loads(json.dumps(dump(spec))))
        assert again == spec and again.id == spec.id and [run.id for run in again.family()] == [run.id for run in spec.family()]
    assert run_guided(study.settings, round=0, position=0, seed=0).id != run_guided(study.settings, round=1, position=0, seed=0).id


def test_the_family_of_a_long_search_is_walked_once(study, monkeypatch):
    settings, asked = study.settings.changed(numbers=100, rounds=5, positions=10), []
    for cls in (Alone, Combined, Proposals, Guided, Best):

        def noted(spec, parents=cls.parents):
            asked.append((spec, found := parents(spec)))
            return found

        monkeypatch.setattr(cls, "parents", noted)
    began = time.process_time()
    family = [run.id for run in run_best(settings, search="tpe", step="equal", seed=0).family()]
    assert time.process_time() - began < 3  # 0.2 s on a free core
    assert len(family) == len(set(family)) == 100 + 5 + 1 and len(asked) <= 2 * len(family)
    position = {run_id: place for place, run_id in enumerate(family)}
    assert all(position[parent] < position[run.id] for run, parents in asked for parent in {parent.id for parent in parents[-10:]})


@pytest.mark.parametrize("warm", [False, True])
@pytest.mark.parametrize("kind", [Guided, Best])
def test_a_run_asks_for_its_parents_results_alone(study, where, monkeypatch, kind, warm):
    settings, asked = study.settings.changed(warm=warm), []
    spec = (
        run_guided(settings, round=0, position=0, seed=0)
        if kind is Guided
        else run_best(settings, search="random", step="as given", seed=0)
    )

    def parent(run):
        asked.append(run.id)
        answers = {
            "weights": weights_of(build(settings.model, image_size=8, channels=1, num_classes=10)),
            "arrays": {"weights": np.full((1, 9), 0.5)},
        }
        return SimpleNamespace(metrics=WEIGHTS.model_dump() | {"top1": 10.0}, **answers)

    with one_thread("cpu"):
        spec.compute(where(parent=parent))
    assert asked and set(asked) <= {run.id for run in spec.parents()}


# ------------------------------------------------------------------------------------------------ killed, and two at once


def search_specs(study: Study) -> list[RunSpec]:
    return list({cell.spec.id: cell.spec for cell in study.cells if cell.table in SEARCH}.values())


def execute_search(folder: Path) -> None:
    study = smoke_of(folder)
    execute(search_specs(study), study.place)


def execute_traced(folder: Path, start) -> None:
    """One line in `folder/computed` for each run that is computed for the store, not for what it computes within."""
    for cls in (Alone, Combined, Proposals, Guided, Best):

        def traced(spec, context, compute=cls.compute):
            if context.scratch.name == spec.id:
                leave_trace(spec, context)
            return compute(spec, context)

        cls.compute = traced
    study = smoke_of(folder / "results", data_dir=str(folder))
    start.wait()
    execute(search_specs(study), study.place)


def as_bytes(study: Study) -> list[str]:
    """What a reader sees of a search."""
    results = study.execute(mode="read-only")
    frames = [multi_distillation.table_search(results), *(results.frame(table) for table in SEARCH)]
    return [frame.to_csv(index=False) for frame in frames]


def assert_same_search(folder: Path, results: Results) -> None:
    assert as_bytes(smoke_of(folder)) == as_bytes(results.study)
    found, whole = (Store(place, writable=False) for place in (folder, results.study.place.results_dir))
    wanted = {run.id for spec in search_specs(results.study) for run in spec.family()}
    assert set(found.ids()) == wanted and sum(run_id.startswith("proposals") for run_id in wanted) == 2
    for run_id in wanted:
        assert_same_result(found.read(run_id), whole.read(run_id))
    assert [files_below(folder / name) for name in (".partial", ".scratch", ".claims", ".damaged", ".failed")] == [[]] * 5


def test_a_search_killed_at_ten_random_moments_proposes_the_same_trials_and_ends_with_the_same_table(results, forking, tmp_path):
    kills, moments, killed = 10, random.Random(0), 0
    runs = len({run.id for spec in search_specs(results.study) for run in spec.family()})
    for kill in range(kills):
        child = forking.Process(target=execute_search, args=(tmp_path,), daemon=True)
        child.start()
        while child.is_alive() and len(list(tmp_path.glob("[!.]*/manifest.json"))) < kill * runs / kills:
            time.sleep(0.002)
        child.join(moments.uniform(0, 0.3))
        child.kill()
        child.join()
        killed += child.exitcode == -signal.SIGKILL
    assert killed >= kills - 2  # the last may come too late on a slow machine
    child = forking.Process(target=execute_search, args=(tmp_path,), daemon=True)
    child.start()
    child.join()
    assert child.exitcode == 0
    assert_same_search(tmp_path, results)


def test_two_processes_on_one_search_compute_every_trial_once(results, forking, tmp_path):
    start = forking.Barrier(2)
    children = [forking.Process(target=execute_traced, args=(tmp_path, start), daemon=True) for _ in range(2)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    assert [child.exitcode for child in children] == [0, 0]
    assert_same_search(tmp_path / "results", results)
    assert sorted(computed(SimpleNamespace(data_dir=tmp_path))) == Store(tmp_path / "results", writable=False).ids()


# ------------------------------------------------------------------------------------------------ tables and figures


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


@pytest.mark.parametrize(("letter", "sign"), [("h", -1), ("c", 1)])
def test_a_planted_dependence_is_found(study, letter, sign):
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


# ------------------------------------------------------------------------------------------------ surrogate, explorer


@pytest.fixture(scope="module")
def surface(study):
    """400 trials whose accuracy depends on h and c, with noise of one point."""
    noise = np.random.default_rng(1).normal(0, 1, 400)
    drawn_ = [study.settings.space.drawn(0, number).model_dump() for number in range(400)]
    return pd.DataFrame([w | {"top1": 50 - 4 * w["h"] + 10 * w["c"] + noise[n]} for n, w in enumerate(drawn_)])


def test_the_surrogate_knows_the_surface_to_the_noise(study, surface):
    surrogate = fit(surface, study.settings.space)
    assert 0.9 < surrogate.error < 2
    for h in (0.5, 2.5, 4.5):
        weights = {**dict.fromkeys("abfg", 0.5), "d": 50.0, "e": 50.0, "i": 2.5, "c": 0.5, "h": h}
        assert surrogate.predicted(weights) == pytest.approx(50 - 4 * h + 5, abs=2.5)


def test_the_nearest_trial_of_a_measured_setting_is_itself_and_of_others_the_nearest_in_units_of_the_ranges(study, surface):
    few = pd.concat([surface[:30], surface[:30].assign(top1=lambda frame: frame["top1"] + 2)])
    surrogate = fit(few, study.settings.space)
    assert len(surrogate.trials) == 30
    for _, row in surface[:30].iterrows():
        assert surrogate.nearest(row[list(LETTERS)].to_dict()).to_dict() == pytest.approx({**row.to_dict(), "top1": row["top1"] + 1})
    spans = {letter: getattr(study.settings.space, letter).high - getattr(study.settings.space, letter).low for letter in LETTERS}
    for number in range(400, 420):
        wanted = study.settings.space.drawn(0, number).model_dump()
        ways = [sum(((row[k] - wanted[k]) / spans[k]) ** 2 for k in LETTERS) for _, row in surface[:30].iterrows()]
        assert surrogate.nearest(wanted)[list(LETTERS)].to_dict() == surface.iloc[int(np.argmin(ways))][list(LETTERS)].to_dict()


def test_the_explorer_begins_at_the_best_trial_and_draws_at_both_ends_of_its_controls(results):
    explorer = multi_distillation.explore_weights(results)
    best = results.frame("trials").set_index("number").loc[lambda frame: frame["top1"].idxmax()]
    assert {name: control.value for name, control in explorer.controls.items()} == pytest.approx(best[list(LETTERS)].to_dict())
    surrogate = fit(results.frame("trials"), results.study.settings.space)
    for end in ("min", "max"):
        weights = {name: getattr(control, end) for name, control in explorer.controls.items()}
        assert weights == pytest.approx(
            {k: getattr(getattr(results.study.settings.space, k), {"min": "low", "max": "high"}[end]) for k in LETTERS}
        )
        figure = multi_distillation.draw_prediction(surrogate, results.study.settings.space, weights)
        assert [bar.get_height() for bar in figure.axes[0].patches] == pytest.approx([float(end == "max")] * 9)
    assert type(multi_distillation.explore_weights(Results(results.study, {}))).__name__ == "NothingToExplore"


# ------------------------------------------------------------------------------------------------ taken away


@pytest.mark.parametrize("search", ["random", "tpe"])
def test_the_best_setting_taken_away_is_a_method_of_the_comparison(results, tmp_path, search, capsys):
    path = multi_distillation.save_best(results, tmp_path / "new" / "best.toml", search)
    folder = shutil.copytree(results.study.place.results_dir, tmp_path / "results")
    arguments = ["multi_distillation", "--profile", "smoke", "--results-dir", str(folder), "--device", "cpu", "--from", str(path)]
    assert main(["run", *arguments, "--executor", "inline"]) == 0
    taken = smoke_of(folder, overrides=tomllib.loads(path.read_text(encoding="utf-8")))
    run, best = taken.execute(mode="read-only").run("methods", method="best"), results.run("best", search=search, step="as given")
    assert run.metrics == best.metrics and len(taken.specs) == len(results.study.specs) + 1
    assert taken.settings.changed(methods=results.study.settings.methods) == results.study.settings
    capsys.readouterr()
    assert main(["status", *arguments, "--overrides", '{"seeds": [0, 1], "trial_seeds": [0, 1]}']) == 0
    (counts,) = (line.split() for line in capsys.readouterr().out.splitlines() if line.startswith("methods"))
    assert sorted(map(int, counts[1:])) == [8, 8]  # by seed: stored, missing


def test_a_search_that_is_not_whole_or_not_known_is_refused(results, tmp_path):
    gone = next(cell.spec.id for cell in results.study.cells if cell.table == "guided")
    fewer = Results(results.study, {run_id: run for run_id, run in results.stored.items() if run_id != gone})
    multi_distillation.save_best(fewer, tmp_path / "random.toml")
    with pytest.raises(SpecError, match=r"search: 5 of the 6 trials of 'tpe' are stored; execute the study first"):
        multi_distillation.save_best(fewer, tmp_path / "tpe.toml", "tpe")
    with pytest.raises(SpecError, match=r"search: got 'grid'; allowed: random, tpe"):
        multi_distillation.save_best(results, tmp_path / "grid.toml", "grid")
    assert [path.name for path in tmp_path.iterdir()] == ["random.toml"]


@pytest.mark.parametrize("content", [None, "[methods.best\n", "a = 1\nb", b"\xff\xfe"])
def test_a_settings_file_that_cannot_be_read_is_refused_with_its_name(tmp_path, capsys, content):
    path = tmp_path / "best.toml"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(SystemExit) as error:
        main(["run", "multi_distillation", "--profile", "smoke", "--results-dir", str(tmp_path / "results"), "--from", str(path)])
    said = capsys.readouterr().err
    assert error.value.code == 2 and str(path) in said and "allowed: a TOML file of settings" in said
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[methods.best.objective.weights]\na = 1.0\n", r"methods\.best\.objective\.weights\.b: missing"),
        ("[method.best]\na = 1.0\n", r"method: unknown field; did you mean 'methods'"),
        (
            "[methods.best]\nobjective = {weights = {a = 0.0, b = 0.0, c = 0.0, d = 0.0, e = 0.0, f = 1.0, g = 1.0, h = 0.0, i = 0.0}}\n",
            r"no label",
        ),
    ],
)
def test_a_settings_file_with_other_contents_is_refused_before_anything_is_computed(tmp_path, capsys, content, message):
    path = tmp_path / "best.toml"
    path.write_text(content)
    assert main(["run", "multi_distillation", "--profile", "smoke", "--results-dir", str(tmp_path / "results"), "--from", str(path)]) == 2
    assert pd.Series([capsys.readouterr().err]).str.contains(message).all()
    assert not (tmp_path / "results").exists()
