"""AFR pruning's findings follow the numbers, whichever way these point, and runs may be missing."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from tests.papers.afr_pruning.support import without_runs
from vitlib.papers import afr_pruning


def shown(**frames):
    """Results of hand-made frames."""
    return SimpleNamespace(frame=lambda table: frames[table].copy())


def generic(**gains):
    """Three seeds at two sparsities: SNIP 50 and 40, ReFer 54 and 48, magnitude 45, and AFR above SNIP by `high` and `low` and the seed."""
    rows = [
        {
            "criterion": criterion,
            "dataset": "digits",
            "sparsity": sparsity,
            "seed": seed,
            "top1": base + (seed if criterion == "afr" else 0),
        }
        for seed in range(3)
        for sparsity, snip, refer, gain in ((0.9, 50.0, 54.0, gains["high"]), (0.98, 40.0, 48.0, gains["low"]))
        for criterion, base in (("snip", snip), ("refer", refer), ("afr", snip + gain), ("magnitude", 45.0))
    ]
    return shown(generic=pd.DataFrame(rows))


def test_the_finding_of_table_2_says_who_is_above_whom_with_the_interval():
    found = afr_pruning.finding_generic(generic(high=4.0, low=4.0))
    # AFR - SNIP is 4, 5, 6 by seed: 5 ± t(0.975, 2 degrees of freedom) / sqrt(3) = 5 ± 4.303 / 1.732
    assert "AFR is above SNIP (+5.0 points, 95 % interval +2.5 to +7.5, n = 3 seeds)" in found
    # AFR - ReFer is 0 + seed and -4 + seed, on average -1
    assert "AFR and ReFer are not told apart (-1.0 points, 95 % interval -3.5 to +1.5, n = 3 seeds)" in found
    assert found.endswith("AFR has the highest mean in 1 of 2 conditions; elsewhere another has it: ReFer for digits at 98 %.")


def test_the_finding_of_table_2_speaks_against_the_document_where_the_numbers_do():
    found = afr_pruning.finding_generic(generic(high=-9.0, low=-9.0))
    assert "AFR is below SNIP (-8.0 points, 95 % interval -10.5 to -5.5, n = 3 seeds)" in found
    assert "AFR has the highest mean in 0 of 2 conditions" in found and "ReFer for digits at 90 %, ReFer for digits at 98 %" in found


def test_a_seed_that_misses_a_run_does_not_count_in_a_finding():
    results = generic(high=4.0, low=4.0)
    frame = results.frame("generic")
    frame.loc[(frame["criterion"] == "snip") & (frame["seed"] == 2) & (frame["sparsity"] == 0.98), "top1"] = np.nan
    # 4 and 5 by seed: 4.5 ± t(0.975, 1 degree of freedom) / sqrt(2) * sqrt(1 / 2) = 4.5 ± 12.706 / 2
    said = "AFR and SNIP are not told apart (+4.5 points, 95 % interval -1.9 to +10.9, n = 2 seeds)"
    assert said in afr_pruning.finding_generic(shown(generic=frame))


def fine(dino):
    """Two seeds: AFR 5 above SNIP with the supervised teacher, `dino` above it with DINO; magnitude 60, SNIP 50."""
    rows = [
        {"criterion": criterion, "teacher": teacher, "dataset": "few", "seed": seed, "top1": top1 + seed * step * (criterion == "afr")}
        for seed in (0, 1)
        for teacher, gain, step in (
            ("supervised", 4.95, 0.1),
            ("dino", dino - 0.075, 0.15),
        )  # means: 5 and `dino`
        for criterion, top1 in (("snip", 50.0), ("afr", 50.0 + gain), ("magnitude", 60.0))
    ]
    return shown(fine=pd.DataFrame(rows))


@pytest.mark.parametrize(("dino", "said"), [(8.0, "is above that with"), (1.0, "is below that with")])
def test_the_finding_of_table_1_says_with_which_teacher_the_gain_is_larger(dino, said):
    found = afr_pruning.finding_fine(fine(dino))
    assert f"The gain over SNIP with DINO {said} the supervised teacher ({dino - 5:+.1f} points" in found
    assert "With the DINO teacher AFR is above SNIP" in found
    assert found.count("AFR is below magnitude pruning") == 2


def test_the_finding_of_the_scores_names_whom_afr_follows_and_the_shorter_tail():
    rows = {"spearman snip refer": 0.5, "spearman snip afr": 0.7, "spearman refer afr": 0.9, "skewness snip": 3.0, "skewness refer": 2.0}
    rest = {"spearman snip magnitude": 0.1, "spearman refer magnitude": 0.1, "skewness afr": 1.0, "skewness magnitude": 1.0}
    frame = pd.DataFrame([{"teacher": "dino", **rows, **rest}, {"teacher": "supervised", **rows, **rest, "spearman snip afr": 0.95}])
    found = afr_pruning.finding_scores(shown(diagnosis=frame))
    assert (
        "With the DINO teacher SNIP's and ReFer's ranks correlate by 0.50; AFR's ranks lie closer to ReFer's (SNIP 0.70, ReFer 0.90)"
        in found
    )
    assert "With the supervised teacher" in found and "closer to SNIP's (SNIP 0.95, ReFer 0.90)" in found
    assert found.count("ReFer's scores have the shorter tail (skewness SNIP 3.0, ReFer 2.0)") == 2


@pytest.mark.parametrize(("refer", "said"), [(30.0, "ReFer is above SNIP (+10.0"), (10.0, "ReFer is below SNIP (-10.0")])
def test_the_finding_of_the_singular_values_is_in_percent_of_the_dense_model(refer, said):
    rows = [
        {
            "criterion": name,
            "dataset": "digits",
            "sparsity": 0.9,
            "seed": seed,
            "spread dense": 2.0,
            "spread pruned": (share - 5) / 50,
            "held-out spread dense": 5.0,
            "held-out spread pruned": share / 20,
            "held-out spread tuned": 4.0,
        }
        for seed, step in enumerate((-0.1, 0.1))
        for name, share in (("snip", 20.0), ("refer", refer + step))
    ]
    found = afr_pruning.finding_singular_values(shown(generic=pd.DataFrame(rows)))
    assert said in found and f"{refer - 20:+.1f} at 90 %" in found
    assert f"SNIP 20.0 and 80.0; ReFer {refer:.1f} and 80.0" in found and found.count(said) == 2


FINDINGS = ("finding_generic", "finding_fine", "finding_scores", "finding_singular_values")


@pytest.mark.parametrize("name", FINDINGS)
def test_a_finding_without_runs_says_so_and_one_with_runs_does_not(name, results, tmp_path):
    assert getattr(afr_pruning, name)(without_runs("smoke", tmp_path)) == "Not measured yet."
    assert "easured yet" not in getattr(afr_pruning, name)(results)
