"""Files that are whole or not there, also where several processes write the same one."""

import os
import subprocess
import sys

from vitlib import durable


def test_of_two_processes_that_write_one_file_each_finds_its_own_half(tmp_path, monkeypatch):
    path = tmp_path / "table.csv"
    with durable.whole(path) as mine:
        mine.write_text("one, whole")
        monkeypatch.setattr(os, "getpid", os.getppid)
        with durable.whole(path) as other:
            other.write_text("the ot")
            assert mine.read_text() == "one, whole" and not path.exists()
            other.write_text("the other, whole")
        assert path.read_text() == "the other, whole"
    assert path.read_text() == "one, whole" and list(tmp_path.iterdir()) == [path]


def test_what_a_killed_process_left_goes_with_the_next_writing_and_what_a_live_one_writes_stays(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    left, live = (tmp_path / f"{durable.UNFINISHED}{process}-table.csv" for process in (dead.pid, os.getppid()))
    left.touch()
    live.touch()
    with durable.whole(tmp_path / "table.csv") as aside:
        aside.write_text("whole")
    assert not left.exists() and live.exists()
