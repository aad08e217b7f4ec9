"""What multi-distillation says of its results: findings of either outcome, equal label weights, cost, and what figures and prose claim.

Results are made up here, so that the truth of a sentence is known.
"""

import re
from types import SimpleNamespace

import nbformat
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from tests.papers.multi_distillation.support import DIGITS, study_of
from tests.support import ROOT
from vitlib import load_study
from vitlib.computing import result_of
from vitlib.grid.results import Results
from vitlib.inputs.models import ResNet, Vit
from vitlib.papers import multi_distillation
from vitlib.papers.multi_distillation.search.importance import SHUFFLES, by_chance, importance
from vitlib.papers.multi_distillation.search.space import LETTERS
from vitlib.papers.multi_distillation.specs import Alone, NetworkCost
from vitlib.papers.multi_distillation.tables import METHODS, NAMED, label_weights
from vitlib.papers.multi_distillation.training.cost import count, formula
from vitlib.report.tables import DASH
from vitlib.studies import artefacts

NOTEBOOK = ROOT / "notebooks" / "multi_distillation.ipynb"
SHOWN = sorted(name for name in vars(multi_distillation) if name.startswith(("table_", "figure_")))
FINDINGS = sorted(name for name in vars(multi_distillation) if name.startswith("finding_"))
BEST, PLAIN, PRIOR = "best of random search, equal step", "cross-entropy alone, equal step", "prior-work row, equal step"


def made(top1, held_out=lambda cell: 50.0, **overrides) -> Results:
    """Results of `top1(method, seed)` on the test images and `held_out(cell)` on the others; NaN is a run that is missing."""
    study, stored = study_of(**{"seeds": [0, 1, 2], "trial_seeds": [0, 1, 2]} | overrides), {}
    for cell in study.cells:
        value = top1(NAMED[cell.table](cell.point), cell.point["seed"]) if cell.table in NAMED else held_out(cell)
        if cell.table != "cost" and not np.isnan(value):
            objective = getattr(cell.spec, "objective", None)
            weights = (objective.weights if objective else study.settings.prior).model_dump()
            stored[cell.spec.id] = SimpleNamespace(metrics=weights | {"top1": value, "label weight": 1.25}, history=None, arrays={})
    return Results(study, stored)


def scores(**by_method):
    """Test top-1 of 50 but for some methods: a value for each seed."""
    return lambda method, seed: by_method.get(method, (50.0, 50.0, 50.0))[seed]


# ------------------------------------------------------------------------------------------------ findings


@pytest.mark.parametrize(
    ("plain", "said"),
    [  # 1, 2, 3: mean 2, half 4.303 / sqrt(3) = 2.484
        ((49.0, 48.0, 47.0), "+2.0 points (95 % interval -0.5 to +4.5, n = 3 selections), undecided."),
        ((39.0, 38.0, 37.0), "+12.0 points (95 % interval +9.5 to +14.5, n = 3 selections), better."),
        ((61.0, 62.0, 63.0), "-12.0 points (95 % interval -14.5 to -9.5, n = 3 selections), worse."),
        ((np.nan, np.nan, 47.0), "+3.0 points (one selection, no interval), one selection decides nothing."),
        ((np.nan, np.nan, np.nan), "cross-entropy alone: not measured yet."),
    ],
)
def test_the_result_table_is_told_either_way(plain, said):
    text = multi_distillation.finding_results(made(scores(**{PLAIN: plain})))
    assert said in text and text.startswith("At an equal step, the best setting of the random search minus")
    assert "the prior-work row: +0.0 points" in text and "itself as given: +0.0 points" in text


def test_what_the_step_alone_does_is_told():
    text = multi_distillation.finding_results(made(scores(**{PRIOR: (80.0, 81.0, 82.0)})))
    assert "row at that step minus itself as given: +31.0 points (95 % interval +28.5 to +33.5, n = 3 seeds), better." in text
    assert "The same best setting minus the prior-work row: -31.0 points" in text


@pytest.mark.parametrize(("successive", "verdict"), [((40.0, 40.0, 41.0), "worse"), ((60.0, 60.0, 61.0), "better")])
def test_experiment_2_is_told_either_way(successive, verdict):
    text = multi_distillation.finding_curriculum(made(scores(**{"three successive steps": successive})))
    first, second = text.split(". Three phases")
    assert first.startswith("Three successive steps minus one step on the sum: ") and first.endswith(verdict)
    assert second == " minus one step on the sum: +0.0 points (n = 3 seeds, no interval), undecided."


