"""Hostile files, each a named case: none runs code, escapes its folder or exhausts memory and disk, and what refuses it names the file."""

import argparse
import re
from collections import Counter

import pytest

from tests.faults.malice import archives, others, weights  # noqa: F401  (they enter their cases)
from tests.faults.malice.cases import CASES, HARMLESS
from tests.faults.malice.watch import Watch, watched
from vitlib.runs.manifest import StoreError
from vitlib.spec import SpecError

REFUSALS = (SpecError, StoreError, argparse.ArgumentTypeError)
LONGEST = 2500  # characters of a refusal, a long path among them


def params():
    marks = {True: [pytest.mark.faults], False: []}
    return [pytest.param(each, id=each.name, marks=marks[each.long]) for each in CASES.values()]


def test_there_are_a_hundred_cases_and_more_of_every_kind():
    kinds = Counter(name.partition(":")[0] for name in CASES)
    assert len(CASES) >= 200 and kinds["weights"] >= 40 and kinds["archive"] >= 40 and kinds["edited run in an archive"] >= 20


@pytest.mark.faults
def test_the_report_counts_what_was_tried(capsys):
    """What `make faults` shows; each case is a test of its own, and a failed one is among its failures."""
    kinds = Counter(name.partition(":")[0] for name in CASES)
    with capsys.disabled():
        print(f"\n{len(CASES)} hostile files: {', '.join(f'{count} {kind}' for kind, count in kinds.most_common())}")


@pytest.fixture(scope="module", autouse=True)
def warm(tmp_path_factory):
    weights.warm(tmp_path_factory.mktemp("warm"))


@pytest.mark.parametrize("hostile", params())
def test_a_hostile_file_is_refused_and_does_nothing(hostile, tmp_path, monkeypatch, caplog):
    inside, canary = tmp_path / "inside", tmp_path / "canary"
    inside.mkdir()
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(inside))
    path = hostile.make(inside, canary)
    canary.unlink(missing_ok=True)
    said = ""
    with watched(Watch(inside.resolve(), canary)):
        try:
            hostile.read(path)
        except REFUSALS as error:
            said = f"{type(error).__name__}: {error}"
    if hostile.said == HARMLESS:
        assert said == ""
        return
    said += caplog.text
    assert re.search(hostile.said, said), said[:2000]
    assert len(said.replace(str(tmp_path), "")) < LONGEST
