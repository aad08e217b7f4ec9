"""A fault is caught, hangs or lives in a small project of its own, and a test that fails anyway is not taken for one that noticed."""

import pytest

from tests.faults.mutants import trying
from tests.faults.mutants.__main__ import report
from tests.faults.mutants.declared import FAULTS
from tests.faults.mutants.fault import Fault
from tests.faults.mutants.trying import Copy, Outcome

CODE = "def plus(one, other):\n    return one + other\n\n\ndef unseen():\n    return 1\n"
TESTS = {
    "test_sum.py": "from vitlib.room.sums import plus\n\n\ndef test_two_and_two_are_four():\n    assert plus(2, 2) == 4\n",
    "test_broken.py": "def test_that_fails_anyway():\n    raise ValueError\n",
}


@pytest.fixture
def tried(tmp_path, monkeypatch):
    """`tried(old, new, test)`: what a test says to a fault in a project of two functions."""
    for folder in ("vitlib/room", "tests/room", "tests/faults/mutants"):
        (tmp_path / "project" / folder).mkdir(parents=True)
    (tmp_path / "project/vitlib/room/sums.py").write_text(CODE)
    for name, text in TESTS.items():
        (tmp_path / "project/tests" / name).write_text(text)
    (tmp_path / "project/tests/room/test_of_the_room.py").write_text("def test_nothing():\n    pass\n")
    monkeypatch.setattr(trying, "ROOT", tmp_path / "project")
    monkeypatch.setattr(trying, "LIMIT", 60.0)
    with Copy(tmp_path / "copy", preloaded=["pytest"]) as copy:

        def tried(old, new, test="test_sum.py"):
            fault = Fault("a fault", "harm", "vitlib/room/sums.py", old, new, (f"tests/{test}",))
            outcome = copy.outcome(fault, fault.tests)
            copy.require_sound([outcome.noticed] if outcome.what == "caught" else [])
            assert (copy.root / "vitlib/room/sums.py").read_text() == (tmp_path / "project/vitlib/room/sums.py").read_text() == CODE
            return outcome

        yield tried


def test_a_fault_that_a_test_sees_is_caught_by_its_name(tried):
    assert tried("one + other", "one - other") == Outcome("caught", "tests/test_sum.py::test_two_and_two_are_four")


def test_a_fault_that_no_test_sees_lives(tried):
    assert tried("return 1\n", "return 2\n") == Outcome("lived")


def test_tests_without_end_are_ended(tried, monkeypatch):
    monkeypatch.setattr(trying, "LIMIT", 15.0)
    assert tried("return one + other", "while True: pass") == Outcome("hung", "tests/test_sum.py")


def test_a_test_that_fails_without_the_fault_has_noticed_nothing(tried):
    with pytest.raises(RuntimeError, match="test_that_fails_anyway: caught without a fault"):
        tried("return 1\n", "return 2\n", "test_broken.py")


def test_a_fault_whose_old_text_is_there_twice_is_refused(tried):
    with pytest.raises(ValueError, match="a fault: the old text stands 2 times"):
        tried("return", "yield")


def test_the_report_counts_by_area_and_names_what_lived():
    outcomes = {fault.name: Outcome("caught", "a test") for fault in FAULTS}
    assert "| all | 60 | 60 | 0 | 0 |" in report(outcomes) and "None lived." in report(outcomes)
    outcomes |= {FAULTS[0].name: Outcome("lived"), FAULTS[1].name: Outcome("hung", "a test")}
    assert "| all | 60 | 59 | 1 | 1 |" in report(outcomes)
    assert report(outcomes).endswith(f"Those that lived:\n\n- {FAULTS[0].name}: {FAULTS[0].does}.")
