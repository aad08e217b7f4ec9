"""On a real Slurm: an array of drivers on one store, told to end, requeued, killed. What is stored is what one process alone stores."""

import json
import subprocess
import sys
import time

import pytest

from tests.support import ROOT, assert_same_result, files_below
from vitlib.runs.store import Store

pytestmark = pytest.mark.cluster

DRIVERS, ONE_RUN = ROOT / "slurm" / "drivers.sh", ROOT / "slurm" / "one_run.sh"
OPTIONS = ("--mem=1500", "--time=5", "--signal=B:USR1@60")
LONG = {"recipe": {"epochs": 150}}
SCRATCH = (".partial", ".scratch", ".claims", ".damaged", ".failed")


def arguments(results, overrides=None):
    changed = ["--overrides", json.dumps(overrides)] if overrides else []
    return ["deit", "--profile", "smoke", "--device", "cpu", "--results-dir", str(results), *changed]


def assert_as_one_process_alone(results, other, like=lambda run_id: True):
    """The same runs, to the bit, and nothing beside them; those that measure time aside."""
    one, two = Store(results, writable=False), Store(other, writable=False)
    assert one.ids() == [run_id for run_id in two.ids() if like(run_id)]
    for run_id in one.ids():
        if not run_id.startswith("throughput"):
            assert_same_result(one.read(run_id), two.read(run_id))
    assert [files_below(one.root / name) for name in SCRATCH] == [[]] * len(SCRATCH)


@pytest.fixture(scope="module")
def long_runs(tmp_path_factory):
    """Trainings of some seconds, computed without interruption."""
    results = tmp_path_factory.mktemp("long")
    command = [sys.executable, "-m", "vitlib", "run", *arguments(results, LONG), "--executor", "inline"]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=600)
    return results


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


def test_a_job_that_is_told_to_end_goes_back_into_the_queue_and_on_from_its_checkpoint(cluster, long_runs, tmp_path):
    results = tmp_path / "results"
    job = cluster.submit(DRIVERS, *arguments(results, LONG), options=(*OPTIONS, "--array=0-1"))
    cluster.wait_till(lambda: "epoch" in cluster.log(job) or len(Store(results, writable=False).ids()) >= 2, 120)
    cluster.asked("scancel", "--batch", "--signal=USR1", job)
    log = cluster.end_of(job, 500)
    assert log.count("told to end: ") == 2 and "and goes on from there" in log
    assert_as_one_process_alone(results, long_runs)


def test_a_time_limit_is_such_a_word_and_two_workers_hear_it(cluster, long_runs, tmp_path):
    """Slurm warns at the earliest by its own clock of a minute: two minutes less 100 seconds."""
    results = tmp_path / "results"
    options = ("--mem=4000", "--time=2", "--signal=B:USR1@100", "--array=0", "--cpus-per-task=2")
    job = cluster.submit(DRIVERS, *arguments(results, LONG), "--executor", "local", options=options)
    log = cluster.end_of(job, 550)
    assert "told to end: " in log and cluster.restarts(job) >= 1
    assert_as_one_process_alone(results, long_runs)


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
    results, overrides = tmp_path / "results", {"recipe": {"epochs": 60}}
    options = ("--mem=4000", "--time=5", "--signal=B:USR1@60", "--cpus-per-task=2", "--output=job-%j_0.log")
    job = cluster.submit(ONE_RUN, *arguments(results, overrides), options=options, PROCESSES="2")
    cluster.wait_till(lambda: list(results.glob(".scratch/student-*/code")), 120)
    time.sleep(0.5)
    cluster.asked("scancel", "--batch", "--signal=USR1", job)
    log = cluster.end_of(job, 500)
    assert "told to end: " in log and cluster.restarts(job) == 1
    assert len(Store(results, writable=False).ids()) == 32
    assert [files_below(results / name) for name in SCRATCH] == [[]] * len(SCRATCH)
