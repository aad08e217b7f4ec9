"""What the tables hold, on the smoke study, and the cost by formula."""

import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from tests.papers.dual_ssl_kd.support import without_runs
from vitlib.inputs.models import Vit, build
from vitlib.papers import dual_ssl_kd
from vitlib.papers.dual_ssl_kd import compute, tables
from vitlib.papers.dual_ssl_kd.specs import ABLATIONS

# ------------------------------------------------------------------------------------------------ smoke study, tables


def test_every_run_of_the_smoke_study_is_stored(results):
    assert set(results.study.status()["state"]) == {"stored"} and len(results.stored) == len(results.study.specs)
    for table in ("adapted", "students", "ablation", "downstream"):
        assert results.frame(table)["top1"].between(0, 100).all()


def test_table_1_holds_every_published_row(results, printed):
    table = dual_ssl_kd.table_1(results)
    rows = {
        (r["method"], r["setting"].removeprefix("teacher=")): float(r["value"]) for r in printed if r["table"] == "table1" and r["setting"]
    }
    assert len(rows) == 6 and table.set_index(["method", "teacher"])["published"].to_dict() == rows
    millions = {r["method"]: float(r["value"]) for r in printed if r["metric"] == "trainable_params"}
    assert len(millions) == 3 and dict(zip(table["method"], table["published, M"], strict=True)) == millions
    assert "difference" not in table and sorted(table["published rank"]) == [1, 2, 3, 4, 5, 6]


def test_table_1_counts_what_is_trained(results):
    width, hidden = 64, 256
    block = 4 * width**2 + 4 * width + 2 * width * hidden + hidden + width + 2 * 2 * width
    head = 10 * (width + 1)
    table = dual_ssl_kd.table_1(results).groupby("method")["trainable parameters"].unique()
    assert table["linear evaluation"] == [head] and table["Partial-1"] == [block + 2 * width + head]
    around = 2 * width + head + width + (64 + 1) * width + (3 * 16 + 1) * width
    patches = results.study.settings.data.image_size // 4
    assert table["fine-tuning"] == [12 * block + around - (64 - patches**2) * width]


def test_table_2_holds_every_published_row_and_the_constant_is_that_of_the_file(results, printed):
    keys = {"teacher=none;": "baseline", "teacher=DINO (fine": "kd-cl", "teacher=MAE (fine": "kd-mim", "teacher=DINO+MAE": "ours"}
    rows = [row for row in printed if row["table"] == "table2"]
    known = {method: float(row["value"]) for row in rows for start, method in keys.items() if row["setting"].startswith(start)}
    assert len(known) == len(rows) == 4 and known == tables.PUBLISHED
    table = dual_ssl_kd.table_2(results).set_index("method")
    assert table["published"].dropna().to_dict() == {tables.METHODS[name]: value for name, value in known.items()}
    assert list(table.index) == list(tables.METHODS.values())
    gains = {row["method"]: float(row["value"]) for row in printed if row["metric"] == "top1_gain"}
    assert known["ours"] - known["baseline"] == pytest.approx(gains["Ours_minus_Baseline"])
    assert known["ours"] - (known["kd-cl"] + known["kd-mim"]) / 2 == pytest.approx(gains["Ours_minus_KD"])


def test_an_ablations_change_is_its_difference_from_ours_of_the_same_seed(results):
    table = dual_ssl_kd.table_ablation(results).set_index("variant")
    ours = results.run("students", method="ours").metrics["top1"]
    assert list(table.index) == ["ours", *ABLATIONS] and table.loc["ours", "measured"] == ours
    for variant in ABLATIONS:
        assert table.loc[variant, "change"] == results.run("ablation", variant=variant).metrics["top1"] - ours
    assert math.isnan(table.loc["ours", "change"])


def test_table_of_downstream_sets_names_the_documents_set(results):
    table = dual_ssl_kd.table_downstream(results)
    assert list(table["method"]) == [tables.METHODS[name] for name in ("kd-cl", "kd-mim", "ours")]
    assert set(table["dataset"]) == {"few"} and set(table["document's set"]) == {"DTD"}


