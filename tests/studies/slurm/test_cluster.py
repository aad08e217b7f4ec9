"""On a real Slurm: an array of drivers on one store, told to end, requeued, killed. What is stored is what one process alone stores."""

import json
import re
import subprocess
import sys
import time

import pytest

from tests.support import ROOT, assert_same_result, files_below
from vitlib import load_study
from vitlib.runs.execute import execute
from vitlib.runs.plan import Place
from vitlib.runs.store import Store

pytestmark = pytest.mark.cluster

DRIVERS, ONE_RUN = ROOT / "slurm" / "drivers.sh", ROOT / "slurm" / "one_run.sh"
OPTIONS = ("--mem=1500", "--time=5", "--signal=B:USR1@60")
LONG = {"recipe": {"epochs": 20}}
SCRATCH = (".partial", ".scratch", ".claims", ".damaged", ".failed")


def arguments(results, overrides=None):
    changed = ["--overrides", json.dumps(overrides)] if overrides else []
    return ["deit", "--profile", "smoke", "--device", "cpu", "--results-dir", str(results), *changed]


def assert_as_one_process_alone(results, other):
    """The same runs, to the bit, and nothing beside them; those that measure time aside."""
    one, two = Store(results, writable=False), Store(other, writable=False)
    assert one.ids() == two.ids()
    for run_id in one.ids():
        if not run_id.startswith("throughput"):
            assert_same_result(one.read(run_id), two.read(run_id))
    assert_nothing_left_behind(results)


def assert_nothing_left_behind(results):
    assert [files_below(results / name) for name in SCRATCH] == [[]] * len(SCRATCH)


def assert_interrupted_runs_end_in_the_same_bits(log, results, tmp_path):
    """Those that the log names: gone on with until they are stored, and computed without interruption beside."""
    study = load_study("deit", "smoke", overrides=LONG, device="cpu")
    interrupted = {*re.findall(r"(\S+) is at \d+% and goes on from there", log)}
    specs = [spec for spec in study.specs.values() if spec.id in interrupted]
    assert specs
    gone_on, alone = (execute(specs, Place(place, tmp_path, device="cpu")) for place in (results, tmp_path / "alone"))
    for run_id in interrupted & alone.keys():
        assert_same_result(gone_on[run_id], alone[run_id])


def test_an_array_of_four_written_by_the_command_finishes_the_study_with_the_bits_of_one_process(cluster, smoke, tmp_path):
    out = tmp_path / "job.sh"
    command = [sys.executable, "-m", "vitlib", "slurm", *arguments(tmp_path / "results"), "--array", "4", "--out", str(out), "--submit"]
    said = subprocess.run(command, cwd=ROOT, env=cluster.environment, capture_output=True, text=True, timeout=120)
    assert said.returncode == 0, said.stderr
    job = said.stdout.partition("submitted as ")[2].partition(":")[0]
    cluster.wait_till(lambda: not cluster.states(job), 240)
    logs = [path.read_text() for path in tmp_path.glob("job-*_*.log")]
    assert len(logs) == 4 and all("refused" not in log for log in logs), logs
    assert_as_one_process_alone(tmp_path / "results", smoke.place.results_dir)


def test_a_driver_killed_in_the_middle_leaves_its_run_to_the_others(cluster, smoke, tmp_path):
    results = tmp_path / "results"
    job = cluster.submit(DRIVERS, *arguments(results), options=(*OPTIONS, "--array=0-2", "--no-requeue"))
    cluster.wait_till(lambda: len(list(results.glob(".claims/*"))) >= 2 and len(Store(results, writable=False).ids()) >= 5, 120)
    claim = next(path for path in results.glob(".claims/*") if path.stat().st_size)
    cluster.kill(json.loads(claim.read_text())["process"])
    cluster.end_of(job)
    assert_as_one_process_alone(results, smoke.place.results_dir)


def test_a_job_that_is_told_to_end_goes_back_into_the_queue_and_on_from_its_checkpoint(cluster, tmp_path):
    results = tmp_path / "results"
    job = cluster.submit(DRIVERS, *arguments(results, LONG), options=(*OPTIONS, "--array=0-1"))
    cluster.wait_till(lambda: len(list(results.glob(".scratch/student-*/code"))) == 2, 120)
    cluster.asked("scancel", "--batch", "--signal=USR1", job)
    log = cluster.end_of(job, 500)
    assert log.count("told to end: ") == 2
    assert len(Store(results, writable=False).ids()) == 32
    assert_nothing_left_behind(results)
    assert_interrupted_runs_end_in_the_same_bits(log, results, tmp_path)


def test_before_its_time_limit_a_job_is_told_and_its_two_workers_with_it(cluster, tmp_path):
    """Three minutes less 70 seconds, or, as Slurm looks at its clock, up to a minute earlier."""
    results = tmp_path / "results"
    options = ("--mem=4000", "--time=3", "--signal=B:USR1@70", "--array=0", "--cpus-per-task=2")
    overrides = {"recipe": {"epochs": 2000}}
    job = cluster.submit(DRIVERS, *arguments(results, overrides), "--executor", "local", options=options)
    cluster.wait_till(lambda: "told to end: " in cluster.log(job) and cluster.states(job) == {"PENDING"}, 200)
    cluster.wait_till(lambda: cluster.states(job) == {"RUNNING"}, 60)
    assert cluster.restarts(job) >= 1
    cluster.asked("scancel", job)
    cluster.end_of(job, 60)
    assert list(results.glob(".scratch/*/checkpoint.pt"))


def test_a_job_that_is_cancelled_keeps_its_checkpoint_and_does_not_come_back(cluster, tmp_path):
    results = tmp_path / "results"
    job = cluster.submit(DRIVERS, *arguments(results, LONG), options=(*OPTIONS, "--array=0"))
    cluster.wait_till(lambda: list(results.glob(".scratch/student-*/code")), 120)
    time.sleep(0.5)
    cluster.asked("scancel", job)
    assert "told to end: " in cluster.end_of(job, 30)
    time.sleep(7)
    assert not cluster.states(job) and cluster.restarts(job) == 0


def test_one_run_over_two_processes_is_requeued_and_goes_on(cluster, tmp_path):
    """Told once; the same store is then finished by two processes again."""
    results, overrides = tmp_path / "results", {"recipe": {"epochs": 20}}
    options = ("--mem=4000", "--time=5", "--signal=B:USR1@60", "--cpus-per-task=2", "--output=job-%j_0.log")
    job = cluster.submit(ONE_RUN, *arguments(results, overrides), options=options, PROCESSES="2")
    cluster.wait_till(lambda: list(results.glob(".scratch/student-*/code")), 120)
    time.sleep(0.5)
    cluster.asked("scancel", "--batch", "--signal=USR1", job)
    log = cluster.end_of(job, 500)
    assert "told to end: " in log and cluster.restarts(job) == 1
    assert len(Store(results, writable=False).ids()) == 32
    assert_nothing_left_behind(results)
