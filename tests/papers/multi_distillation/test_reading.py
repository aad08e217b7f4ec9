"""Multi-distillation's reading of the document's open places: which runs it reaches, what is refused, what tables and files say of it."""

import re
import tomllib
from itertools import product
from types import SimpleNamespace

import pytest
import torch

from tests.papers.multi_distillation.support import study_of
from vitlib.grid.results import Results
from vitlib.methods.distillation.exits import Outputs
from vitlib.papers import multi_distillation
from vitlib.papers.multi_distillation.search.settings import (
    run_best,
    run_ce_equal,
    run_curriculum,
    run_guided,
    run_method,
    run_prior_equal,
    run_trial,
    run_trial_equal,
)
from vitlib.papers.multi_distillation.search.space import LETTERS, Range, Space, Weights
from vitlib.papers.multi_distillation.training.objective import deepest, loss_terms
from vitlib.papers.multi_distillation.training.reading import Objective, Reading
from vitlib.spec import Part, SpecError

WEIGHTS = Weights(a=0.3, b=0.7, c=0.9, d=25.0, e=50.0, f=0.5, g=0.2, h=0.4, i=0.6)
OTHER = {  # every field away from its default
    "kd": "kl",
    "kd_temperature": 2.0,
    "relation_reading": "ctsl",
    "exit_form": "convex",
    "exit_temperature": 1.5,
    "hint_reduction": "sum",
}
BELOW_1 = {"h": {"high": 0.9}}  # a space that convex exits without labels of kd_loss allow
READ = ("trials", "trials_equal", "guided", "variations", "prior", "curriculum", "best")


def objectives(value):
    """Every objective inside a run, at any depth."""
    if isinstance(value, Objective):
        yield value
    elif isinstance(value, Part):
        yield from (found for name in type(value).model_fields for found in objectives(getattr(value, name)))
    elif isinstance(value, tuple):
        yield from (found for item in value for found in objectives(item))


def by_table(study):
    """The objectives of each table's runs; of the comparison, of each row."""
    found = {}
    for cell in study.cells:
        name = f"method {cell.point['method']}" if cell.table == "methods" else cell.table
        found.setdefault(name, []).extend(objectives(cell.spec))
    return found


def read(objective):
    return {name: getattr(objective, name) for name in Reading.model_fields}


# ------------------------------------------------------------------------------------------------ which runs


def test_every_open_place_has_a_value_of_its_own_here():
    assert OTHER.keys() == Reading.model_fields.keys()
    assert all(value != Reading.model_fields[name].default for name, value in OTHER.items())


def test_a_reading_reaches_every_run_of_the_searches_and_of_experiment_2_and_the_prior_work_row_keeps_its_form():
    changed = by_table(study_of(reading=OTHER, space=BELOW_1, prior_form="additive"))
    for table in READ:
        assert changed[table] and all(read(objective) == OTHER for objective in changed[table]), table
    for row in ("method prior", "prior_equal"):
        assert [read(objective) for objective in changed[row]] == [OTHER | {"exit_form": "additive"}]
    usual = by_table(study_of(space=BELOW_1))
    for method in study_of().settings.methods:
        assert changed[f"method {method}"] == usual[f"method {method}"]  # cited methods are read as they were published


@pytest.mark.parametrize("field", OTHER)
def test_one_open_place_changes_itself_and_nothing_else(field):
    usual, changed = (by_table(study_of(space=BELOW_1, reading=reading)) for reading in ({}, {field: OTHER[field]}))
    for table in READ:
        for before, after in zip(usual[table], changed[table], strict=True):
            assert after.changed(**{field: getattr(before, field)}) == before and getattr(after, field) == OTHER[field]


def test_a_run_that_is_read_as_usual_is_named_as_it_was_without_the_choice():
    assert Objective(weights=WEIGHTS).canonical() == {"Objective": {"weights": WEIGHTS.canonical()}}
    assert study_of().settings.reading == Reading()


@pytest.mark.parametrize("field", OTHER)
def test_a_reading_is_part_of_a_runs_identity(field):
    names = [
        {cell.spec.id for cell in study_of(space=BELOW_1, reading=each).cells if cell.table in READ} for each in ({}, {field: OTHER[field]})
    ]
    assert names[0] and not names[0] & names[1]


@pytest.mark.parametrize(
    ("reading", "expected"),  # experiment 2: a = b = c = 1, h = 0.1
    [({}, 2.0), ({"kd": "kl"}, 1.0), ({"exit_form": "convex"}, 1.9), ({"kd": "kl", "exit_form": "convex"}, 0.9)],
)
def test_rows_of_an_equal_step_are_measured_by_the_label_weight_of_experiment_2(reading, expected):
    settings = study_of(space=BELOW_1, reading=reading).settings
    assert run_curriculum(settings, order="sum", seed=0).objective.label_weight == pytest.approx(expected)
    assert run_ce_equal(settings, seed=0).label_weight == pytest.approx(expected)
    assert run_prior_equal(settings, seed=0).equal_step == pytest.approx(expected)
    assert run_best(settings, search="tpe", step="equal", seed=0).base.equal_step == pytest.approx(expected)
    trial, equal = (run(settings, number=3, seed=0) for run in (run_trial, run_trial_equal))
    assert equal.equal_step == pytest.approx(expected) and equal.changed(equal_step=None) == trial


