"""DeiT's tables: rows and columns of the publication, measured values where they belong."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from tests.support import smoke_study
from vitlib.papers import deit

TABLES = [name for name in vars(deit) if name.startswith("table_")]


def made(**frames):
    """Results that hold these frames by the name of their table."""
    settings = SimpleNamespace(recipe=SimpleNamespace(epochs=10), long_factor=2, long_epochs=20)
    return SimpleNamespace(frame=frames.__getitem__, study=SimpleNamespace(settings=settings))


def test_table_3_has_every_strategy_and_readout_at_every_size(results):
    table = deit.table_strategies(results)
    methods = table.drop_duplicates(["method", "readout"])[["method", "readout"]].values.tolist()
    assert methods == [
        ["no distillation", "class embedding"],
        ["usual (soft) distillation", "class embedding"],
        ["hard distillation", "class embedding"],
        ["distillation token", "class embedding"],
        ["distillation token", "distil. embedding"],
        ["distillation token", "class + distillation"],
        ["distillation token", "mean of the logits (code)"],
    ]
    assert set(table["model"]) == {"Ti", "B", "B↑"}
    published = table.set_index(["method", "readout", "model"])["published"]
    assert published["distillation token", "class + distillation", "B↑"] == 84.5
    assert published["no distillation", "class embedding", "Ti"] == 72.2


def test_table_3_shows_the_readouts_of_one_trained_model(results):
    table = deit.table_strategies(results).set_index(["method", "readout", "model"])["measured"]
    run = results.frame("strategies").query("method == 'token' and size == 'base' and resolution == 'native'").iloc[0]
    assert table["distillation token", "distil. embedding", "B"] == run["top1 distillation"]
    assert table["distillation token", "class + distillation", "B"] == run["top1"]


def test_table_2_counts_a_shared_teacher_once_and_stands_beside_its_size(results):
    table = deit.table_teachers(results).set_index(["teacher", "column"])
    assert table.loc[("ResNet-8", "teacher itself"), "n"] == 1
    assert table.loc[("ResNet-8", "student"), ["their teacher", "published"]].tolist() == ["RegNetY-16GF", 83.1]
    assert table.loc[("DeiT-B", "student, larger images"), "published"] == 83.1


def test_table_2_keeps_the_published_teachers_that_have_no_counterpart(results):
    table = deit.table_teachers(results)
    assert table["their teacher"].unique().tolist() == ["DeiT-B", "RegNetY-4GF", "RegNetY-8GF", "RegNetY-12GF", "RegNetY-16GF"]
    alone = table[table["teacher"].isna()]
    assert alone["published"].tolist() == [80.0, 82.7, 83.6, 81.7, 82.7, 83.8, 82.4, 83.1, 84.1]
    assert (alone["n"] == 0).all() and alone["measured"].isna().all() and alone["rank"].isna().all()


@pytest.mark.parametrize(
    ("ours", "pairs"),
    [
        (["DeiT-B", "ResNet-4", "ResNet-8"], {"DeiT-B": "DeiT-B", "ResNet-4": "b", "ResNet-8": "c"}),
        (["DeiT-B", "only"], {"DeiT-B": "DeiT-B", "only": "c"}),
    ],
)
def test_convnets_stand_beside_the_published_ones_from_the_largest_down(ours, pairs):
    from vitlib.papers.deit.tables import _by_size

    assert _by_size(np.array(ours), np.array(["DeiT-B", "a", "b", "c"])) == pairs


def test_table_5_has_a_dash_for_real_labels_where_there_is_no_imagenet(results):
    table = deit.table_models(results).dropna(subset="model")
    assert table["Real"].isna().all()
    assert table["V2 / shifted"].notna().all()
    assert table[["model", "their model"]].values.tolist()[-1] == ["ResNet-8 (teacher)", "RegNetY-16GF"]
    row = table.set_index("model").loc["DeiT-B distilled, longer↑"]
    assert (row["ImageNet"], row["ImageNet-Real"], row["ImageNet-V2"]) == (85.2, 89.3, 75.2)


def test_table_5_ends_with_the_published_models_that_have_no_counterpart(results):
    table = deit.table_models(results)
    assert len(table) == table["their model"].nunique() == 32  # of the paper's Table 5
    alone = table[table["model"].isna()].set_index("their model")
    assert (alone["n"] == 0).all() and alone[["params M", "images/s", "test"]].isna().all(axis=None)
    assert alone.loc["ViT-B/16", ["params M (theirs)", "images/s (V100)", "ImageNet"]].tolist() == [86, 85.9, 77.9]
    assert alone.loc["ViT-L/16", ["params M (theirs)", "images/s (V100)", "ImageNet"]].tolist() == [307, 27.3, 76.5]
    assert {"ResNet-152", "RegNetY-8GF", "EfficientNet-B7", "KDforAA-B8"} <= set(alone.index)
    assert not {"RegNetY-16GF", "DeiT-B", "DeiT-Ti distilled"} & set(alone.index)


def test_table_4_has_the_error_rates_in_its_first_row(results):
    table = deit.table_disagreement(results).set_index(["source", "classifier"])
    run = results.frame("strategies").query("method == 'token' and size == 'base' and resolution == 'native'").iloc[0]
    assert table.loc[("measured", "groundtruth"), "class"] == pytest.approx(100 - run["top1 class"])
    assert table.loc[("published", "convnet"), "DeiT"] == pytest.approx(13.3)


def test_every_published_number_of_tables_2_to_5_is_in_the_entry(results):
    counts = {name: len(results.published(name)) for name in ("paper_table2", "paper_table3", "paper_table4", "paper_table5")}
    assert counts == {"paper_table2": 15, "paper_table3": 24, "paper_table4": 36, "paper_table5": 150}


def test_the_longer_training_without_a_teacher_is_the_plain_student_for_more_epochs(smoke):
    cells = {cell.point["method"]: cell.spec for cell in smoke.cells if cell.table == "schedules"}
    assert list(cells) == ["none", "none-long", "token", "token-long"]
    assert [spec.recipe.epochs for spec in cells.values()] == [2, 4, 2, 4]
    assert cells["none-long"].changed(recipe=cells["none"].recipe) == cells["none"]
    assert cells["none-long"].teacher is None and not cells["none-long"].model.distilled


def test_gains_are_what_the_longer_training_adds_seed_by_seed():
    rows = [
        ("none", 0, 80.0),
        ("none", 1, 82.0),
        ("none-long", 0, 81.0),
        ("none-long", 1, 80.0),
        ("token", 0, 85.0),
        ("token-long", 0, 90.5),
    ]
    results = made(schedules=pd.DataFrame(rows, columns=["method", "seed", "top1"]))
    gains = deit.frame_gains(results).dropna(subset="gain").set_index(["method", "seed"])["gain"].to_dict()
    assert gains == {("none", 0): 1.0, ("none", 1): -2.0, ("token", 0): 5.5}


def test_students_of_convnets_are_averaged_only_where_all_are_measured():
    rows = [("DeiT-B", 0, 80.0), ("DeiT-B", 1, 81.0), ("A", 0, 84.0), ("B", 0, 86.0), ("A", 1, 84.0), ("B", 1, np.nan)]
    frame = pd.DataFrame(rows, columns=["teacher", "seed", "top1"]).assign(column="native")
    taught = deit.frame_taught(made(teachers=frame)).set_index(["kind", "seed"])["top1"]
    assert taught["convnet", 0] == 85.0 and np.isnan(taught["convnet", 1])
    assert taught["transformer"].tolist() == [80.0, 81.0]


def test_every_claim_names_the_sizes_and_images_it_is_about(results):
    about = "native images)"
    assert all(sentence.endswith(about) for sentence in results.claims()["claim"])


def test_every_claim_gets_a_verdict_and_with_one_seed_none_is_decided(results):
    claims = results.claims()
    assert len(claims) == len(results.study.entry["claim"])
    assert set(claims["verdict"]) == {"undecided"}
    assert claims["n"].str.startswith("1 seed").all()


@pytest.mark.parametrize("name", TABLES)
def test_tables_of_an_empty_store_show_dashes_and_compute_nothing(name, tmp_path):
    study = smoke_study(tmp_path / "empty")
    table = getattr(deit, name)(study.execute(mode="read-only"))
    assert not (tmp_path / "empty").exists()
    for column in {"measured", "test"} & set(table):
        assert np.isnan(table[column].astype(float)).all()
