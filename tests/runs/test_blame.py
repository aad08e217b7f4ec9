"""What is held against a run: not what its machine was in the way of, and under the code that it began with."""

import pytest

from tests.support import Number
from vitlib import computing
from vitlib.runs.execute import RunsFailedError, execute
from vitlib.runs.workers import one

ONE = Number(value=1)


def test_a_full_disk_says_nothing_against_the_run(place, store, monkeypatch):
    def on_a_full_disk(spec, context):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setitem(computing._FUNCTIONS, Number, on_a_full_disk)
        with pytest.raises(RunsFailedError, match="No space left on device"):
            execute([ONE], place)
    assert store.failure(ONE.id) is None
    assert execute([ONE], place)[ONE.id].metrics["value"] == 1


def test_a_run_that_left_no_checkpoint_begins_anew_and_names_the_code_of_then(place, store, monkeypatch):
    monkeypatch.setattr(one, "facts", lambda cls, device: {"code": "new"})
    store.scratch(ONE.id).mkdir(parents=True)
    (store.scratch(ONE.id) / "code").write_text("old")
    execute([ONE], place)
    assert store.read(ONE.id).provenance["code"] == "new"
