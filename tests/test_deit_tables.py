"""DeiT's tables: rows and columns of the publication, measured values where they belong."""

import numpy as np
import pytest
from support import smoke_study

from vitlib.papers import deit

TABLES = [name for name in vars(deit) if name.startswith("table_")]


@pytest.fixture(scope="module")
def results(smoke):
    return smoke.execute(mode="read-only")


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


def test_table_2_counts_a_shared_teacher_once_and_stands_beside_its_rank(results):
    table = deit.table_teachers(results).set_index(["teacher", "column"])
    assert table.loc[("ResNet-8", "teacher itself"), "n"] == 1
    assert table.loc[("ResNet-8", "student"), ["their teacher", "published"]].tolist() == ["RegNetY-16GF", 83.1]
    assert table.loc[("DeiT-B", "student, larger images"), "published"] == 83.1


def test_table_5_has_a_dash_for_real_labels_where_there_is_no_imagenet(results):
    table = deit.table_models(results)
    assert table["Real"].isna().all()
    assert table["V2 / shifted"].notna().all()
    assert table["model"].tolist()[-1] == "ResNet-8 (teacher)"
    row = table.set_index("model").loc["DeiT-B distilled, longer↑"]
    assert (row["ImageNet"], row["ImageNet-Real"], row["ImageNet-V2"]) == (85.2, 89.3, 75.2)


def test_table_4_has_the_error_rates_in_its_first_row(results):
    table = deit.table_disagreement(results).set_index(["source", "classifier"])
    run = results.frame("strategies").query("method == 'token' and size == 'base' and resolution == 'native'").iloc[0]
    assert table.loc[("measured", "groundtruth"), "class"] == pytest.approx(100 - run["top1 class"])
    assert table.loc[("published", "convnet"), "DeiT"] == pytest.approx(13.3)


def test_every_published_number_of_tables_2_to_5_is_in_the_entry(results):
    counts = {name: len(results.published(name)) for name in ("paper_table2", "paper_table3", "paper_table4", "paper_table5")}
    assert counts == {"paper_table2": 15, "paper_table3": 24, "paper_table4": 36, "paper_table5": 150}


def test_every_claim_gets_a_verdict_and_with_one_seed_none_is_decided(results):
    claims = results.claims()
    assert len(claims) == len(results.study.entry["claim"])
    assert set(claims["verdict"]) == {"undecided"}
    assert (claims["n"] == 1).all()


@pytest.mark.parametrize("name", TABLES)
def test_tables_of_an_empty_store_show_dashes_and_compute_nothing(name, tmp_path):
    study = smoke_study(tmp_path / "empty")
    table = getattr(deit, name)(study.execute(mode="read-only"))
    assert not (tmp_path / "empty").exists()
    for column in {"measured", "test"} & set(table):
        assert np.isnan(table[column].astype(float)).all()
