"""The findings follow the numbers, whichever way these point, and runs may be missing."""

import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from tests.papers.dual_ssl_kd.support import MICRO, without_runs
from vitlib.methods.attention import attention_confidence
from vitlib.papers import dual_ssl_kd


def distances(**models):
    """Results with a distance for each of four images, block and head: the model's, give or take a pixel from image to image."""
    steps = np.array([-1.0, 0.0, 0.0, 1.0])[:, None, None] * np.ones((4, 3, 2))
    runs = [({"model": name}, SimpleNamespace(arrays={"distance": value + slope * steps})) for name, (value, slope) in models.items()]
    settings = SimpleNamespace(distance_data=SimpleNamespace(image_size=8), cl=SimpleNamespace(model=MICRO, channels=1))
    maps = [({"model": "cl"}, SimpleNamespace(metrics={"patch": 4}))]
    return SimpleNamespace(runs=lambda table: maps if table == "maps" else runs, study=SimpleNamespace(settings=settings))


def test_the_finding_of_figure_1_says_who_attends_farther_with_its_images():
    found = dual_ssl_kd.finding_distance(distances(cl=(9.0, 2.0), mim=(6.0, 1.0), untrained=(9.0, 1.0)))
    # differences from MIM are 2, 3, 3, 4: 3 ± t(0.975, 3 degrees of freedom) * sqrt(2 / 3) / 2 = 3 ± 3.182 * 0.408
    assert "CL (DINO) attends farther than MIM (MAE) (+3.00 px, 95 % interval +1.70 to +4.30, n = 4 images of one training)" in found
    assert "CL (DINO) and the untrained network are not told apart (+0.00 px" in found
    # four places 4 px apart: from each two neighbours, one across, and itself
    assert f"spread evenly over the image would have {(4 + 4 + math.sqrt(32)) / 4:.1f} px" in found
    assert "Test images of 8 px, one training of each network" in found


def test_the_finding_of_figure_1_speaks_against_the_document_where_the_numbers_do():
    found = dual_ssl_kd.finding_distance(distances(cl=(4.0, 1.0), mim=(6.0, 1.5)))
    assert "CL (DINO) attends nearer than MIM (MAE) (-2.00 px" in found and "untrained" not in found


def by_seed(**top1):
    """Name, seed and top-1: three seeds about a point apart, so that differences of two names vary by 0.1 for each place between them."""
    return [(name, seed, value + seed + 0.1 * place * (seed - 1)) for place, (name, value) in enumerate(top1.items()) for seed in range(3)]


def adapted(**top1):
    """Rows of Table 1; the names are PROTOCOL_TEACHER."""
    return [{**dict(zip(("protocol", "teacher"), name.split("_"), strict=True)), "seed": s, "top1": v} for name, s, v in by_seed(**top1)]


def students(cl, mim, **top1):
    """Rows of Table 2; the teachers of ours reach about `cl` and `mim` at seed 0."""
    joint = {"ours": lambda seed: {"top1 cl": cl + 1.1 * seed - 0.1, "top1 mim": mim + seed}}
    return [
        {"method": name.replace("_", "-"), "seed": seed, "top1": value, **joint.get(name, lambda seed: {})(seed)}
        for name, seed, value in by_seed(**top1)
    ]


def shown(**frames):
    return SimpleNamespace(
        frame=lambda table: pd.DataFrame(frames[table]), study=SimpleNamespace(settings=SimpleNamespace(stands_for={"few": "DTD"}))
    )


TABLE_1 = {"finetune_cl": 70.0, "linear_cl": 80.0, "partial1_cl": 75.0, "finetune_mim": 85.0, "linear_mim": 60.0, "partial1_mim": 85.0}


