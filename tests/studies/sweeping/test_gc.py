"""gc: what no study asks for goes, and only that; nothing that is at work, new, or needed by what stays; dry first."""

import json
import os
import shutil
import time

import pytest

from tests.support import files_below
from vitlib import load_study
from vitlib.__main__ import main
from vitlib.computing import Result
from vitlib.runs.claims.asking import asking
from vitlib.runs.manifest import MANIFEST
from vitlib.runs.store import Store
from vitlib.studies.sweeping import command
from vitlib.studies.sweeping.asked import Asked

FACTS = {"code": "0", "device": "CPU", "commit": "0", "versions": {}}
DAY = 86_400


@pytest.fixture
def swept(smoke, tmp_path, monkeypatch):
    """A copy of the finished store, and beside its runs: one of an added seed, one of a former version, one that nobody can read."""
    shutil.copytree(smoke.place.results_dir, tmp_path / "r")
    monkeypatch.setattr(command, "asked", lambda places: Asked({member.id for spec in smoke.specs.values() for member in spec.family()}))
    return Store(tmp_path / "r")


def own(smoke, seed=7):
    return next(spec for spec in smoke.specs.values() if spec.id.startswith("student")).changed(seed=seed)


def put(store, spec):
    store.put(spec, Result({"top1": 1.0}), FACTS)
    return aged(store, spec.id)


def former(store, run_id, name="student-00000000000000aa", **fields):
    """A copy of a stored run as code of another version described it."""
    files = store.files(run_id)
    described = json.loads(files["spec.json"])
    described["id"], described["fields"] = name, described["fields"] | fields
    store.install(name, files | {"spec.json": json.dumps(described).encode()})
    return aged(store, name)


def aged(store, run_id, days=3.0):
    then = time.time() - days * DAY
    os.utime(store.root / run_id / MANIFEST, (then, then))
    return run_id


def gc(store, *more):
    return main(["gc", "--results-dir", str(store.root), *more])


def test_a_dry_run_says_what_would_go_and_changes_nothing(swept, smoke, capsys):
    put(swept, own(smoke))
    gone = former(swept, own(smoke).id, colour="red")
    before = files_below(swept.root)
    assert gc(swept, "--list") == 0
    said = capsys.readouterr().out
    assert "goes" in said and "described by code of another version" in said and "of settings of your own" in said
    assert gone in said and own(smoke).id not in said and "nothing was removed" in said
    assert files_below(swept.root) == before


def test_what_no_code_of_today_asks_for_goes_and_everything_else_stays(swept, smoke):
    before = swept.ids()
    mine = put(swept, own(smoke))
    former(swept, mine, colour="red")
    assert gc(swept, "--delete") == 0
    assert swept.ids() == sorted([*before, mine])
    for run_id in swept.ids():
        swept.read(run_id)
    assert not (swept.root / ".removed").exists()


def test_runs_of_settings_of_ones_own_go_when_that_is_said(swept, smoke):
    before = swept.ids()
    put(swept, own(smoke))
    assert gc(swept, "--delete", "--also", "own") == 0
    assert swept.ids() == before


@pytest.mark.parametrize("days", [0.0, 0.9])
def test_newer_runs_stay(swept, smoke, days):
    put(swept, own(smoke))
    name = aged(swept, former(swept, own(smoke).id), days)
    assert gc(swept, "--delete") == 0 and name in swept.ids()
    assert gc(swept, "--delete", "--older-than", "0m") == 0 and name not in swept.ids()


def test_a_claimed_run_stays(swept, smoke, capsys):
    put(swept, own(smoke))
    name = former(swept, own(smoke).id)
    with swept.claim(name):
        assert gc(swept, "--delete") == 0
        assert name in swept.ids()
    assert gc(swept, "--delete") == 0
    assert name not in swept.ids()


def test_what_a_driver_at_work_asked_for_stays(swept, smoke):
    put(swept, own(smoke))
    name = former(swept, own(smoke).id)
    with asking(swept, [name]):
        assert gc(swept, "--delete") == 0
        assert name in swept.ids()
    assert gc(swept, "--delete") == 0
    assert name not in swept.ids() and files_below(swept.root / ".asked") == []