def test_single_teacher_distillation_is_the_mean_of_both_by_seed():
    rows = [("kd-cl", 0, 50.0), ("kd-mim", 0, 60.0), ("kd-cl", 1, 70.0), ("kd-mim", 1, 72.0), ("ours", 0, 80.0), ("ours", 1, 90.0)]
    frame = pd.DataFrame(rows, columns=["method", "seed", "top1"])
    found = dual_ssl_kd.frame_best_kd(SimpleNamespace(frame=lambda table: frame))
    assert found.query("method == 'kd'").set_index("seed")["top1"].to_dict() == {0: 55.0, 1: 71.0}
    assert len(found) == len(rows) + 2


def of_depth(depth):
    """Results with a distance for each image, block and head: block b (from 1), with heads that cancel out and images 100 apart."""
    values = np.arange(1, depth + 1)[None, :, None] + np.array([-0.5, 0.5]) + 100.0 * np.arange(3)[:, None, None]
    return SimpleNamespace(runs=lambda table: [({"model": "cl"}, SimpleNamespace(arrays={"distance": values}))])


@pytest.mark.parametrize(
    ("depth", "blocks"),
    [
        (12, [9, 10, 11, 12]),
        (6, [5, 6]),
        (3, [3]),
        (7, [6, 7]),
        (2, [2]),
    ],
)
def test_deep_distances_take_the_last_third_of_the_blocks(depth, blocks):
    ((point, found),) = dual_ssl_kd.deep_distances(of_depth(depth))
    assert point == {"model": "cl"} and found.tolist() == [np.mean(blocks) + 100 * image for image in range(3)]
    (row,) = dual_ssl_kd.frame_deep(of_depth(depth)).to_dict("records")
    assert row["model"] == "cl" and row["distance by image"].tolist() == found.tolist() and row["distance"] == found.mean()


def test_the_table_of_distances_is_that_of_the_stored_maps(study, results):
    table = dual_ssl_kd.table_distance(results).set_index("model")
    names = {"cl": "CL (DINO)", "mim": "MIM (MAE)", "supervised": "supervised", "untrained": "untrained"}
    assert list(table.index) == list(names.values()) and list(study.settings.models) == list(names)
    assert set(table["images"]) == {study.settings.looked_at} == {8} and set(table["image size, px"]) == {16}
    for point, run in results.runs("distances"):
        assert table.loc[names[point["model"]], "distance, px"] == pytest.approx(run.arrays["distance"][:, 8:].mean(), rel=1e-5)


def test_single_teacher_distillation_lacks_a_seed_that_lacks_one_of_the_two():
    rows = [("kd-cl", 0, 50.0), ("kd-mim", 0, math.nan), ("kd-cl", 1, 70.0), ("kd-mim", 1, 72.0)]
    frame = pd.DataFrame(rows, columns=["method", "seed", "top1"])
    found = dual_ssl_kd.frame_best_kd(SimpleNamespace(frame=lambda table: frame)).query("method == 'kd'").set_index("seed")["top1"]
    assert math.isnan(found[0]) and found[1] == 71.0


# ------------------------------------------------------------------------------------------------ cost by formula


@pytest.mark.parametrize(("protocol", "trained"), [("finetune", 86_567_656), ("linear", 769_000), ("partial1", 7_858_408)])
def test_the_formula_gives_the_parameters_of_vit_b_that_the_document_rounds(protocol, trained):
    sizes = {"image_size": 224, "channels": 3, "classes": 1000}
    assert tables._trained(Vit(embed_dim=768, depth=12, num_heads=12, patch_size=16), protocol, **sizes) == trained


@pytest.mark.parametrize("protocol", ["finetune", "linear", "partial1"])
def test_the_formula_counts_what_a_module_of_another_width_and_ratio_trains(protocol):
    vit = Vit(embed_dim=24, depth=3, num_heads=3, patch_size=2, mlp_ratio=3.0)
    module = build(vit, image_size=8, channels=1, num_classes=7)
    assert tables._trained(vit, protocol, image_size=8, channels=1, classes=7) == compute.adapt(module, protocol)


def test_trained_parameters_are_counted_as_the_formula_says(results):
    table = dual_ssl_kd.table_cost(results)
    assert list(table["method"].unique()) == list(tables.PROTOCOLS.values()) and len(table) == 6
    assert table["trained"].tolist() == table["trained, by formula"].tolist()


def test_the_formula_is_a_dash_where_the_classes_are_not_known(tmp_path):
    table = dual_ssl_kd.table_cost(without_runs("paper", tmp_path))
    assert len(table) == 6 and table["trained, by formula"].isna().all()