# ------------------------------------------------------------------------------------------------ what is refused

FROM_0 = {"low": 0.0}


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            {"reading": {"exit_form": "convex"}},
            r"space: h=5\.0 with exit_form='convex' trains away from the labels; allowed: at most 1, or exit_form='additive'",
        ),
        ({"space": {"f": FROM_0}}, r"space: f=0\.0, g=0\.1 are smooth-L1 thresholds; allowed: above 0, or another relation_reading"),
        ({"space": {"g": FROM_0}}, r"space: f=0\.1, g=0\.0 are smooth-L1 thresholds; allowed: above 0"),
        (
            {"reading": {"kd": "kl"}, "space": {"c": FROM_0}},
            r"space: a=0\.1, c=0\.0, h=5\.0 with kd='kl': no label reaches the deepest classifier; allowed: c above 0$",
        ),
        (
            {"reading": {"kd": "kl", "exit_form": "convex"}, "space": {"h": {"high": 1.0}}},
            r"space: a=0\.1, c=0\.1, h=1\.0 with kd='kl': no label .*; allowed: c above 0 with h below 1$",
        ),
        ({"space": {"a": FROM_0, "c": FROM_0}}, r"space: a=0\.0, c=0\.0, .*; allowed: a above 0, or c above 0$"),
        ({"reading": {"kd": "kl"}, "prior": {"c": 0.0}}, r"prior: a=0\.1, c=0\.0, h=0\.1 with kd='kl': no label"),
        ({"prior": {"h": 1.5}}, r"prior in prior_form: h=1\.5 with exit_form='convex'.*; allowed: at most 1"),
        (
            {"reading": {"kd": "kl", "exit_form": "convex"}, "prior": {"h": 1.0}, "prior_form": "additive", "space": BELOW_1},
            r"prior: a=0\.1, c=0\.09, h=1\.0 with kd='kl': no label",
        ),
        ({"prior": {"a": 0.0}, "space": {"c": FROM_0}}, r"prior with space\.c\.low: a=0\.0, c=0\.0, .*no label"),
        ({"prior": {"b": 0.0, "f": 0.0}}, r"prior with a = b = c = 1: f=0\.0, g=1\.0 are smooth-L1 thresholds"),
        (
            {"reading": {"kd": "ce", "kd_temperature": 4.0}},
            r"reading: kd_temperature=4\.0 with kd='ce' and relation_reading='threshold', which have no KL; allowed: 1\.0, kd='ce\+kl'",
        ),
        ({"reading": {"exit_form": "concave"}}, r"reading\.exit_form: got 'concave'.*'additive' or 'convex'"),
        ({"reading": {"temperature": 4.0}}, r"reading\.temperature: unknown field.* allowed: exit_form, exit_temperature"),
        ({"reading": {"hint_reduction": "max"}}, r"reading\.hint_reduction: got 'max'.*'mean' or 'sum'"),
    ],
)
def test_readings_that_no_run_could_be_trained_with_are_refused_before_anything_runs(overrides, message):
    with pytest.raises(SpecError, match=message):
        study_of(**overrides)


def test_proposals_from_a_space_that_their_reading_cannot_learn_are_refused():
    proposals = run_guided(study_of().settings, round=0, position=0, seed=0).proposals
    convex = proposals.base.changed(objective=proposals.base.objective.changed(exit_form="convex"))
    with pytest.raises(SpecError, match=r"Proposals: h=5\.0 with exit_form='convex'"):
        proposals.changed(base=convex)
    below = proposals.space.changed(h=Range(low=0.1, high=1.0, step=0.1))
    assert proposals.changed(base=convex, space=below).guided()


@pytest.mark.parametrize(
    "overrides",
    [
        {"reading": {"exit_form": "convex"}, "space": {"h": {"high": 1.0}}},
        {"reading": {"relation_reading": "trade-off"}, "space": {"f": FROM_0, "g": FROM_0}},
        {"reading": {"kd": "kl"}, "space": {"a": FROM_0}},
        {"reading": {"kd": "ce", "kd_temperature": 4.0, "relation_reading": "ctsl"}},
        {"reading": {"hint_reduction": "sum"}, "prior": {"i": 1e-6}},
        {"space": {"c": FROM_0}},
        {"prior": {"h": 1.5}, "prior_form": "additive"},
    ],
)
def test_their_neighbours_are_not(overrides):
    assert study_of(**overrides).specs


