"""Multi-distillation's search: its draws and proposals, the selections of the comparison, identities, killed and two at once."""

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import chi2

from tests.papers.multi_distillation.support import WEIGHTS, smoke_of
from tests.support import assert_same_result, computed, files_below, leave_trace
from vitlib import computing, load_study
from vitlib.computing import result_of
from vitlib.dumped import dump, rebuild
from vitlib.grid.results import Results
from vitlib.inputs.models import build, weights_of
from vitlib.papers import multi_distillation
from vitlib.papers.multi_distillation import compute
from vitlib.papers.multi_distillation.search.proposals import best_weights, finished_study, propose
from vitlib.papers.multi_distillation.search.settings import run_best, run_guided, run_trial, searched
from vitlib.papers.multi_distillation.search.space import LETTERS, Range
from vitlib.papers.multi_distillation.specs import Alone, Best, Combined, Guided, Proposals
from vitlib.papers.multi_distillation.tables import NAMED
from vitlib.runs.execute import execute
from vitlib.runs.store import Store
from vitlib.runs.workers.one import one_thread
from vitlib.spec import RunSpec, SpecError
from vitlib.studies.study import Study

SEARCH = ("trials", "guided", "best")


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
    monkeypatch.setattr(compute, "train_combined", lambda spec, context: seen.append(spec))
    for guided in run_guided(study.settings.changed(positions=2), round=0, position=0, seed=0).proposals.guided():
        result_of(guided, where(parent=lambda run: SimpleNamespace(arrays={"weights": proposed})))
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


@pytest.mark.parametrize("profile", ["smoke", "quick", "desk", "tiny", "paper"])
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
        result_of(spec, where(parent=parent))
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

        def traced(spec, context, compute=computing._FUNCTIONS[cls]):
            if context.scratch.name == spec.id:
                leave_trace(spec, context)
            return compute(spec, context)

        computing._FUNCTIONS[cls] = traced
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
