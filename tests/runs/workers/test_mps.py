"""NVIDIA's daemon, or one that pretends: started where slots share a GPU, asked whether it serves, ended whatever happens."""

import os

import pytest

from vitlib.runs.workers import mps

SHARED = [{"CUDA_VISIBLE_DEVICES": gpu} for gpu in ("3", "5", "3", "5")]
DAEMON = """#!/bin/sh
if [ "$1" = "-f" ]; then
    echo "started with $CUDA_VISIBLE_DEVICES" >> {log}
    while [ ! -e "$CUDA_MPS_PIPE_DIRECTORY/quit" ]; do sleep 0.05; done
    echo ended >> {log}
else
    touch "$CUDA_MPS_PIPE_DIRECTORY/$(cat)"
fi
"""


@pytest.fixture
def log(tmp_path, monkeypatch):
    """What a daemon that does nothing wrote down."""
    program, log = tmp_path / mps.DAEMON, tmp_path / "log"
    program.write_text(DAEMON.format(log=log))
    program.chmod(0o755)
    log.touch()
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(
        mps, "PROBE", "import os; assert os.environ['CUDA_MPS_PIPE_DIRECTORY'] and os.environ['CUDA_VISIBLE_DEVICES'] == '0'"
    )
    return log


def test_slots_that_share_gpus_are_clients_of_one_daemon_which_numbers_its_gpus_anew(log):
    with mps.side_by_side(SHARED) as slots:
        assert [slot["CUDA_VISIBLE_DEVICES"] for slot in slots] == ["0", "1", "0", "1"]
        assert len({slot["CUDA_MPS_PIPE_DIRECTORY"] for slot in slots}) == 1
        assert log.read_text() == "started with 3,5\n"
    assert log.read_text() == "started with 3,5\nended\n"


def test_a_daemon_through_which_no_gpu_is_reached_is_left_alone_with_a_word(log, monkeypatch, caplog):
    monkeypatch.setattr(mps, "PROBE", "raise SystemExit(1)")
    with mps.side_by_side(SHARED) as slots:
        assert slots == SHARED
    assert "take turns" in caplog.text and log.read_text().endswith("ended\n")


@pytest.mark.parametrize("slots", [[{"OMP_NUM_THREADS": "1"}] * 2, SHARED[:2], SHARED[:1]], ids=["cores", "a slot a GPU", "one"])
def test_no_daemon_is_started_where_nothing_is_shared(log, slots):
    with mps.side_by_side(slots) as given:
        assert given == slots
    assert log.read_text() == ""


def test_without_the_daemon_s_program_slots_stay_as_they_are(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with mps.side_by_side(SHARED) as slots:
        assert slots == SHARED


def test_the_daemon_ends_though_the_runs_fail(log):
    with pytest.raises(ZeroDivisionError), mps.side_by_side(SHARED):
        raise ZeroDivisionError
    assert log.read_text().endswith("ended\n")
