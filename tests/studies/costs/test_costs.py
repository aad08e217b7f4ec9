"""The price of what is missing: rates, budgets, tables, the command and the line in a study's display."""

import json
import sys

import numpy as np
import pytest

from vitlib.__main__ import main
from vitlib.inputs.models import Vit
from vitlib.inputs.sources import Data
from vitlib.recipe import Recipe
from vitlib.spec import RunSpec, SpecError
from vitlib.studies.costs.amounts import amounts, amounts_of
from vitlib.studies.costs.budget import comparisons, seconds_of, that_fit
from vitlib.studies.costs.speed import measure
from vitlib.studies.costs.speed.machine import KEPT, known, rates_for
from vitlib.studies.costs.speed.probing import probes
from vitlib.studies.costs.speed.rates import SHIPPED
from vitlib.studies.costs.table import in_words, table, to_compute
from vitlib.studies.loading import load_study
from vitlib.training.work.declared import network_on, training
from vitlib.training.work.layers import Layer, backward_flops, forward_flops, frozen, gradients, often
from vitlib.training.work.registry import Sets

CPU = SHIPPED["cpu-2-cores"]


@pytest.fixture
def study(tmp_path):
    return load_study("deit", "smoke", results_dir=str(tmp_path / "results"), figures_dir=str(tmp_path / "figures"))


def test_a_first_layer_has_no_gradient_of_its_inputs_and_a_frozen_one_none_of_its_weights():
    layer = Layer(10, 5, 1, 1)
    assert gradients((layer, layer)) == [1, 2]
    assert gradients((*frozen([layer]), layer, *frozen([layer]))) == [0, 1, 1]


def test_frozen_networks_cost_nothing_backward_and_views_cost_in_proportion():
    chain = (Layer(10, 5, 1, 1), Layer(3, 0, 1, 1))
    assert backward_flops(frozen(chain)) == 0
    assert forward_flops(often(chain, 4)) == 4 * forward_flops(chain) == 4 * 26


def test_a_run_of_a_class_that_says_nothing_is_priced_by_its_fields(tmp_path):
    class Unheard(RunSpec):
        model: Vit
        data: Data
        recipe: Recipe

    fields = {
        "model": Vit(embed_dim=16, depth=2, num_heads=2, patch_size=2),
        "data": Data(source="digits", image_size=8, per_class=10),
    }
    one, two = (amounts_of(Unheard(**fields, recipe=Recipe(epochs=e, batch_size=20, lr=0.1, eval_every=9)), Sets(tmp_path)) for e in (1, 2))
    assert (one.steps, two.steps, two.epochs) == (5, 10, 2)
    assert two.flops - one.flops > 0


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("12m", 720), ("2h", 7200), ("1.5h", 5400)])
def test_a_budget_is_a_number_with_its_unit(text, seconds):
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "12", "m", "-3m", "0s", "12 min", "sixty", "60d", "nanm", "1e999h"])
def test_what_is_no_budget_is_refused_with_what_is_allowed(text):
    with pytest.raises(SpecError, match=r"budget: got .*allowed: a number above 0"):
        seconds_of(text)


def test_all_tables_of_a_seed_come_before_the_next_seed(tmp_path):
    study = load_study("deit", "smoke", overrides={"seeds": [5, 3]}, results_dir=str(tmp_path))
    every = comparisons(study, {member.id for spec in study.specs.values() for member in spec.family()})
    seeds = [comparison.seed for comparison in every if comparison.seed is not None]
    assert seeds == sorted(seeds, key=[5, 3].index)
    assert set(seeds) == {5, 3}


def test_no_run_is_counted_in_two_comparisons_and_parents_come_first(study):
    family = {member.id: member for spec in study.specs.values() for member in spec.family()}
    runs = [spec for comparison in comparisons(study, set(family)) for spec in comparison.missing]
    assert len(runs) == len(family)
    place = {spec.id: number for number, spec in enumerate(runs)}
    assert all(place[parent.id] < place[spec.id] for spec in runs for parent in spec.parents())


def test_more_time_never_fits_fewer_comparisons_and_enough_fits_all(study):
    every, sets = comparisons(study, set(study.specs)), Sets(study.place.data_dir)
    counts = [len(that_fit(every, CPU, sets, seconds)) for seconds in (1, 10, 12, 1e6)]
    assert counts == sorted(counts)
    assert (counts[0], counts[-1]) == (0, len(every))


def test_an_empty_store_lacks_every_run_of_the_family(study):
    rows = table(study, CPU)
    family = {member.id for spec in study.specs.values() for member in spec.family()}
    assert rows.loc[rows["kind"] == "all", "runs"].sum() == len(family)


def test_activations_in_bf16_are_half_as_much_to_move(tmp_path):
    data, model = Data(source="digits", image_size=8, per_class=10), Vit(embed_dim=16, depth=2, num_heads=2, patch_size=2)
    recipe = Recipe(epochs=1, batch_size=20, lr=0.1)
    full, half = (training(data, recipe.changed(precision=name), network_on(model, data, 10).layers) for name in ("fp32", "bf16"))
    sets = Sets(tmp_path)
    assert amounts(half, sets).elements == amounts(full, sets).elements / 2
    assert amounts(half, sets).half == amounts(full, sets).flops


