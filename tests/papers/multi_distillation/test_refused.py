"""Objectives, runs and settings that contradict themselves are refused, and their neighbours are not."""

import pytest

from tests.papers.multi_distillation.support import ONE_STEP, SPEC, TEACHER, WEIGHTS, smoke_of
from vitlib.papers.multi_distillation.specs import Objective
from vitlib.spec import SpecError


@pytest.mark.parametrize(
    ("fields", "weights", "message"),
    [
        ({"exit_form": "convex"}, {"h": 1.1}, r"h=1\.1 with exit_form='convex' trains away from the labels; allowed: at most 1"),
        ({}, {"f": 0.0}, r"f=0\.0, g=0\.2 are smooth-L1 thresholds; allowed: above 0"),
        ({}, {"g": 0.0}, r"f=0\.5, g=0\.0 are smooth-L1 thresholds; allowed: above 0"),
        ({}, {"a": 0.0, "c": 0.0}, r"a=0\.0, c=0\.0, h=0\.4 with kd='ce\+kl': no label .*allowed: a above 0, or c above 0$"),
        ({"kd": "kl"}, {"c": 0.0}, r"a=0\.3, c=0\.0, h=0\.4 with kd='kl': no label .*allowed: c above 0$"),
        ({"exit_form": "convex", "kd": "kl"}, {"h": 1.0}, r"h=1\.0 with kd='kl': no label .*c above 0 with h below 1$"),
        ({"kd": "ce", "kd_temperature": 4.0}, {}, r"kd_temperature=4\.0 with kd='ce' .* have no KL; allowed: 1\.0"),
        ({"exit_form": "concave"}, {}, r"exit_form: got 'concave'.*'additive' or 'convex'"),
        ({"kd_temperature": 0.0}, {}, r"kd_temperature: got 0\.0; .*greater than 0"),
        ({"scale": -1.0}, {}, r"scale: got -1\.0; .*greater than 0"),
        ({}, {"d": -25.0}, r"d: got -25\.0; .*greater than or equal to 0"),
        ({}, {"h": float("nan")}, r"h: got nan; .*finite"),
    ],
)  # fmt: skip
def test_objectives_that_cannot_be_learnt_from_are_refused(fields, weights, message):
    with pytest.raises(SpecError, match=message):
        Objective(weights=WEIGHTS).changed(weights=WEIGHTS.changed(**weights), **fields)


@pytest.mark.parametrize(
    ("fields", "weights"),
    [
        ({"exit_form": "convex"}, {"h": 1.0}),
        ({"exit_form": "additive"}, {"h": 5.0}),
        ({}, {"b": 0.0, "f": 0.0, "g": 0.0}),
        ({"relation_reading": "multiplicative"}, {"f": 0.0}),
        ({"kd": "kl"}, {}),
        ({}, {"a": 0.0}),
    ],
)
def test_their_neighbours_are_not(fields, weights):
    assert Objective(weights=WEIGHTS.changed(**weights), **fields).label_weight > 0


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"peers": (3, 3)}, r"peers=\(3, 3\) are copies of one network.*allowed: two seeds"),
        ({"teacher": TEACHER, "warm_start": (TEACHER, TEACHER)}, r"teacher and warm_start exclude each other; give one"),
        (
            {"order": "phases", "objective": Objective(weights=WEIGHTS.changed(b=0.0))},
            r"order='phases' with a=0\.3, b=0\.0, c=0\.9; allowed: all three above 0",
        ),
        *(
            ({"order": "successive", "recipe": ONE_STEP.changed(**{name: 0.8})}, rf"recipe\.{name}=0\.8; allowed: 0\.0, .* the same batch")
            for name in ("mixup", "cutmix")
        ),
        (
            {"order": "phases", "equal_step": 2.0},
            r"order='phases' with equal_step=2\.0; allowed: order='together', whose first step is on all terms",
        ),
        ({"equal_step": 0.0}, r"equal_step: got 0\.0; .*greater than 0"),
        ({"order": "random"}, r"order: got 'random'; .*'together', 'successive' or 'phases'"),
        ({"held_out": 0.0}, r"held_out: got 0\.0; .*greater than 0"),
        ({"held_out": 1.0}, r"held_out: got 1\.0; .*less than 1"),
        ({"measured_on": "train"}, r"measured_on: got 'train'; .*'held-out' or 'test'"),
    ],
)
def test_runs_that_contradict_themselves_are_refused(fields, message):
    with pytest.raises(SpecError, match=message):
        SPEC.changed(**fields)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"rounds": 3, "positions": 2}, r"rounds=3 of positions=2 are no fewer than numbers=6; allowed: fewer"),
        ({"methods": {"prior": {"objective": {"weights": WEIGHTS.model_dump()}}}}, r"methods: prior; allowed: other names"),
        ({"recipe": {"ema_decay": 0.9}}, r"recipe\.ema_decay=0\.9; allowed: None"),
        ({"recipe": {"mixup": 0.8}}, r"recipe\.mixup=0\.8; allowed: 0\.0"),
        ({"recipe": {"drop_path": 0.1}}, r"recipe\.drop_path=0\.1; allowed: 0\.0"),
        ({"space": {"a": {"low": 1.0}}}, r"space\.a: low=1\.0 and high=1\.0; allowed: low below high"),
        ({"space": {"a": {"step": 0.0}}}, r"space\.a\.step: got 0\.0; .*greater than 0"),
        ({"prior": {"j": 1.0}}, r"prior\.j: unknown field.* allowed: a, b, c"),
        (
            {"seeds": [0, 1], "trial_seeds": [0]},
            r"seeds=\[0, 1\] and trial_seeds=\[0\]; allowed: as many of one as of the other, since each seed of the comparison",
        ),
        ({"trial_seeds": [3, 4]}, r"seeds=\[0\] and trial_seeds=\[3, 4\]; allowed: as many"),
        ({"numbers": 3}, r"numbers: got 3; .*greater than or equal to 4"),
    ],
)
def test_settings_that_cannot_be_run_are_refused(overrides, message, tmp_path):
    with pytest.raises(SpecError, match=message):
        smoke_of(tmp_path, overrides=overrides)
