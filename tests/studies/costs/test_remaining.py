"""A study within a budget: a tiny one, repeated until done, ends in the same tables as one call without; what remains is told in a line."""

import re
from dataclasses import replace
from itertools import count

import pytest

from tests.support import assert_same_result, files_below
from vitlib import load_study
from vitlib.__main__ import main
from vitlib.runs.execute import TimeIsUpError
from vitlib.runs.store import Store
from vitlib.spec import SpecError
from vitlib.studies.costs import remaining
from vitlib.studies.costs.amounts import amounts_of
from vitlib.studies.costs.budget import complete, in_order
from vitlib.studies.costs.speed.rates import SHIPPED
from vitlib.training.work.registry import Sets

TIMED = ("times", "speed", "costs", "throughput")  # in the names of what shows seconds
LINE = re.compile(r"\w+, smoke: time is up: \d+ run\(s\) stored, \d+ left, about [\d.]+ \w+;(.*;)? complete: .*; the same command goes on")


def study_in(folder, paper, **more):
    return load_study(paper, "smoke", results_dir=str(folder / "r"), figures_dir=str(folder / "f"), device="cpu", **more)


def rendered(study, figures):
    """The tables and figures of a study by name, without those of times."""
    places = ["--results-dir", str(study.place.results_dir), "--figures-dir", str(figures)]
    assert main(["render", study.paper, "--profile", "smoke", *places]) == 0
    names = [name for name in files_below(figures) if name.endswith((".csv", ".md", ".png")) and not any(word in name for word in TIMED)]
    return {name: (figures / name).read_bytes() for name in names}


@pytest.mark.parametrize(("paper", "prices"), [("afr_pruning", "as estimated"), ("dual_ssl_kd", "none")])
def test_a_tiny_budget_repeated_until_done_gives_the_same_tables_to_the_byte(paper, prices, finished, tmp_path, monkeypatch):
    """Where nothing seems to take time, runs are begun until the deadline, and trainings are interrupted."""
    if prices == "none":
        monkeypatch.setattr(remaining, "pricing", lambda study: lambda spec: 0.0)
    whole, study = finished(paper), study_in(tmp_path, paper)
    left, interrupted = [10**6], 0
    for calls in count(1):
        try:
            study.execute(budget="1s")
            break
        except TimeIsUpError as error:
            assert LINE.fullmatch(str(error)), error
            left.append(len(error.left))
            interrupted += "goes on from there" in str(error)
            assert calls < 200
    assert calls > 1 and left == sorted(left, reverse=True)
    assert interrupted or prices == "as estimated"
    one, other = (Store(each.place.results_dir, writable=False) for each in (whole, study))
    family = {member.id for spec in study.specs.values() for member in spec.family()}
    assert set(other.ids()) == family
    for run_id in family:
        assert_same_result(other.read(run_id), one.read(run_id))
    tables = rendered(whole, tmp_path / "whole")
    assert len(tables) > 5 and rendered(study, tmp_path / "pieces") == tables
    assert files_below(other.root / ".scratch") + files_below(other.root / ".failed") == []


def test_the_command_ends_with_3_and_a_line_until_all_is_done(tmp_path, capsys):
    overrides = ["--overrides", '{"seeds": [0]}', "--profile", "smoke", "--device", "cpu", "--executor", "inline"]
    command = ["run", "teachers", *overrides, "--results-dir", str(tmp_path)]
    assert main([*command, "--budget", "0.1s"]) == 3
    said = capsys.readouterr()
    assert said.out == "" and LINE.fullmatch(said.err.splitlines()[-1]), said.err
    assert main([*command, "--budget", "10m"]) == 0
    assert main([*command, "--budget", "0.1s"]) == 0


def test_the_line_tells_the_whole_comparisons(tmp_path):
    study = study_in(tmp_path, "deit", overrides={"seeds": [4, 2]})
    runs = in_order(study)
    assert {spec.id for spec in runs} == set(study.specs) and len(runs) == len(study.specs)
    done = set()
    before = []
    for spec in runs:
        done.add(spec.id)
        now = complete(study, set(study.specs) - done)
        assert set(before) <= set(now)
        before = now
    by_hand = {(cell.table, cell.point.get("seed")) for cell in study.cells}
    assert set(before) == by_hand
    second = next(number for number, spec in enumerate(runs) if all(c.point.get("seed") == 2 for c in study.cells if c.id == spec.id))
    left = {spec.id: spec for spec in runs[second:]}
    told = str(
        remaining.with_what_remains(
            TimeIsUpError("time is up: 1 run(s) stored, 2 left\nfailed", left, 60.0, {}), study, "inline", study.place
        )
    )
    line, failed = told.split("\n")
    assert failed == "failed" and "2 left, about 60 s; " in line and line.endswith("; the same command goes on")
    first_seed = [table for table in dict.fromkeys(cell.table for cell in study.cells) if (table, 4) in by_hand]
    assert f"; {', '.join(first_seed)} at seed 4; " in line and "strategies at seed 2" not in line


def test_the_rest_is_shared_by_the_workers_but_never_by_more_than_there_are_runs(tmp_path, monkeypatch):
    study = study_in(tmp_path, "deit")
    specs = in_order(study)
    monkeypatch.setattr(remaining, "slots", lambda device, per_gpu: [{}] * 2 * per_gpu)
    place = replace(study.place, slots_per_gpu=2)
    for number, executor, rest in [(1, "local", "60 s"), (2, "local", "30 s"), (9, "local", "15 s"), (2, "inline", "60 s")]:
        error = TimeIsUpError("time is up", {spec.id: spec for spec in specs[:number]}, 60.0, {})
        assert f"about {rest};" in str(remaining.with_what_remains(error, study, executor, place))


def test_a_run_is_priced_by_the_rates_of_this_machine_or_of_one_like_it(tmp_path, monkeypatch):
    study = study_in(tmp_path, "deit")
    spec, amounts = study.cells[0].spec, amounts_of(study.cells[0].spec, Sets(study.place.data_dir))
    assert remaining.pricing(study)(spec) == SHIPPED["cpu-2-cores"].seconds(amounts)
    monkeypatch.setattr(remaining, "known", lambda device, results_dir: SHIPPED["h100"])
    assert remaining.pricing(study)(spec) == SHIPPED["h100"].seconds(amounts)
    monkeypatch.undo()
    monkeypatch.setattr(remaining, "visible_gpus", lambda: ["0"])
    assert remaining.pricing(study)(spec) == SHIPPED["cpu-2-cores"].seconds(amounts), "the study is of the CPU"
    study = replace(study, place=replace(study.place, device="auto"))
    assert remaining.pricing(study)(spec) == SHIPPED["h100"].seconds(amounts)


@pytest.mark.parametrize("budget", ["12", "soon", "-1m"])
def test_what_is_no_budget_is_refused_before_anything_is_computed(budget, tmp_path):
    with pytest.raises(SpecError, match=r"budget: got .*allowed: a number above 0"):
        study_in(tmp_path, "deit").execute(budget=budget)
    assert not (tmp_path / "r").exists()
