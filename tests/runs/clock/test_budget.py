"""A budget of time: which run begins next, what is interrupted, who is waited for, and that calling again comes to the end."""

import tempfile
import time
from itertools import count

import pytest

from tests.support import Number, Total, computed, files_below
from vitlib import computing
from vitlib.computing import OutOfTimeError
from vitlib.runs import execute as executing
from vitlib.runs.clock import budget as clock
from vitlib.runs.clock.budget import IN_VAIN, REACHED, Budget, Turns, note, noted
from vitlib.runs.execute import RunsFailedError, TimeIsUpError, execute
from vitlib.runs.executors import driver, inline
from vitlib.runs.plan import make_plan
from vitlib.runs.workers import alone, one
from vitlib.spec import SpecError

ONE, TWO, THREE = (Number(value=value) for value in (1, 2, 3))
SUM = Total(left=ONE, right=TWO)


class Clock:
    """Time that passes when a run is computed, and not otherwise."""

    def __init__(self):
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def hours(monkeypatch, tmp_path):
    """A clock of the budget's own, and a host of its own: whoever measures beside these tests keeps nobody waiting."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    made = Clock()
    for module in (clock, driver, one, alone):
        monkeypatch.setattr(module, "time", made)
    return made


def turns(store, specs, budget, seconds):
    """Turns of runs that take the seconds given by their value; of sums, one."""
    return Turns(make_plan(specs, store), store, budget, lambda spec: seconds.get(getattr(spec, "value", None), 1.0))


def first(found, ready, waiting=None):
    chosen = found.next([spec.id for spec in ready], {spec.id: spec for spec in waiting or ready})
    return next((spec for spec in (*ready, *(waiting or ())) if spec.id == chosen), None)


# ------------------------------------------------------------------------------------------------ which run begins


def test_without_a_budget_the_first_ready_run_begins_whatever_it_takes(store):
    assert first(turns(store, [ONE, TWO], Budget(), {1: 1e12}), [ONE, TWO]) == ONE


def test_a_run_that_does_not_fit_lets_a_later_one_that_does_go_before_it(store, hours):
    budget = Budget(100.0)
    found = turns(store, [ONE, TWO, THREE], budget, {1: 30.0, 2: 80.0, 3: 60.0})
    assert first(found, [ONE, TWO, THREE]) == ONE
    hours.sleep(30)
    assert first(found, [TWO, THREE]) == THREE
    hours.sleep(60)
    assert first(found, [TWO]) is None  # it would have fitted into the whole budget: next time it comes first


def test_a_run_longer_than_the_whole_budget_begins_once_nothing_else_fits(store, hours):
    found = turns(store, [ONE, TWO, THREE], Budget(100.0), {1: 150.0, 2: 30.0, 3: 90.0})
    assert first(found, [ONE, TWO, THREE]) == TWO
    hours.sleep(30)
    assert first(found, [ONE, THREE]) == ONE
    hours.sleep(70)
    assert first(found, [ONE, THREE]) is None


def test_what_fits_with_its_parents_is_waited_for_before_a_long_run_takes_the_worker(store, hours):
    budget = Budget(100.0)
    found = turns(store, [SUM, THREE], budget, {1: 10.0, 2: 10.0, 3: 150.0})
    assert first(found, [ONE, TWO, THREE]) == ONE
    assert first(found, [THREE], waiting=[SUM, THREE]) is None  # ONE and TWO are under way, SUM comes next
    assert first(found, [THREE], waiting=[THREE]) == THREE


def test_a_child_of_a_long_run_keeps_nobody_waiting(store, hours):
    found = turns(store, [SUM, THREE], Budget(100.0), {1: 150.0, 2: 150.0, 3: 1.0})
    assert first(found, [ONE, TWO, THREE]) == THREE
    assert first(found, [ONE, TWO], waiting=[ONE, TWO, SUM]) == ONE
    assert first(found, [TWO], waiting=[TWO, SUM]) == TWO


def test_the_first_run_of_a_call_begins_though_the_time_is_already_up(store, hours):
    found = turns(store, [ONE, TWO], Budget(1.0), {})
    hours.sleep(5)
    assert first(found, [ONE, TWO]) == ONE
    assert first(found, [TWO]) is None


def test_what_runs_took_corrects_the_estimates(store, hours):
    budget = Budget(1000.0)
    found = turns(store, [ONE, TWO], budget, {1: 100.0, 2: 250.0})
    assert first(found, [ONE, TWO]) == ONE
    found.took(ONE.id, 305.0)
    assert budget.pace == (305 + clock.USUAL) / (100 + clock.USUAL) == pytest.approx(2.95, abs=0.01)
    hours.sleep(305)
    assert budget.left < found.seconds(TWO.id) == 250 * budget.pace < budget.seconds
    assert first(found, [TWO]) is None


def test_of_an_interrupted_run_only_the_rest_counts(store, hours):
    note(store, ONE.id, REACHED, 0.75)
    found = turns(store, [ONE], Budget(100.0), {1: 200.0})
    assert found.seconds(ONE.id) == 50.0
    assert first(found, [ONE]) == ONE


def test_a_run_that_was_given_up_is_not_begun_again_unless_there_is_more_time(store, hours):
    note(store, ONE.id, IN_VAIN, 130.0)
    assert first(turns(store, [ONE, TWO], Budget(100.0), {}), [ONE, TWO]) == TWO
    small = turns(store, [ONE], Budget(100.0), {})
    assert first(small, [ONE]) is None
    assert small.remarks([ONE.id]) == [f"{ONE.id} keeps no checkpoint and takes more than 130 s: give it more"]
    assert first(turns(store, [ONE], Budget(140.0), {}), [ONE]) == ONE


# ------------------------------------------------------------------------------------------------ in this process


@pytest.fixture
def pieces(monkeypatch, hours):
    """`pieces[value]`: how many pieces of 10 seconds a number takes; it ends at the deadline with its share noted, as a training does."""
    pieces, compute = {}, computing._FUNCTIONS[Number]

    def slowly(spec, context):
        path = context.scratch / "checkpoint.pt"
        done = int(path.read_text()) if path.exists() else 0
        for piece in range(done, pieces.get(spec.value, 1)):
            if hours.now >= context.deadline and piece:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(str(piece))
                raise OutOfTimeError(piece / pieces[spec.value])
            hours.sleep(10)
        return compute(spec, context)

    monkeypatch.setitem(computing._FUNCTIONS, Number, slowly)
    return pieces


def execute_within(place, seconds, specs, estimate=lambda spec: 10.0, **more):
    return execute(specs, place, budget=Budget(seconds), seconds=estimate, **more)


def test_what_the_time_does_not_suffice_for_is_left_and_the_same_call_goes_on(place, store, pieces):
    with pytest.raises(TimeIsUpError, match=r"^time is up: 2 run\(s\) stored, 2 left$") as error:
        execute_within(place, 25, [ONE, SUM, THREE])
    assert list(error.value.left) == [SUM.id, THREE.id] and error.value.seconds == pytest.approx(20)
    assert store.ids() == sorted([ONE.id, TWO.id])
    assert set(execute_within(place, 25, [ONE, SUM, THREE])) >= {ONE.id, SUM.id, THREE.id}
    assert sorted(computed(place)) == sorted([ONE.id, TWO.id, SUM.id, THREE.id])


def test_a_run_longer_than_every_budget_is_done_in_pieces(place, store, pieces):
    pieces[1] = 10
    for calls in count(1):
        try:
            execute_within(place, 30, [ONE], lambda spec: 100.0)
            break
        except TimeIsUpError as error:
            reached = noted(store, ONE.id, REACHED)
            assert reached == pytest.approx(0.3 * calls)
            assert f"0 run(s) stored, 1 left; {ONE.id} is at {reached:.0%} and goes on from there" in str(error)
            assert ("longer than the budget, done piece by piece" in str(error)) is (100 * (1 - reached) > 30)
            assert store.failure(ONE.id) is None
    assert calls == 4
    assert computed(place) == store.ids() == [ONE.id]
    assert files_below(store.root / ".scratch") == []


@pytest.mark.parametrize("seconds", [0.1, 5, 15, 45, 1000])
@pytest.mark.parametrize("wrong_by", [0.01, 1.0, 30.0])
def test_calling_again_comes_to_the_end_whatever_the_budget_and_however_wrong_the_estimates(seconds, wrong_by, place, store, pieces):
    pieces.update({1: 1, 2: 7, 3: 3})
    specs = [SUM, Total(left=SUM, right=THREE)]
    family = {member.id for spec in specs for member in spec.family()}
    before = -1.0
    for _ in range(40):
        try:
            execute_within(place, seconds, specs, lambda spec: wrong_by * 10 * pieces.get(getattr(spec, "value", 0), 1))
            break
        except TimeIsUpError:
            after = len(store.ids()) + sum(noted(store, run_id, REACHED) for run_id in family)
            assert after > before, "a call that got nowhere"
            before = after
    assert set(store.ids()) == family
    assert sorted(computed(place)) == sorted(family)


def test_failures_are_told_beside_what_is_left_and_alone_once_nothing_is(place, store, pieces):
    (place.data_dir / f"break-{ONE.id}").touch()
    with pytest.raises(
        TimeIsUpError, match=rf"(?s)0 run\(s\) stored, 2 left\n2 run\(s\) failed, 0 are stored:.*{ONE.id}: Arithm.*{SUM.id}: its par"
    ):
        execute_within(place, 10, [SUM, THREE])
    with pytest.raises(RunsFailedError, match=r"2 run\(s\) failed, 2 are stored"):
        execute_within(place, 1000, [SUM, THREE])


def test_a_run_that_another_driver_holds_is_not_waited_for_beyond_the_deadline(place, store):
    began = time.monotonic()
    with store.claim(ONE.id), pytest.raises(TimeIsUpError, match=r"1 run\(s\) stored, 2 left"):
        execute([SUM], place, budget=Budget(1.0), seconds=lambda spec: 0.01)
    assert 1.0 <= time.monotonic() - began < 2.0
    assert store.ids() == [TWO.id]


def test_what_another_driver_stored_meanwhile_is_not_left(place, monkeypatch):
    """It was held when it was this driver's turn, and stored before the deadline."""
    compute_one = inline.compute_one
    monkeypatch.setattr(inline, "compute_one", lambda *arguments, **options: compute_one(*arguments, **options)._replace(what="held"))
    assert set(execute([ONE], place, budget=Budget(0.1), seconds=lambda spec: 1.0)) == {ONE.id}


def test_where_the_time_is_over_no_worker_is_started(place, monkeypatch):
    """Of several studies that share a budget, for instance."""
    monkeypatch.setattr(executing, "_compute", lambda *_: pytest.fail("something was begun"))
    budget = Budget(-1.0)
    budget.begun = True
    with pytest.raises(TimeIsUpError, match=r"0 run\(s\) stored, 3 left"):
        execute([SUM], place, executor="local", budget=budget)


@pytest.mark.parametrize("mode", ["force", "read-only"])
def test_a_budget_where_calling_again_would_not_go_on_is_refused(mode, place):
    with pytest.raises(SpecError, match=rf"budget: got one with mode='{mode}', which .*; allowed: mode='cached' or 'retry'"):
        execute([ONE], place, mode=mode, budget=Budget(10.0))
    assert not place.results_dir.exists()


def test_several_processes_on_one_run_take_no_budget(place, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(SpecError, match="budget: got one in processes that torchrun started"):
        execute([ONE], place, budget=Budget(10.0))