def test_rates_are_found_again_from_times_that_they_gave(tmp_path):
    true = {
        "products": 2e-11,
        "convolutions": 1.1e-10,
        "elements": 2e-9,
        "heads": 4e-6,
        "kernels": 3e-5,
        "moved": 1.6e-8,
        "runs": 0.15,
    }  # CPU's three times
    asked = probes()
    seconds = np.array([sum(getattr(amounts_of(probe, Sets(tmp_path)), unit) * rate for unit, rate in true.items()) for probe in asked])
    found = measure.fitted(asked, seconds, CPU)
    again = [sum(getattr(amounts_of(probe, Sets(tmp_path)), unit) * rate for unit, rate in found.items()) for probe in asked]
    assert again == pytest.approx(seconds.tolist(), rel=0.05)


def test_this_machines_rates_are_measured_once_and_kept(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(measure, "measure", lambda device: asked.append(device) or CPU)
    assert known("cpu", tmp_path) is None
    assert rates_for("cpu", tmp_path) == rates_for("cpu", tmp_path) == known("cpu", tmp_path) == CPU
    assert asked == ["cpu"]
    assert len(json.loads((tmp_path / KEPT).read_text())) == 1


@pytest.mark.parametrize("content", ["", "[]", '{"x": 1}', "\x00"])
def test_kept_rates_that_cannot_be_read_are_measured_again(tmp_path, content):
    (tmp_path / KEPT).write_text(content)
    assert known("cpu", tmp_path) is None


def test_rates_that_nobody_measured_say_so():
    assert "assumed, never measured" in SHIPPED["h100"].basis


def test_an_unknown_device_is_refused_with_those_that_are_known(tmp_path):
    with pytest.raises(SpecError, match=r"device: got 'tpu'; allowed: auto, cpu, cuda for this machine, or cpu-2-cores, h100"):
        rates_for("tpu", tmp_path)


@pytest.mark.parametrize(("seconds", "words"), [(0.123, "0.12 s"), (41.3, "41 s"), (744, "12.4 min"), (11_700, "3.25 h"), (1e6, "11.6 d")])
def test_a_time_is_told_in_the_unit_that_a_person_would_take(seconds, words):
    assert in_words(seconds) == words


def test_the_command_prints_a_table_and_what_fits(tmp_path, capsys):
    places = ["--results-dir", str(tmp_path / "r"), "--figures-dir", str(tmp_path / "f")]
    assert main(["plan", "deit", "--profile", "smoke", "--device", "cpu-2-cores", "--budget", "10m", *places]) == 0
    printed = capsys.readouterr().out
    assert "comparisons fit" in printed
    assert all(word in printed for word in ("state", "epochs", "FLOPs", "memory", "storage", "time"))
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize(
    ("given", "refused"),
    [
        (["deit", "--device", "tpu"], "device: got 'tpu'"),
        (["deit", "--budget", "soon"], "budget: got 'soon'"),
        (["deit", "--profile", "qick"], "profile: got 'qick'"),
        (["all", "--profile", "qick"], "profile: got 'qick'"),
        (["diet"], "paper: got 'diet'"),
    ],
)
def test_a_bad_request_is_refused_in_one_line(given, refused, tmp_path, capsys):
    device = [] if "--device" in given else ["--device", "h100"]
    assert main(["plan", *given, *device, "--results-dir", str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith(f"refused: {refused}")


def test_a_studys_display_tells_the_cost_without_measuring(study):
    html = study._repr_html_()
    assert "cost of the missing runs" in html
    assert "python -m vitlib plan deit --profile smoke" in html


def test_rates_are_measured_with_all_cores_at_work(monkeypatch):
    """One of them answers here for all, after one round."""
    asked, once = [], "import sys; from vitlib.studies.costs.speed import probing; probing.ROUNDS = 1; probing.main(sys.argv[1])"
    monkeypatch.setattr(measure, "PROBING", (sys.executable, "-c", once))

    def answers(workers):
        asked.append(len(workers))
        one, *others = workers
        for other in others:
            other.kill()
            other.communicate()
        return [one.communicate("\n")[0]] * len(workers)

    monkeypatch.setattr(measure, "_answers", answers)
    monkeypatch.setattr(measure.paths, "cores", lambda: 2)
    rates = measure.measure("cpu")
    assert asked == [rates.slots] == [2]
    assert all(getattr(rates, unit) > 0 for unit in measure.FITTED)


def test_a_missing_parent_of_stored_runs_costs_nothing_and_one_of_missing_runs_does(study):
    first, *others = [spec for spec in study.specs.values() if spec.parents()]
    found = dict.fromkeys((member.id for spec in study.specs.values() for member in spec.family()), "missing")
    found |= dict.fromkeys(study.specs, "stored")
    assert to_compute(study, found) == {}
    needed = to_compute(study, found | {first.id: "missing"})
    assert list(needed)[-1] == first.id and others
    assert needed.keys() == {member.id for member in first.family() if member.id == first.id or found[member.id] == "missing"}
