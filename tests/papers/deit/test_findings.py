"""DeiT's findings: the sentences follow the numbers, whichever way these point, and runs may be missing."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from tests.support import smoke_study
from vitlib.grid.entries import published
from vitlib.papers import deit

FINDINGS = [name for name in vars(deit) if name.startswith("finding_")]
LABELS = np.repeat(np.arange(10), 10)  # one label of a hundred is one percent


class Made:
    """Results of a study of one size, made by hand: frames and runs by table, the publication's numbers as they are."""

    def __init__(self, runs=None, **frames):
        self.frames, self.stored = frames, runs or {}
        recipe = SimpleNamespace(epochs=10)
        self.study = SimpleNamespace(
            settings=SimpleNamespace(sizes=["base"], long_factor=2, long_epochs=20, recipe=recipe, teacher="ResNet-8")
        )

    def frame(self, table):
        return self.frames.get(table, pd.DataFrame([{"run": "missing"}]))

    def runs(self, table):
        return self.stored.get(table, [])

    def published(self, table):
        return published("deit", table)


def rows(names, *values):
    """A frame of these columns, each row repeated over the seeds of its last entry."""
    expanded = [(*row[:-1], seed, value) for row in values for seed, value in enumerate(row[-1])]
    return pd.DataFrame(expanded, columns=[*names, "seed", "top1"])


# ------------------------------------------------------------------------------------------------ teachers


def taught(convnet, transformer):
    names = ["teacher", "column"]
    shared = rows(names, ("DeiT-B", "teacher", [80.0]), ("ResNet-4", "teacher", [98.0]), ("ResNet-8", "teacher", [97.0]))
    of_transformer = rows(names, ("DeiT-B", "native", transformer), ("DeiT-B", "up", convnet))
    values = {"native": convnet, "up": transformer}
    of_convnets = rows(names, *((name, column, values[column]) for name in ("ResNet-4", "ResNet-8") for column in values))
    frame = pd.concat([shared, of_transformer, of_convnets], ignore_index=True)
    return Made(teachers=frame.assign(run=np.arange(len(frame))))


def test_the_finding_on_teachers_gives_both_image_sizes_their_own_sign():
    # differences 2, 4, 6: mean 4, half of the interval 4.303 x 2 / sqrt(3) = 4.97
    said = deit.finding_teachers(taught([84.0, 86.0, 88.0], [82.0, 82.0, 82.0]))
    assert "top-1 of the largest student: +4.0 points (95 % interval -1.0 to +9.0, n = 3 seeds)." in said
    assert "With larger images: -4.0 points (95 % interval -9.0 to +1.0, n = 3 seeds)." in said
    assert "The most accurate teacher is ResNet-4 (98.0 %), the most accurate student that of ResNet-4 (86.0 %)." in said


def test_the_finding_on_teachers_can_go_the_other_way():
    said = deit.finding_teachers(taught([82.0, 82.0, 82.0], [84.0, 86.0, 88.0]))
    assert "largest student: -4.0 points" in said
    assert "the most accurate student that of DeiT-B (86.0 %)" in said


# ------------------------------------------------------------------------------------------------ strategies


def strategies(native, larger):
    readouts = ["top1 class", "top1 distillation", "top1 class+distillation"]
    plain = [{"method": m, "resolution": "native", "seed": 0, "top1 class": v} for m, v in (("none", 70.0), ("soft", 71.0), ("hard", 72.0))]
    token = [
        {"method": "token", "resolution": resolution, "seed": seed, **dict(zip(readouts, seed + np.array(values), strict=True))}
        for resolution, values in (("native", native), ("up", larger))
        for seed in range(2)
    ]
    return Made(strategies=pd.DataFrame([*plain, *token]).assign(size="base"))


def test_the_finding_on_strategies_ranks_the_readouts_at_both_image_sizes():
    said = deit.finding_strategies(strategies((80.0, 82.0, 83.0), (84.0, 81.0, 82.5)))
    assert "no teacher 70.0, soft 71.0, hard 72.0, distillation token 83.5." in said
    assert "from low to high: class 80.5, distillation 82.5, both 83.5; after" in said
    assert "larger images: distillation 81.5, both 83.0, class 84.5 (" in said
    assert said.endswith("against the class token: -1.5 points (n = 2 seeds, no interval).")