@pytest.mark.parametrize(("tpe", "verdict"), [((40.0, 40.0, 41.0), "worse"), ((60.0, 60.0, 61.0), "better")])
def test_the_searches_are_told_either_way(tpe, verdict):
    def held_out(cell):
        return {"guided": 70.0, "trials": 60.0}.get(cell.table, 50.0)

    text = multi_distillation.finding_search(made(scores(**{"best of TPE, equal step": tpe}), held_out))
    assert "mean of 3 selections: 60.0 % by random search (6 trials), 70.0 % by TPE (6 trials)" in text
    equal, given = text.split("As given")
    assert equal.endswith(f"{verdict}. ") and given.endswith("+0.0 points (n = 3 selections, no interval), undecided.")


def varied(row, changes, **overrides):
    """The prior-work row's trainings, and changes of it by weight and end."""

    def held_out(cell):
        if cell.table == "prior":
            return row[cell.point["seed"]]
        return changes.get((cell.point.get("letter"), cell.point.get("end")), row[0])

    return made(scores(), held_out, **overrides)


def test_variations_within_the_rows_own_range_are_not_counted():
    """The row's range is 15 points: 16 is beyond it, 14 is not."""
    results = varied([72.0, 57.0, 70.0], {("a", "high"): 88.0, ("b", "high"): 56.0, ("c", "high"): 86.0, ("i", "high"): 58.0})
    table = multi_distillation.table_variations(results)
    assert table.loc[0, ["top-1", "n", "lowest", "highest"]].tolist() == [72, 3, 57, 72]
    beyond = table[table["beyond its range"] == "yes"].set_index(["weight", "end"])["difference"]
    assert beyond.to_dict() == {("a", "high"): 16, ("b", "high"): -16}
    kinds = table["beyond its range"].value_counts()
    assert kinds["the row itself"] == 5 and kinds["no"] == 11  # a, d, h low and f, g high are the row's own values
    assert multi_distillation.finding_variations(results) == (
        "The row itself reached 57.0 to 72.0 % over its 3 trainings. Of 13 changes, one training each, 2 exceed that range of 15.0 points: "
        "a at 1 (+16.0), b at 1 (-16.0)."
    )


def test_variations_of_a_row_that_varies_more_or_was_trained_twice_or_once():
    changes = {("a", "high"): 88.0}
    assert multi_distillation.finding_variations(varied([72.0, 52.0, 70.0], changes)).endswith("0 exceed that range of 20.0 points.")
    twice = varied([72.0, 52.0], changes, seeds=[0, 1], trial_seeds=[0, 1])
    assert "over its 2 trainings" in multi_distillation.finding_variations(twice)
    once = varied([72.0], changes, seeds=[0], trial_seeds=[0])
    assert "trained once" in multi_distillation.finding_variations(once)
    assert set(multi_distillation.table_variations(once)["beyond its range"]) == {DASH, "the row itself"}


def searched(accuracy, numbers=24, seeds=(0, 1)):
    generator = np.random.default_rng(0)

    def held_out(cell):
        if cell.table != "trials":
            return 50.0
        return accuracy(cell.spec.objective.weights.model_dump()) + generator.normal(0, 0.1)

    return made(scores(), held_out, numbers=numbers, seeds=list(seeds), trial_seeds=list(seeds))


@pytest.fixture(scope="module")
def planted():
    """Accuracy falls with h alone."""
    return searched(lambda w: 60 - 5 * w["h"])


def test_a_planted_importance_is_told_and_nothing_else(planted):
    text = multi_distillation.finding_importance(planted)
    assert "h by PED-ANOVA" in text and "h by fANOVA" in text and re.search(r"h by rank correlation \(-(?:0\.9\d|1\.00)\)", text)
    beyond = re.search(r"every training: PED-ANOVA (.*); fANOVA (.*); rank correlation (.*)\. Of 27", text).groups()
    assert all("h" in letters.split(", ") for letters in beyond[1:])  # PED-ANOVA needs more trials to tell it from chance
    assert len(", ".join(beyond).split(", ")) <= 6  # chance exceeds its shuffles once in twenty
    assert text.startswith("Of 24 trials, trained 2 times each, the largest")
    assert "Of 27 comparisons about 1 would be so by chance" in text


