"""When runs end: against schedules made by hand, and what must hold of any."""

from dataclasses import replace

import pytest

from vitlib.spec import RunSpec
from vitlib.studies.costs import schedule
from vitlib.studies.costs.amounts import Amounts, amounts_of
from vitlib.studies.costs.schedule import ends, wall
from vitlib.studies.costs.speed.rates import SHIPPED
from vitlib.studies.loading import load_study
from vitlib.training.work.registry import Sets

SECOND = replace(
    SHIPPED["cpu-2-cores"],
    **dict.fromkeys(("products", "convolutions", "elements", "heads", "kernels", "moved"), 0.0),
    runs=1.0,
    start=10.0,
)


class Step(RunSpec):
    name: str
    seconds: float
    after: tuple["Step", ...] = ()

    def parents(self):
        return self.after


class Timed(Step):
    timed = True


@pytest.fixture(autouse=True)
def priced(monkeypatch):
    """Runs of this file take the seconds that they name."""
    of_documents = schedule.amounts_of

    def amounts(spec, sets):
        return Amounts(products=spec.seconds, runs=spec.seconds) if isinstance(spec, Step) else of_documents(spec, sets)

    monkeypatch.setattr(schedule, "amounts_of", amounts)


def named(specs, rates=SECOND):
    found = ends(specs, rates, None)
    return {spec.name: pytest.approx(found[spec.id]) for spec in specs}


def test_two_slots_take_the_first_runs_in_their_order():
    runs = [Step(name="a", seconds=3), Step(name="b", seconds=1), Step(name="c", seconds=4)]
    assert named(runs) == {"a": 13, "b": 11, "c": 15}


def test_a_child_waits_for_its_parent_and_lets_later_runs_begin():
    parent = Step(name="parent", seconds=3)
    runs = [parent, Step(name="child", seconds=2, after=(parent,)), Step(name="other", seconds=4)]
    assert named(runs) == {"parent": 13, "other": 14, "child": 15}


def test_a_parent_that_is_stored_keeps_nobody_waiting():
    assert named([Step(name="child", seconds=2, after=(Step(name="stored", seconds=90),))]) == {"child": 12}


def test_a_run_that_measures_time_begins_after_those_under_way_and_nothing_beside_it():
    runs = [Step(name="a", seconds=3), Timed(name="timed", seconds=2), Step(name="b", seconds=1), Timed(name="again", seconds=2)]
    assert named(runs) == {"a": 13, "timed": 15, "b": 16, "again": 18}


def test_nothing_to_compute_takes_no_time():
    assert wall([], SECOND, None) == 0


def test_runs_that_share_a_card_share_its_time_and_overlap_in_what_the_host_does_alone():
    h100 = SHIPPED["h100"]
    card, host = Amounts(half=1e15, elements=1e12), Amounts(kernels=1e6, runs=1)
    assert h100.sharing and h100.slots == 4
    assert h100.seconds(card + host, 4) == pytest.approx(4 * h100.seconds(card) + h100.seconds(host))
    assert SECOND.seconds(card + host, 4) == SECOND.seconds(card + host), "cores are not shared"


def test_on_a_shared_card_a_run_is_faster_once_others_have_ended():
    """Both pass 4 s of work each at half the pace; then 2 s are left to one, at its own pace."""
    shared = replace(SECOND, sharing=True, products=1.0, runs=0.0)
    assert named([Step(name="short", seconds=4), Step(name="long", seconds=6)], shared) == {"short": 18, "long": 20}


@pytest.mark.parametrize("slots", [1, 2, 3])
def test_of_a_whole_study_no_more_runs_than_slots_overlap_none_its_parents_and_nothing_a_measurement(tmp_path, slots):
    study, rates = load_study("deit", "smoke", results_dir=str(tmp_path)), replace(SHIPPED["cpu-2-cores"], slots=slots)
    specs = {member.id: member for spec in study.specs.values() for member in spec.family()}
    sets = Sets(study.place.data_dir)
    end = ends([*specs.values()], rates, sets)
    begin = {run_id: end[run_id] - rates.seconds(amounts_of(spec, sets)) for run_id, spec in specs.items()}
    assert end.keys() == specs.keys() and min(begin.values()) >= rates.start - 1e-9
    for run_id, spec in specs.items():
        assert all(end[parent.id] <= begin[run_id] + 1e-9 for parent in spec.parents())
        beside = [other for other in specs if begin[other] < begin[run_id] + 1e-9 < end[other] - 1e-9]
        assert len(beside) <= (1 if spec.timed else slots)
    work = sum(rates.seconds(amounts_of(spec, sets)) for spec in specs.values())
    assert work / slots <= wall([*specs.values()], rates, sets) - rates.start <= work + 1e-9
