"""AFR pruning's tables and figures hold what the smoke study stored, and the document's rows beside it."""

from itertools import combinations

import numpy as np
import pandas as pd
import pytest
import torch

from tests.papers.afr_pruning.support import scored, without_runs
from vitlib.papers import afr_pruning
from vitlib.papers.afr_pruning.tables import NAMES

# ------------------------------------------------------------------------------------------------ tables


def test_every_row_of_the_document_is_in_its_table(results):
    for table, published, key in ((afr_pruning.table_1(results), 40, "teacher"), (afr_pruning.table_2(results), 27, "sparsity")):
        rows = table.dropna(subset="published")
        assert len(rows) == published and not rows.duplicated([key, "document's set", "criterion"]).any()
    two = afr_pruning.table_2(results).set_index(["sparsity", "document's set", "criterion"])["published"]
    assert two[0.98, "Tiny-ImageNet", "AFR"] == 50.24
    one = afr_pruning.table_1(results).set_index(["teacher", "document's set", "criterion"])["published"]
    assert one["dino", "Cars", "SNIP"] == 30.92


def test_gains_are_differences_of_the_same_seed_and_stand_beside_the_printed_ones(results):
    table = afr_pruning.table_gains(results).set_index("teacher")
    frame = results.frame("fine").set_index(["teacher", "criterion"])["top1"]
    for teacher, printed in (("supervised", 4.15), ("dino", 6.16)):
        assert table.loc[teacher, "measured"] == frame[teacher, "afr"] - frame[teacher, "snip"]
        assert table.loc[teacher, "published"] == printed


def test_the_printed_differences_are_those_of_the_printed_accuracies_but_for_pets(results):
    for name in ("table1a", "table1b"):
        rows = results.published(name).assign(value=lambda frame: frame["value"].astype(float))
        rows = rows.pivot(index="dataset", columns="method", values="value")
        odd = (rows["AFR"] - rows["SNIP"] - rows["AFR_minus_SNIP"]).abs() > 0.006
        assert list(rows.index[odd]) == (["Pets"] if name == "table1a" else [])


def test_diagnosis_counts_what_masks_would_keep(results):
    for _, run in results.runs("diagnosis"):
        sizes = np.tile([64 * 192, 64 * 64, 64 * 256, 64 * 256], 12)
        kept = run.arrays["densities"] @ sizes / sizes.sum()
        assert np.allclose(kept, [1.0, 0.1], atol=1e-5)


def test_skewness_and_rank_correlations_of_the_scores_are_those_of_their_definitions(results, tmp_path):
    (_, run), *_ = results.runs("diagnosis")
    spec = results.study.specs[run.id]
    scores = {name: scored(name, spec, tmp_path) for name in ("snip", "refer", "afr", "magnitude")}
    flat = {name: torch.cat([part.flatten() for part in parts.values()]).double().numpy() for name, parts in scores.items()}
    ranks = {name: pd.Series(values).rank() for name, values in flat.items()}
    for name, values in flat.items():
        z = (values - values.mean()) / values.std()
        assert run.metrics[f"skewness {name}"] == pytest.approx((z**3).mean(), rel=1e-5)
    for one, other in combinations(flat, 2):
        assert run.metrics[f"spearman {one} {other}"] == pytest.approx(np.corrcoef(ranks[one], ranks[other])[0, 1], abs=1e-9)
    for place, name in ((0, "blocks.0.attn.qkv.weight"), (-1, "blocks.11.mlp.fc2.weight")):
        one, other = (pd.Series(scores[criterion][name].flatten().numpy()).rank() for criterion in ("snip", "refer"))
        assert run.arrays["correlation by matrix"][place] == pytest.approx(np.corrcoef(one, other)[0, 1], abs=1e-9)
    drawn = np.linspace(0, len(flat["snip"]) - 1, 1500).astype(int)
    np.testing.assert_allclose(run.arrays["percentiles"], [100 * ranks[name][drawn] / len(flat[name]) for name in ("snip", "refer")])


def test_the_weights_kept_are_those_of_the_formula(results):
    (row,) = afr_pruning.table_cost(results).to_dict("records")
    assert row == {
        "sparsity": 0.9,
        "prunable": 589_824,
        "prunable, by formula": 589_824,
        "kept": 58_982,
        "kept, by formula": 58_982,
    }


def test_the_formula_counts_vit_b_as_the_method_sheet_does(tmp_path):
    table = afr_pruning.table_cost(without_runs("paper", tmp_path))
    assert set(table["prunable, by formula"]) == {84_934_656}
    assert table.set_index("sparsity")["kept, by formula"].to_dict() == {0.9: 8_493_466, 0.95: 4_246_733, 0.98: 1_698_693}


def test_the_formula_follows_the_settings_of_pruning(tmp_path):
    table = afr_pruning.table_cost(without_runs("smoke", tmp_path, pruning={"threshold": "layer", "include_patch_embed": True}))
    sizes = [3 * 4 * 4 * 64] + 12 * [192 * 64, 64 * 64, 256 * 64, 64 * 256]
    assert table["prunable, by formula"].tolist() == [sum(sizes)]
    assert table["kept, by formula"].tolist() == [sum(round(0.1 * size) for size in sizes)]


def test_shares_of_the_mean_singular_value_have_their_unit_in_the_head(results):
    table = afr_pruning.table_spread(results).set_index("criterion")
    for name, label in afr_pruning.NAMES.items():
        metrics = results.run("generic", criterion=name).metrics
        columns = {
            "after the mask, % of dense": ("held-out ", "pruned"),
            "on the pruning samples, %": ("", "pruned"),
            "after fine-tuning, % of dense": ("held-out ", "tuned"),
        }
        for column, (kind, state) in columns.items():
            assert table.loc[label, column] == pytest.approx(100 * metrics[f"{kind}spread {state}"] / metrics[f"{kind}spread dense"])


def test_the_claim_that_refer_keeps_more_is_about_images_that_no_mask_was_scored_on(results):
    claim = next(claim for claim in results.study.entry["claim"] if claim["table"] == "kept_spread")
    assert claim["metric"] == "kept" and "held-out images" in claim["sentence"]
    frame = afr_pruning.frame_kept_spread(results).set_index("criterion")
    for name in ("snip", "refer"):
        metrics = results.run("generic", criterion=name).metrics
        assert frame.loc[name, "kept"] == pytest.approx(100 * metrics["held-out spread pruned"] / metrics["held-out spread dense"])


# ------------------------------------------------------------------------------------------------ figures


def test_criteria_stand_beside_each_other_near_the_sparsity_that_they_were_measured_at(results):
    (axes,) = afr_pruning.figure_accuracy(results).axes
    places = [line.get_xdata()[0] for line in axes.get_lines() if line.get_label() in NAMES.values()]
    assert len(set(places)) == len(places) == 5 and places[0] < 0 < places[-1]
    assert max(places) - min(places) < 0.1  # of the distance to the next sparsity


def test_every_matrix_type_and_teacher_of_the_correlations_is_named(results):
    panels = [axes for axes in afr_pruning.figure_correlation(results).axes if axes.get_title().endswith("within each matrix")]
    assert [axes.get_title().partition(":")[0] for axes in panels] == ["supervised", "DINO"]
    for axes in panels:
        assert [label.get_text() for label in axes.get_yticklabels()] == ["qkv", "proj", "fc1", "fc2"]