def test_of_accuracies_that_follow_no_weight_nothing_stays_beyond_chance():
    generator = np.random.default_rng(3)
    text = multi_distillation.finding_importance(searched(lambda w: 50 + generator.normal(0, 10), numbers=10, seeds=(0, 1, 2)))
    assert "PED-ANOVA none; fANOVA none; rank correlation none" in text


def test_chance_is_the_largest_of_its_shuffles_and_repeats(planted):
    trials = pd.DataFrame([planted.study.settings.space.drawn(0, n).model_dump() | {"top1": float(n)} for n in range(10)])
    space = planted.study.settings.space
    found = by_chance(trials, space)
    generator, every = np.random.default_rng(0), []
    for _ in range(SHUFFLES):
        shuffled = trials.assign(top1=generator.permutation(trials["top1"]))
        every.append([abs(shuffled[letter].corr(shuffled["top1"], method="spearman")) for letter in LETTERS])
    np.testing.assert_allclose(found["rank correlation"], np.max(every, axis=0))
    pd.testing.assert_frame_equal(by_chance(trials, space), found)
    before = importance(trials, space)
    theirs = importance(trials, space)
    theirs.loc["a"] = 9.0
    pd.testing.assert_frame_equal(importance(trials, space), before)  # what is remembered is no one's to change


@pytest.mark.parametrize("name", FINDINGS)
def test_of_nothing_measured_a_finding_says_so(name):
    text = getattr(multi_distillation, name)(Results(study_of(), {}))
    assert re.search(r"(?:not|n't) measured yet", text) and "nan" not in text and re.search(r"[-+]\d", text) is None


def test_there_is_a_finding_for_each_main_table():
    assert [f"finding_{name}" for name in ("answer", "curriculum", "importance", "results", "search", "variations")] == FINDINGS


# ------------------------------------------------------------------------------------------------ label weights


def test_label_weights_are_those_of_an_update():
    steps = label_weights(made(scores()))
    assert {steps[name] for key, name in METHODS.items() if key != "prior"} == {"1"} and steps[METHODS["prior"]] == "0.18"
    assert {name: steps[name] for name in steps if "step" in name or "phases" in name} == {
        **{name: "2" for name in (PLAIN, "one step on the sum")},
        **{name: "1.2" for name in (PRIOR, BEST, "best of TPE, equal step")},  # as the made-up runs say
        "three successive steps": "1 + 0 + 1",
        "three phases": "3, 0, 3",
    }
    assert {label_weights(Results(study_of(), {}))[name] for name in ("best of TPE", PRIOR)} == {DASH}


def test_a_label_weight_that_runs_measured_is_their_mean():
    results = made(scores())
    for cell in (cell for cell in results.study.cells if cell.table == "prior_equal"):
        results.stored[cell.spec.id].metrics["label weight"] = 0.5 + cell.point["seed"]
    assert label_weights(results)[PRIOR] == "1.5"


def test_settings_that_selections_differ_in_are_counted():
    results = made(scores())
    for cell in (cell for cell in results.study.cells if cell.table == "best" and cell.point["search"] == "tpe"):
        results.stored[cell.spec.id].metrics["h"] = float(min(cell.point["seed"], 1))
    weights = multi_distillation.table_2(results).set_index("method")["weights"]
    assert weights["best of TPE"] == "2 settings" and weights["best of random search"] == weights[METHODS["prior"]]
    assert multi_distillation.table_search(results).set_index("search")["settings chosen"].to_dict() == {"random search": 1, "TPE": 2}


@pytest.mark.parametrize(
    ("reading", "told"),
    [({"exit_form": "convex"}, ("1.9", "1 + 0 + 0.9", "3, 0, 2.7")), ({"kd": "kl"}, ("1", "0 + 0 + 1", "0, 0, 3"))],
)
def test_label_weights_and_colours_follow_the_reading(reading, told):
    results = made(scores(), reading=reading, space={"h": {"high": 0.9}})
    steps = label_weights(results)
    assert tuple(steps[name] for name in ("one step on the sum", "three successive steps", "three phases")) == told
    assert steps[PLAIN] == told[0] and steps[METHODS["kd"]] == "1"
    (axes,) = multi_distillation.figure_results(results).axes
    colours = {container.get_label(): to_hex(container.lines[0].get_color()) for container in axes.containers}
    assert colours[PLAIN] == colours[PRIOR] == colours[BEST] != colours["three phases"]
    assert (colours["one step on the sum"] == colours[METHODS["kd"]]) == (told[0] == "1")


