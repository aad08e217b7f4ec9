"""That steps are to be taken anew is said on the command line, and reaches the runs, of workers too."""

import pytest

from tests.support import Number
from vitlib import __main__ as command
from vitlib.computing import Result
from vitlib.runs.plan import Place
from vitlib.runs.store import Store
from vitlib.runs.workers import one


@pytest.mark.parametrize(("flags", "capture"), [([], True), (["--eager"], False)])
def test_the_command_line_says_whether_steps_are_replayed(monkeypatch, tmp_path, flags, capture):
    places = []
    monkeypatch.setattr("vitlib.studies.study.execute", lambda specs, place, **_: places.append(place) or {})
    assert (
        command.main(
            ["run", "teachers", "--profile", "smoke", "--device", "cpu", "--executor", "inline", "--results-dir", str(tmp_path), *flags]
        )
        == 0
    )
    assert [place.capture for place in places] == [capture]


@pytest.mark.parametrize("capture", [True, False])
def test_a_run_is_computed_as_its_place_says(monkeypatch, tmp_path, capture):
    contexts = []
    monkeypatch.setattr(one, "result_of", lambda spec, context: contexts.append(context) or Result({"value": 1}))
    place = Place.from_json(Place(tmp_path / "results", tmp_path, "cpu", capture=capture).to_json())
    one.compute_one(Number(value=1), Store(place.results_dir), place, lambda *_: None)
    assert [context.capture for context in contexts] == [capture]