def test_the_finding_on_strategies_says_so_where_the_order_is_the_published_one():
    said = deit.finding_strategies(strategies((80.0, 82.0, 83.0), (80.0, 81.0, 82.5)))
    assert "larger images: class 80.5, distillation 81.5, both 83.0 (published at both: class, distillation, both)." in said
    assert "class token: +2.5 points" in said


@pytest.mark.parametrize("pixels", [224, 384])
def test_the_published_order_of_the_readouts_is_the_one_stated(pixels):
    table = published("deit", "paper_table3")
    mine = table[table["method"].str.startswith("distillation token") & table["setting"].str.endswith(f"DeiT-B@{pixels}")]
    ranked = mine.sort_values("value")["method"].str.split(": ").str[1].tolist()
    assert ranked == ["class embedding", "distil. embedding", "class+distillation"]


# ------------------------------------------------------------------------------------------------ models


def models(larger):
    values = {(method, "native"): [80.0, 81.0] for method in larger} | {(method, "up"): tops for method, tops in larger.items()}
    frame = rows(["method", "resolution"], *((*key, tops) for key, tops in values.items()))
    frame = frame.assign(size="base", second_top1=frame["top1"].where(frame["resolution"] == "native", 0.0))
    return Made(
        models=frame,
        throughput=pd.DataFrame({"method": ["none", "token"] * 2, "size": "base", "resolution": ["native", "native", "up", "up"]}),
        best_teacher=pd.DataFrame({"run": ["t"], "top1": [99.0], "second_top1": [98.0]}),
    )


def test_the_finding_on_models_names_those_that_larger_images_change_against_the_publication():
    said = deit.finding_models(models({"none": [82.0, 82.0], "token": [78.0, 79.0]}))
    assert "no teacher +1.5 points (95 % interval -4.9 to +7.9, n = 2 seeds), published for DeiT-B +1.3;" in said
    assert "distillation token -2.0 points (n = 2 seeds, no interval), published for DeiT-B +1.1." in said
    assert said.endswith("On average these go the other way than published: distillation token.")


def test_the_finding_on_models_says_so_where_larger_images_help_all():
    said = deit.finding_models(models({"none": [82.0, 82.0], "token": [88.0, 89.0]}))
    assert said.endswith("All of them go the published way on average.")


def test_the_finding_on_models_counts_the_pairs_in_the_same_order_by_hand():
    # test set: none 80.5, token 80.5, none larger 82, token larger 78.5, teacher 99; second: 80.5, 80.5, 0, 0, 98.
    # Of ten pairs three differ: none larger falls below none and below token, and is equal to token larger
    said = deit.finding_models(models({"none": [82.0, 82.0], "token": [78.0, 79.0]}))
    assert said.startswith("7 of 10 pairs of models have the same order on both test sets.")


# ------------------------------------------------------------------------------------------------ disagreement


def with_errors(errors, to=None):
    """The labels with errors at these places: the next class, or what `to` says there."""
    wrong = LABELS.copy()
    wrong[errors] = (LABELS[errors] + 1) % 10 if to is None else to[errors]
    return wrong


def classified(teacher, plain, distilled, seeds=2):
    at = {"size": "base", "resolution": "native"}
    readouts = [f"predictions {name}" for name in ("class", "distillation", "class+distillation")]
    students = distilled if isinstance(distilled, list) else [distilled] * seeds  # a list has one for each seed
    stored = [
        ({**at, "method": method, "seed": seed}, SimpleNamespace(arrays={"labels": LABELS, **arrays}))
        for seed in range(seeds)
        for method, arrays in (("none", {"predictions class": plain}), ("token", dict.fromkeys(readouts, students[seed])))
    ]
    return Made(
        runs={
            "strategies": stored,
            "best_teacher": [({"seed": seed}, SimpleNamespace(arrays={"predictions class": teacher})) for seed in range(seeds)],
        }
    )