@pytest.mark.parametrize(("h", "form", "kd", "expected"), [(0.25, "convex", "ce+kl", (3, 0, 2.25)), (0.25, "additive", "kl", (0, 0, 3))])
def test_label_weights_follow_the_objective(h, form, kd, expected):
    objective = multi_distillation.run_curriculum(study_of().settings, order="phases", seed=0).objective
    changed = objective.changed(weights=objective.weights.changed(h=h), exit_form=form, kd=kd)
    assert tuple(changed.label_weights.values()) == expected and changed.label_weight == sum(expected)


def step_of(spec):
    """What a run is scaled by: the label weight that its first gradient is measured by, or its own."""
    if isinstance(spec, Alone):
        return spec.label_weight
    run = getattr(spec, "base", spec)
    return run.equal_step or run.objective.label_weight


def test_claims_that_say_equal_compare_equal_steps_and_those_on_cited_methods_equal_label_weights():
    study = study_of()
    steps = {NAMED[cell.table](cell.point): step_of(cell.spec) for cell in study.cells if cell.table in NAMED}
    compared = [claim for claim in study.entry["claim"] if claim["table"] == "results"]
    for claim in compared:
        one, other = (steps[claim[side]["method"]] for side in ("first", "second"))
        if claim["sentence"] != "The best setting of the random search beats the prior-work row":  # the next claim is about the step
            assert one == pytest.approx(other), claim["sentence"]
    assert sum("equal" in claim["sentence"] for claim in compared) == 3


@pytest.mark.parametrize("words", ["pairs of seeds", "selections"])
def test_claims_say_what_they_count_where_it_is_not_seeds(words):
    counted = {claim["sentence"] for claim in study_of().entry["claim"] if claim.get("over") == words}
    about = {
        claim["sentence"] for claim in study_of().entry["claim"] if {"pairs of seeds": "third", "selections": "best"}[words] in str(claim)
    }
    assert counted == about and counted


def test_rows_of_one_label_weight_have_one_colour():
    results = made(scores(**{METHODS["kd"]: (60.0, 61.0, 62.0), PLAIN: (70.0, 71.0, 72.0)}))
    (axes,), steps = multi_distillation.figure_results(results).axes, label_weights(results)
    colours = {container.get_label(): to_hex(container.lines[0].get_color()) for container in axes.containers}
    assert set(colours) == set(steps) and len({colours[name] for name in steps if steps[name] == "1"}) == 1
    assert colours[PRIOR] == colours[PLAIN] != colours[METHODS["kd"]] != colours["three phases"] != colours[PLAIN]
    lines = {line.get_label(): (line.get_xdata()[0], to_hex(line.get_color())) for line in axes.get_lines() if "(line)" in line.get_label()}
    assert lines == {f"{name} (line)": (mean, colours[name]) for name, mean in ((METHODS["ce"], 50.0), (PLAIN, 71.0))}
    assert [label.get_text() for label in axes.get_yticklabels()] == [f"{name} ({steps[name]})" for name in colours]


# ------------------------------------------------------------------------------------------------ figures


@pytest.mark.parametrize(
    ("seeds", "missing", "said"),
    [([0, 1, 2], 0, "mean of 3 trainings"), ([0], 0, "one training"), ([0, 1], 1, "mean of 1 to 2 trainings")],
)
def test_the_weights_figure_says_of_how_many_trainings_a_point_is(seeds, missing, said):
    results = made(scores(), seeds=seeds, trial_seeds=seeds)
    gone = [cell.spec.id for cell in results.study.cells if cell.table == "trials"][:missing]
    results = Results(results.study, {run_id: run for run_id, run in results.stored.items() if run_id not in gone})
    labels = multi_distillation.figure_weights(results).axes[0].get_legend_handles_labels()[1]
    prior = "one training" if len(seeds) == 1 else f"mean of {len(seeds)} trainings"
    assert labels == [f"random search ({said})", "TPE (one training)", f"prior-work row ({prior})"]


