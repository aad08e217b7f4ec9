"""Shipped weights and their check; shipping writes what was trained, and verifying measures it again."""

import shutil

import numpy as np
import pytest

from tests.support import flip_a_byte
from tests.teachers.support import METHODS, run_quality
from vitlib import load_study
from vitlib.runs.execute import execute
from vitlib.runs.preflight import preflight
from vitlib.spec import SpecError
from vitlib.studies import shipping
from vitlib.teachers import shipped
from vitlib.teachers.teacher import Shipped


@pytest.fixture(scope="module")
def smoke_teachers(tmp_path_factory):
    """The study of teachers at `smoke`, computed in a store that shipping writes to."""
    study = load_study("teachers", "smoke", results_dir=str(tmp_path_factory.mktemp("teachers")), device="cpu")
    study.execute()
    return study


@pytest.fixture
def weights(tmp_path, monkeypatch):
    """A folder for shipped weights of the test's own."""
    folder = tmp_path / "weights"
    folder.mkdir()
    monkeypatch.setattr(shipped, "WEIGHTS", folder)
    return folder


# ------------------------------------------------------------------------------------------------ shipped bytes


@pytest.mark.parametrize("name", METHODS)
def test_any_changed_byte_of_a_shipped_file_is_refused(name, tmp_path, monkeypatch):
    """Also a truncated and a missing file."""
    generator, sha256, original = np.random.default_rng(0), shipped.entry(name)["sha256"], shipped.WEIGHTS
    for trial in range(5):
        folder = tmp_path / str(trial)
        shutil.copytree(original, folder)
        monkeypatch.setattr(shipped, "WEIGHTS", folder)
        shipped.read(name, sha256)
        flip_a_byte(folder / f"{name}.safetensors", generator)
        with pytest.raises(shipped.WeightsError, match=r"expected .* was changed or damaged; reinstall vitlib"):
            shipped.read(name, sha256)
    (folder / f"{name}.safetensors").write_bytes(b"")
    with pytest.raises(shipped.WeightsError, match="was changed or damaged"):
        shipped.read(name, sha256)
    (folder / f"{name}.safetensors").unlink()
    with pytest.raises(shipped.WeightsError, match="no such file"):
        shipped.read(name, sha256)


def test_weights_are_kept_in_half_precision_and_statistics_as_they_are(weights):
    arrays = {
        "layer.weight": np.linspace(-1, 1, 7, dtype=np.float32),
        "bn.running_var": np.full(3, 1e-6, np.float32),
        "bn.num_batches_tracked": np.array(70_000),
    }
    shipped.write("mine", arrays, {"seed": 1})
    found = shipped.read("mine", shipped.entry("mine")["sha256"])
    np.testing.assert_array_equal(found["layer.weight"], arrays["layer.weight"].astype(np.float16).astype(np.float32))
    np.testing.assert_array_equal(found["bn.running_var"], arrays["bn.running_var"])
    assert found["bn.num_batches_tracked"] == 70_000
    assert found["layer.weight"].dtype == np.float32


# ------------------------------------------------------------------------------------------------ shipping


def test_shipping_writes_what_was_trained_and_verifying_measures_it_again(smoke_teachers, weights):
    frame = shipping.ship(smoke_teachers, executor="inline")
    assert set(frame["teacher"]) == set(METHODS)
    assert (frame["difference"] == 0).all()
    for cell in (cell for cell in smoke_teachers.cells if cell.table == "pretraining"):
        name, entry = cell.point["method"], shipped.entry(cell.point["method"])
        assert (entry["run"], entry["version"]) == (cell.spec.id, cell.spec.version)
        trained = execute([cell.spec], smoke_teachers.place)[cell.spec.id].weights
        for key, array in shipped.read(name, entry["sha256"]).items():
            np.testing.assert_allclose(array, trained[key], rtol=1e-3, atol=1e-6)
        assert entry["untrained"].keys() == entry["measured"].keys() - {"top1"}
        for found in (entry["attention"][statistic] for statistic in ("distance", "unevenness") if name != "convnet"):
            assert found["low"] <= found["untrained"] <= found["high"]
            assert found["told apart"] == (not found["low"] <= found["trained"] <= found["high"])
        assert ("attention" in entry) == (name != "convnet")
    again = shipping.verify(smoke_teachers.place, executor="inline")
    assert (again["difference"] == 0).all()
    shipped.amend("dino", {"measured": {"knn class": 100.0}})
    assert shipping.verify(smoke_teachers.place, executor="inline")["difference"].abs().max() > 0.2


@pytest.mark.parametrize(("trained", "apart"), [(23.0, False), (24.0, True), (-21.0, False), (-22.0, True)])
def test_a_value_is_told_apart_outside_of_where_one_more_untrained_network_would_lie(trained, apart):
    """Of 0 and 2: mean 1, standard deviation sqrt(2), t of one degree 12.7062, so that half the interval is 12.7062 sqrt(2) sqrt(1.5)."""
    found = shipping.told_apart(trained, np.array([0.0, 2.0]))
    assert (found["untrained"], found["told apart"]) == (1.0, apart)
    assert (found["low"], found["high"]) == pytest.approx((1 - 22.0078, 1 + 22.0078), abs=1e-3)


def test_one_more_of_the_same_networks_is_told_apart_in_one_of_twenty():
    draws = np.random.default_rng(0).normal(size=(4000, shipping.DRAWS + 1))
    wrong = np.mean([shipping.told_apart(row[0], row[1:])["told apart"] for row in draws])
    assert wrong == pytest.approx(0.05, abs=0.012)


def test_what_is_not_trained_is_not_shipped(tmp_path):
    study = load_study("teachers", "smoke", results_dir=str(tmp_path), device="cpu")
    with pytest.raises(SpecError, match=r"supervisedteacher-\w+ is not stored with its weights"):
        shipping.ship(study, executor="inline")


def test_preflight_refuses_a_damaged_shipped_file(weights, smoke_teachers):
    shipping.ship(smoke_teachers, executor="inline")
    quality = run_quality(Shipped(shipped="dino"))
    preflight([quality], smoke_teachers.place.data_dir)
    flip_a_byte(weights / "dino.safetensors", np.random.default_rng(1))
    with pytest.raises(SpecError, match="was changed or damaged"):
        preflight([quality], smoke_teachers.place.data_dir)