@pytest.mark.parametrize("described", ["as today", "as before"])
def test_what_a_kept_run_starts_from_stays(swept, smoke, described):
    """A student of ones own that is new, and its teacher, also of ones own, which is old."""
    taught = next(spec for spec in smoke.specs.values() if spec.id.startswith("student") and spec.teacher)
    teacher = own(smoke, seed=8)
    student = taught.changed(teacher=teacher)
    put(swept, teacher)
    put(swept, student)
    aged(swept, student.id, days=0.1)
    if described == "as before":  # both by code that knew another field
        for spec in (teacher, student):
            (swept.root / spec.id).rename(swept.root / f"former-{spec.id}")
        rewrite(swept, f"former-{teacher.id}", lambda own: own["fields"].update(colour="red"))
        rewrite(swept, f"former-{student.id}", lambda own: own["fields"]["teacher"]["fields"].update(colour="red"))
        aged(swept, f"former-{teacher.id}")
    before = swept.ids()
    assert gc(swept, "--delete", "--also", "own") == 0
    assert swept.ids() == before
    assert gc(swept, "--delete", "--also", "own", "--older-than", "0m") == 0
    assert len(swept.ids()) == len(before) - 2


def rewrite(store, run_id, change):
    files = store.files(run_id)
    described = json.loads(files["spec.json"])
    change(described)
    store.install(run_id, files | {"spec.json": json.dumps(described).encode()})


# ------------------------------------------------------------------------------------------------ leftovers


def leave(store, run_id):
    """Something of each kind, of a run that was not stored."""
    damaged = f".damaged/{run_id}-20200101T000000-abc123/x"
    for path in (f".scratch/{run_id}/checkpoint.pt", f".failed/{run_id}.txt", f".failed/{run_id}.log", damaged):
        (store.root / path).parent.mkdir(parents=True, exist_ok=True)
        (store.root / path).write_text("x")
    then = time.time() - 20 * DAY
    for folder in (".scratch", ".failed", ".damaged"):
        for path in store.root.rglob(f"{folder}/**/*"):
            os.utime(path, (then, then))


def test_old_leftovers_of_runs_that_nobody_asks_for_go(swept, smoke, capsys):
    leave(swept, "student-00000000000000bb")
    assert gc(swept, "--delete", "--leftovers-older-than", "30d") == 0
    assert len(files_below(swept.root / ".failed")) == 2
    assert gc(swept, "--delete") == 0
    assert [files_below(swept.root / folder) for folder in (".scratch", ".failed", ".damaged", ".claims")] == [[]] * 4
    assert "checkpoint" in capsys.readouterr().out


def test_the_checkpoint_and_failure_of_a_run_that_is_asked_for_stay_however_old(swept, smoke):
    run_id = next(iter(smoke.specs))
    leave(swept, run_id)
    assert gc(swept, "--delete") == 0
    assert files_below(swept.root / ".scratch") == [f"{run_id}/checkpoint.pt"] and len(files_below(swept.root / ".failed")) == 2


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--older-than", "soon"], "older_than: got 'soon'; allowed: a number with m, h or d"),
        (["--results-dir", "/nowhere/at/all"], "results_dir: /nowhere/at/all does not exist"),
    ],
)
def test_what_cannot_be_meant_is_refused(swept, capsys, given, said):
    assert gc(swept, *given) == 2
    assert said in capsys.readouterr().err


# ------------------------------------------------------------------------------------------------ what is asked for


def test_what_profiles_and_kept_changes_ask_for_is_known_and_what_cannot_be_described_is_said(tmp_path, monkeypatch):
    from vitlib.studies.sweeping import asked as module

    monkeypatch.setattr(module, "studies", lambda: ["deit"])
    whole = module.read_entry("deit")
    monkeypatch.setattr(module, "read_entry", lambda paper: {"profile": {"smoke": whole["profile"]["smoke"]}})
    changed = tmp_path / "figures" / "deit" / "smoke-changed" / "changes.json"
    changed.parent.mkdir(parents=True)
    changed.write_text(json.dumps({"document": "deit", "profile": "smoke", "changes": {"recipe.epochs": 3, "seeds": [5]}}))
    places = {"results_dir": str(tmp_path / "r"), "figures_dir": str(tmp_path / "figures"), "data_dir": ""}
    found = module.asked(places)
    for overrides in ({}, {"recipe": {"epochs": 3}, "seeds": [5]}):
        study = load_study("deit", "smoke", overrides=overrides, results_dir=places["results_dir"])
        assert {member.id for spec in study.specs.values() for member in spec.family()} <= found.ids
    assert not found.unclear
    changed.write_text("{")
    assert list(module.asked(places).unclear) == [f"deit, {changed}, changed"]
