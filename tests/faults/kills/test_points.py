"""Killed at every named point of everything that writes: old or new, never between, and the same bits when it is done again."""

import os
import tempfile
from pathlib import Path

import numpy as np
import pytest

from tests.faults.counted import count
from tests.faults.kills.acts.of_studies import UPDATES
from tests.faults.kills.disks import Disk, ways
from tests.faults.kills.operations import OPERATIONS
from tests.faults.kills.trials import Trial, apart

LENGTHS = [pytest.param(False, id="a share"), pytest.param(True, id="at length", marks=pytest.mark.faults)]


@pytest.fixture(scope="module")
def processes(forking):
    with apart(forking) as run:
        yield run


@pytest.fixture
def folder(tmp_path):
    """In memory where there is such a place: a disk takes its time for an fsync, and here nobody cuts the power."""
    if not os.access("/dev/shm", os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="vitlib-kills") as place:
        yield Path(place)


@pytest.mark.parametrize("at_length", LENGTHS)
@pytest.mark.parametrize("name", OPERATIONS)
def test_a_kill_at_a_point_leaves_old_or_new_and_the_same_bits_when_it_is_done_again(name, at_length, folder, processes):
    trial = Trial(name, folder, processes)
    points = trial.drawn(len(trial.points), at_length, most=100)
    times = [trial.kill(point) for point in points]
    count(f"killed at a named point: {name}", tries=len(points), recovery=max(times))


@pytest.mark.parametrize("at_length", LENGTHS)
@pytest.mark.parametrize("name", OPERATIONS)
def test_a_power_cut_leaves_no_wrong_number_and_the_same_bits_when_it_is_done_again(name, at_length, folder, processes):
    trial = Trial(name, folder, processes)
    times = [trial.cut(*disk) for disk in trial.disks(at_length)]
    count(f"power cut: {name}", tries=len(times), recovery=max(times))


def test_a_checkpoint_that_was_written_is_there_after_a_power_cut(folder, processes):
    trial = Trial("a training with its checkpoints", folder, processes)
    checkpoint, last = "results/.scratch/student-0/checkpoint.pt", "fsync results"
    disk, draws, written = Disk(trial.start), np.random.default_rng(0), 0
    for change in trial.changes:
        disk.apply(change)
        if str(change) == last:
            written += 1
            assert len({state[checkpoint] for _, state in ways(disk, draws)}) == 1
    assert written >= UPDATES
