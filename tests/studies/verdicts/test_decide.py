"""Seeds added where verdicts are open: which runs they take, which claim comes first, what is refused, and that it goes on."""

import shutil
from dataclasses import replace

import pytest

from vitlib.spec import SpecError
from vitlib.studies.loading import load_study
from vitlib.studies.verdicts import decide

THREE, FIVE = {"seeds": [0, 1, 2]}, {"seeds": [0, 1, 2, 3, 4]}


@pytest.fixture(scope="module")
def declared(finished, tmp_path_factory):
    """AFR pruning's smoke study of three seeds, in a store of its own."""
    computed = finished("afr_pruning", THREE).place.results_dir
    folder = tmp_path_factory.mktemp("decide") / "results"
    shutil.copytree(computed, folder)
    return load_study("afr_pruning", "smoke", overrides=THREE, results_dir=str(folder), device="cpu")


@pytest.fixture(scope="module")
def wider(declared):
    return load_study("afr_pruning", "smoke", overrides=FIVE, results_dir=str(declared.place.results_dir), device="cpu")


def test_added_seeds_follow_the_declared_ones_up_to_thirty():
    seeds = decide.with_more_seeds(load_study("afr_pruning", "smoke", overrides={"seeds": [0, 7, 3]}).settings)["seeds"]
    assert seeds[:3] == [0, 7, 3] and seeds[3:] == list(range(8, 35)) and len(seeds) == 30


def test_a_claim_rests_on_the_runs_that_it_compares_at_its_latest_seed(wider):
    results = wider.execute(mode="read-only")
    (places,) = decide.rest_on(results, [claim for claim in wider.entry["claim"] if claim["sentence"] == "AFR beats SNIP on generic sets"])
    compared = {
        (cell.table, cell.point["criterion"])
        for cell in wider.cells
        if cell.table == "generic" and cell.point["criterion"] in ("afr", "snip") and cell.point["seed"] == 2
    }
    assert {(table, dict(point)["criterion"]) for table, point, _ in places} == compared == {("generic", "afr"), ("generic", "snip")}
    assert {number for *_, number in places} == {2}


def test_a_claim_about_one_training_rests_on_no_seed(finished):
    results = finished("dual_ssl_kd").execute(mode="read-only")
    assert decide.rest_on(results, [claim for claim in results.study.entry["claim"] if claim["table"] == "deep"]) == [set(), set()]


def test_the_next_row_lies_as_many_seeds_on_as_a_row_takes():
    point = frozenset({("method", "a")})
    at = {("t", point, number): f"run at {number}" for number in range(6)}
    ids = {place: type("Run", (), {"id": run})() for place, run in at.items()}
    assert [run.id for run in decide._next({("t", point, 1)}, ids)] == ["run at 2"]
    assert {run.id for run in decide._next({("t", point, 0), ("t", point, 1)}, ids)} == {"run at 2", "run at 3"}
    assert decide._next({("t", point, 5)}, ids) == () and decide._next(set(), ids) == ()


def test_a_step_costs_what_is_not_stored_of_it(wider):
    results = wider.execute(mode="read-only")
    for step in decide.open_steps(results):
        missing = [spec for spec in step.specs if spec.id not in results.stored]
        stored = [run.provenance["measured"]["training_seconds"] for run in results.stored.values() if run.id.startswith("pruned-")]
        assert missing and min(stored) * len(missing) <= step.seconds <= max(stored) * len(missing)


def test_nothing_is_computed_that_does_not_fit_the_budget(declared, wider):
    before = set(declared.place.results_dir.iterdir())
    assert list(decide.decide(wider, declared, 1e-3, "inline")) == []
    assert set(declared.place.results_dir.iterdir()) == before


def test_seeds_are_added_to_open_claims_the_cheapest_first_and_running_again_goes_on(declared, wider):
    first = min(decide.open_steps(wider.execute(mode="read-only")), key=lambda step: step.to_decide)
    began = wider.execute(mode="read-only").board()
    steps = decide.decide(wider, declared, 600.0, "inline")
    assert next(steps) == first
    assert next(steps, None) != first  # the first one is computed by now
    assert all(spec.id in wider.execute(mode="read-only").stored for spec in first.specs)
    steps.close()
    again = list(decide.decide(wider, declared, 600.0, "inline"))
    assert first not in again
    ended = wider.execute(mode="read-only")
    assert list(decide.decide(wider, declared, 600.0, "inline")) == [] == decide.open_steps(ended)
    board = ended.board()
    assert (board["n"] >= began["n"]).all() and (board["n"] > began["n"]).any() and (board["n"] <= 5).all()
    assert board["counted"][board["n"] > 3].str.endswith("sequential").all()


def test_added_seeds_go_on_from_declared_ones_that_are_stored(declared, wider, tmp_path):
    empty = replace(declared, place=replace(declared.place, results_dir=tmp_path))
    with pytest.raises(SpecError, match=r"decide: \d+ of \d+ runs of afr_pruning at profile smoke are not stored; compute them first"):
        next(decide.decide(wider, empty, 600.0, "inline"))