def test_both_peers_are_drawn_as_trained():
    (axes,) = multi_distillation.figure_method(made(scores())).axes
    assert any("peer 2 (trained likewise" in text.get_text() for text in axes.texts)
    assert len({to_hex(patch.get_facecolor()) for patch in axes.patches if patch.get_height() == 0.9}) == 1


@pytest.mark.parametrize("name", SHOWN)
def test_captions_are_a_few_plain_sentences(name):
    caption = artefacts.caption(study_of(), name)
    assert caption.endswith(".") and 1 <= len(re.findall(r"\.(?: |$)", caption)) <= 4
    assert not re.search(r"[`*_|]", caption)


def test_the_captions_number_of_shuffles_is_the_one_made():
    assert all(f"{SHUFFLES} shuffles" in artefacts.caption(study_of(), name) for name in ("table_importance", "figure_importance"))


# ------------------------------------------------------------------------------------------------ cost


@pytest.mark.parametrize(
    ("model", "size", "channels"),
    [
        (ResNet(width=8, blocks=(1, 1, 1, 1)), 8, 1),
        (ResNet(width=4, blocks=(1, 2, 1, 3)), 24, 3),
        (ResNet(width=64, blocks=(2, 1, 1, 1)), 16, 3),
        (Vit(embed_dim=8, depth=4, num_heads=2, patch_size=4), 8, 1),
    ],
)
@pytest.mark.parametrize("part", ["alone", "with exits", "angle relation"])
def test_cost_by_formula_is_cost_by_count(model, size, channels, part):
    data = DIGITS.changed(image_size=size, mean=(0.3,) * channels, std=(0.4,) * channels)
    spec = NetworkCost(model=model, data=data, batch_size=7, part=part)
    assert formula(spec, 10) == count(spec, 10) and count(spec, 10).macs > 0


def test_the_formula_gives_resnet18s_known_size():
    """With the stem for small images it has 11,173,962 parameters and 0.56 GMACs at 32 px, as every CIFAR code base prints."""
    data = DIGITS.changed(image_size=32, mean=(0.5,) * 3, std=(0.5,) * 3)
    found = formula(NetworkCost(model=ResNet(width=64, blocks=(2, 2, 2, 2)), data=data, batch_size=128, part="alone"), 10)
    assert found.parameters == 11_173_962 and round(found.macs / 1e9, 2) == 0.56


def test_the_table_of_costs_holds_both_ways(tmp_path):
    study = load_study("multi_distillation", "smoke", results_dir=str(tmp_path), device="cpu")
    runs = {cell.spec.id: cell.spec for cell in study.cells if cell.table == "cost"}
    counted = {run_id: result_of(spec, SimpleNamespace(data_dir=tmp_path)) for run_id, spec in runs.items()}
    table = multi_distillation.table_cost(Results(study, counted))
    assert len(table) == 3 and (table["MACs"] == table["MACs, by formula"]).all()
    assert table["parameters"].tolist() == table["parameters, by formula"].tolist() and table["parameters"].iloc[2] == 0
    assert list(multi_distillation.table_cost(Results(study, {}))["part"]) == list(table["part"])


# ------------------------------------------------------------------------------------------------ the notebook


@pytest.fixture(scope="module")
def cells():
    return nbformat.read(NOTEBOOK, as_version=4).cells


@pytest.mark.parametrize("profile", ["smoke", "quick", "desk", "tiny", "paper"])
def test_the_title_says_how_many_runs_a_profile_has(cells, profile, tmp_path):
    study = load_study("multi_distillation", profile, results_dir=str(tmp_path), data_dir=str(tmp_path))
    (row,) = [line for line in cells[0].source.splitlines() if line.startswith(f"| `{profile}` |")]
    assert f"| {len(study.specs)} runs, " in row


def test_the_notebook_shows_every_table_figure_and_finding_once(cells):
    code = "\n".join(cell.source for cell in cells if cell.cell_type == "code")
    for name in [*SHOWN, *FINDINGS]:
        assert code.count(f"multi_distillation.{name}(results)") == 1, name
    assert all(len(cell.source.splitlines()) <= 10 for cell in cells if cell.cell_type == "code")