@pytest.mark.parametrize("relation_reading", ["threshold", "ctsl"])
@pytest.mark.parametrize("exit_form", ["additive", "convex"])
@pytest.mark.parametrize("kd", ["ce+kl", "ce", "kl"])
def test_what_can_be_learnt_in_the_hardest_corner_of_a_space_can_be_learnt_in_every_corner(kd, exit_form, relation_reading):
    """Of spaces that begin at zero or above, with an h up to 0.5 or beyond 1."""
    reading = Reading(kd=kd, exit_form=exit_form, relation_reading=relation_reading)
    for a, c, f, g, h in product((0.0, 0.1), (0.0, 0.1), (0.0, 0.1), (0.0, 0.1), (0.5, 2.0)):
        ends = dict.fromkeys(LETTERS, (0.1, 0.7)) | {"a": (a, 0.7), "c": (c, 0.7), "f": (f, 0.7), "g": (g, 0.7), "h": (0.1, h)}
        space = Space(**{letter: Range(low=low, high=high, step=high - low) for letter, (low, high) in ends.items()})
        fixed = {letter: 0.1 for letter in "dei"}
        corners = (dict(zip("abcfgh", corner, strict=True)) for corner in product(*(ends[letter] for letter in "abcfgh")))
        assert learnable(reading, space.hardest) == all(learnable(reading, Weights(**corner, **fixed)) for corner in corners)


def learnable(reading, weights):
    try:
        Objective(weights=weights, **dict(reading))
    except ValueError:
        return False
    return True


# ------------------------------------------------------------------------------------------------ what is said of it


def ends(seed):
    """Logits and features of four ends."""
    generator = torch.Generator().manual_seed(seed)
    return Outputs(*([torch.randn(6, size, generator=generator, dtype=torch.float64) for _ in range(4)] for size in (4, 5)))


def terms_of(reading, weights=WEIGHTS):
    targets = torch.eye(4)[torch.arange(6) % 4]
    return loss_terms(ends(1), deepest(ends(2)), targets, Objective(weights=weights, **dict(reading)))


def moving(reading):
    """Letters whose weight changes the loss."""
    total = sum(terms_of(reading).values())
    doubled = {letter: WEIGHTS.changed(**{letter: 2 * getattr(WEIGHTS, letter)}) for letter in LETTERS}
    return {letter for letter, weights in doubled.items() if sum(terms_of(reading, weights).values()) != total}


@pytest.mark.parametrize("kd", ["ce+kl", "ce", "kl"])
@pytest.mark.parametrize("relation_reading", ["threshold", "multiplicative", "trade-off", "ctsl"])
def test_the_drawing_and_table_1_name_the_weights_that_move_the_loss_and_the_outputs_where_they_teach(kd, relation_reading):
    reading = Reading(kd=kd, relation_reading=relation_reading)
    results = Results(study_of(reading={"kd": kd, "relation_reading": relation_reading}), {})
    texts = [text.get_text() for text in multi_distillation.figure_method(results).axes[0].texts]
    formulas = [text for text in texts if re.match(r"[abc] ", text)]
    assert len(formulas) == 3 and set(re.findall(r"(?<![A-Za-z])[a-i](?![A-Za-z])", " ".join(formulas))) == moving(reading)
    assert ("outputs" in texts) == any("KL" in name for name in terms_of(reading))
    table = multi_distillation.table_1(results).set_index("symbol")["read as"]
    assert set(table.index[table != "nothing"]) == moving(reading)


@pytest.mark.parametrize(("reading", "letters"), [({}, ""), ({"exit_form": "convex", "hint_reduction": "sum"}, "hi"), ({"kd": "kl"}, "a")])
def test_table_1_says_where_a_weight_is_read_otherwise(reading, letters):
    usual, changed = (
        multi_distillation.table_1(Results(study_of(reading=each, space=BELOW_1), {})).set_index("symbol") for each in ({}, reading)
    )
    assert "".join(usual.index[usual["read as"] != changed["read as"]]) == letters


# ------------------------------------------------------------------------------------------------ taken away


@pytest.mark.parametrize("reading", [{}, OTHER, {"exit_temperature": 0.1 + 0.2}], ids=["usual", "other", "one"])
def test_the_file_of_the_best_setting_trains_what_the_best_run_trained(tmp_path, reading):
    study = study_of(reading=reading, space=BELOW_1)
    trials = {cell.spec.id: cell.spec.objective.weights for cell in study.cells if cell.table == "trials"}
    stored = {run: SimpleNamespace(metrics=w.model_dump() | {"top1": float(place)}) for place, (run, w) in enumerate(trials.items())}
    path = multi_distillation.save_best(Results(study, stored), tmp_path / "best.toml")
    settings = study_of(**tomllib.loads(path.read_text(encoding="utf-8"))).settings
    base = run_best(study.settings, search="random", step="as given", seed=0).base
    assert run_method(settings, method="best", seed=0) == base.changed(objective=base.objective.weighted(list(trials.values())[-1]))
