"""A minute's worth of the soak, and that it would see what it looks for."""

from collections import Counter

import pytest

from tests.faults.counted import count
from tests.faults.soak import __main__ as soaking
from tests.faults.soak.rounds import looked_at, specs_of
from vitlib.runs.execute import execute
from vitlib.runs.store import Store


@pytest.mark.parametrize("seconds", [15, pytest.param(120, marks=pytest.mark.faults)])
def test_drivers_in_trouble_lose_nothing_and_show_no_wrong_number(tmp_path, seconds):
    lines, whole = soaking.soak(tmp_path, seconds, seed=seconds)
    rows = dict(line.strip("| ").split(" | ") for line in lines[2:])
    count("four drivers on one store, killed, suspended, their runs damaged and swept away", int(rows["drivers killed"].replace(",", "")))
    assert whole, rows
    assert int(rows["drivers killed"]) > seconds / 5 and int(rows["files damaged"]) > seconds / 5


def test_it_sees_a_wrong_number(place, monkeypatch):
    execute(specs_of(0), place)
    assert looked_at(specs_of(0), place) == 0
    read = Store.open

    def crossed(store, run_id, asked=None):
        return read(store, specs_of(0)[0].id if run_id == specs_of(0)[1].id else run_id)

    monkeypatch.setattr(Store, "open", crossed)
    assert looked_at(specs_of(0), place) == 1


def test_it_sees_what_was_computed_in_vain_and_what_a_kill_or_harm_excuses(place):
    class Trouble:
        harmed, killed, did = Counter({specs_of(0)[2].id: 1}), {7}, Counter()

    once = [spec.id for spec in specs_of(0)]
    killed, anew, harmed = ("7", once[3]), ("1", once[0]), ("1", once[2])
    lines = [killed, *(("2", run_id) for run_id in once), anew, harmed]
    (place.data_dir / "computed-0").write_text("".join(f"{process} {run_id}\n" for process, run_id in lines))
    assert soaking.computed_in_vain(place, 0, Trouble) == {"computed in vain": 1, "never computed": 0}