def test_the_finding_of_table_1_says_whom_partial_1_rescues():
    found = dual_ssl_kd.finding_adapted(shown(adapted=adapted(**TABLE_1)))
    cl, mim = found.split(" MIM (MAE): ")
    assert "linear evaluation is above fine-tuning (+10.0 points" in cl and "Partial-1 is below linear evaluation (-5.0 points" in cl
    assert "linear evaluation is below fine-tuning (-25.0 points" in mim and "Partial-1 is above linear evaluation (+25.0 points" in mim


def test_the_finding_of_the_teachers_blames_them_for_the_gap_where_those_of_ours_are_better():
    frames = {"adapted": adapted(**TABLE_1), "students": students(78.0, 84.0, ours=70.0)}
    found = dual_ssl_kd.finding_teachers(shown(**frames))
    assert "CL (DINO): fine-tuned for KD 71.0 %, trained with the student in ours 79.0 % (+8.0 points" in found
    assert "the fine-tuned one is below its linear evaluation (-10.0 points" in found
    assert found.endswith("More accurate in ours on average: CL (DINO). The gap between ours and KD partly measures the teachers.")


def test_the_finding_of_the_teachers_is_careful_where_their_difference_is_not_clear():
    frames = {"adapted": adapted(**TABLE_1), "students": students(70.0, 84.0, ours=70.0)}
    frames["students"][1]["top1 cl"] += 3
    found = dual_ssl_kd.finding_teachers(shown(**frames))
    assert "+1.0 points, 95 % interval -3.3 to +5.3" in found  # -0.1, 3, 0.1: 1 ± 4.303 * 1.735 / sqrt(3)
    assert found.endswith("More accurate in ours on average: CL (DINO). The gap between ours and KD may partly measure the teachers.")


def test_the_finding_of_the_teachers_clears_them_where_none_is_better_in_ours():
    frames = {"adapted": adapted(**TABLE_1), "students": students(60.0, 84.0, ours=70.0)}
    found = dual_ssl_kd.finding_teachers(shown(**frames))
    assert found.endswith("No teacher is stronger in ours than in KD, so that a gap in favour of ours is not the teachers'.")


@pytest.mark.parametrize(("ours", "side"), [(70.0, "above"), (50.0, "below")])
def test_the_finding_of_table_2_compares_ours_with_the_mean_of_both_distillations(ours, side):
    frame = students(0.0, 0.0, baseline=60.0, kd_cl=58.0, kd_mim=64.0, two_frozen=62.0, ours=ours)
    found = dual_ssl_kd.finding_students(shown(students=frame))
    assert f"ours is {side} KD from one teacher (mean of both) ({ours - 61:+.1f} points" in found
    assert f"ours is {side} KD from both, frozen ({ours - 62:+.1f} points" in found
    assert f"ours is {side} the baseline ({ours - 60:+.1f} points" in found


@pytest.mark.parametrize(("ours", "side"), [(70.0, "above"), (50.0, "below")])
def test_the_finding_of_figure_3_names_the_documents_set(ours, side):
    frame = [row | {"dataset": "few"} for row in students(0.0, 0.0, kd_cl=58.0, kd_mim=64.0, ours=ours)]
    found = dual_ssl_kd.finding_downstream(shown(downstream=frame))
    assert f"few (for DTD): ours is {side} KD from one teacher (mean of both) ({ours - 61:+.1f} points" in found


FINDINGS = ("finding_distance", "finding_adapted", "finding_students", "finding_teachers", "finding_downstream")


@pytest.mark.parametrize("name", FINDINGS)
def test_a_finding_without_runs_says_so_and_one_with_runs_does_not(name, results, tmp_path):
    assert getattr(dual_ssl_kd, name)(without_runs("smoke", tmp_path)) == "Not measured yet."
    assert "easured yet" not in getattr(dual_ssl_kd, name)(results)


def test_attention_to_the_class_token_alone_counts_as_even_in_a_confidence_without_it():
    maps = torch.zeros(1, 1, 5, 5)
    maps[..., 0] = 1
    assert float(attention_confidence(maps)) == 1
    assert float(attention_confidence(maps, prefix_tokens=1)) == pytest.approx(1 / 4)