def test_beside_a_convnet_without_error_nearness_cannot_be_told_from_accuracy():
    said = deit.finding_disagreement(classified(LABELS, with_errors(range(20)), with_errors(range(10))))
    assert "The convnet is wrong on 0.0 % of the test images." in said
    assert "by no more: 20.0, 10.0, 10.0, 10.0 against 20.0, 10.0, 10.0, 10.0 (DeiT, class, distillation, class+distillation)." in said
    assert "the distance to the convnet changes by -10.0 points and the error by -10.0. The difference of the two is +0.0 points" in said
    assert said.endswith("its nearness to the convnet cannot be told from its accuracy.")


def test_a_student_that_repeats_the_convnets_errors_is_nearer_than_its_accuracy_explains():
    teacher = with_errors(range(20))
    said = deit.finding_disagreement(classified(teacher, with_errors(range(50, 70)), [with_errors(range(14)), with_errors(range(16))]))
    assert "changes by -35.0 points and the error by -5.0. The difference of the two is -30.0 points" in said
    assert said.endswith("it is nearer to the convnet than its accuracy explains.")


def test_a_student_that_errs_elsewhere_is_farther_than_its_accuracy_would_put_it():
    teacher = with_errors(range(20))
    said = deit.finding_disagreement(classified(teacher, teacher, [with_errors(range(50, 65)), with_errors(range(19, 34))]))
    assert "changes by +34.0 points and the error by -5.0." in said  # 15 errors of its own, or 14 and one that the convnet has, too
    assert said.endswith("it is farther from the convnet than its accuracy would put it.")


def test_one_seed_does_not_decide_on_nearness():
    said = deit.finding_disagreement(classified(with_errors(range(20)), LABELS, LABELS, seeds=1))
    assert said.endswith("(one seed, no interval): one seed does not decide whether that is more than its accuracy.")


# ------------------------------------------------------------------------------------------------ schedules and cosine


def schedules(none, token):
    lengths = [("none", [80.0] * 3), ("none-long", none), ("token", [85.0] * 3), ("token-long", token)]
    return Made(schedules=rows(["method"], *lengths))


@pytest.mark.parametrize(
    ("none", "token", "more", "verdict"),
    [
        ([80.0, 80.0, 80.0], [87.0, 88.0, 89.0], "+3.0 points (95 % interval +0.5 to +5.5,", "gains more, as published."),
        ([84.0, 84.0, 84.0], [85.0, 86.0, 87.0], "-3.0 points (95 % interval -5.5 to -0.5,", "gains less, against the publication."),
        ([80.0, 82.0, 84.0], [87.0, 87.0, 87.0], "+0.0 points (95 % interval -5.0 to +5.0,", "Which of them gains more is undecided."),
    ],
)
def test_the_finding_on_schedules_compares_the_gains(none, token, more, verdict):
    said = deit.finding_schedules(schedules(none, token))
    assert said.startswith("2 times the epochs, change of the largest student without a teacher: ")
    assert f"The second less the first: {more} n = 3 seeds)." in said
    assert said.endswith(verdict)


@pytest.mark.parametrize(("last", "said"), [(0.9, "+0.80 (one seed, no interval)"), (-0.3, "-0.40 (one seed, no interval)")])
def test_the_finding_on_cosines_gives_the_change_and_the_end(last, said):
    frame = pd.DataFrame([{"method": m, "seed": 0, "cosine_at_input": 0.1, "cosine_at_last": last} for m in ("token", "two-class")])
    text = deit.finding_cosine(Made(tokens=frame))
    assert text.count(said) == 2
    assert text.endswith(f"end at {last:.2f} (published: 0.93).")


# ------------------------------------------------------------------------------------------------ all of them


@pytest.mark.parametrize("name", FINDINGS)
def test_findings_of_an_empty_store_say_that_nothing_is_measured_yet(name, tmp_path):
    said = getattr(deit, name)(smoke_study(tmp_path / "empty").execute(mode="read-only"))
    assert "not measured yet" in said and "nan" not in said


@pytest.mark.parametrize("name", [name for name in FINDINGS if name != "finding_answer"])  # its intervals count images
def test_findings_of_one_seed_are_sentences_without_an_interval(name, smoke):
    said = getattr(deit, name)(smoke.execute(mode="read-only"))
    assert said.endswith(".") and ("(one seed, no interval)" in said or name == "finding_answer")
    assert "nan" not in said and "not measured" not in said
    assert name == "finding_answer" or "interval " not in said.replace("no interval", "")
