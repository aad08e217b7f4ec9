"""Published beside measured: a difference where the data are the document's, ranks elsewhere; against scipy's ranks and by hand."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import rankdata

from vitlib import load_study
from vitlib.grid.entries import documents
from vitlib.grid.results import Results
from vitlib.papers import afr_pruning, deit, dual_ssl_kd, wecolora
from vitlib.report.statistics import compared
from vitlib.report.tables import formatted

TABLES = {
    "afr_pruning": (afr_pruning.table_1, afr_pruning.table_2, afr_pruning.table_gains),
    "deit": (deit.table_teachers, deit.table_strategies, deit.table_cosine, deit.table_released),
    "dual_ssl_kd": (dual_ssl_kd.table_1, dual_ssl_kd.table_2),
    "wecolora": (wecolora.table_1,),
}
CASES = [(paper, table) for paper, tables in TABLES.items() for table in tables]
every_table = pytest.mark.parametrize(("paper", "table"), CASES, ids=[f"{paper}.{table.__name__}" for paper, table in CASES])


@pytest.fixture
def described(tmp_path):
    """Results of a study of which nothing is stored, and whose images need not be there."""

    def described(paper, profile, **overrides):
        places = {"results_dir": str(tmp_path), "data_dir": str(tmp_path), "device": "cpu"}
        return Results(load_study(paper, profile, overrides=overrides, **places), {})

    return described


def drawn(generator, rows):
    """Values of one decimal, so that some are equal; a fifth of either column is missing."""
    values = generator.integers(0, 12, (rows, 2)) / 10
    values[generator.random((rows, 2)) < 0.2] = np.nan
    return pd.DataFrame({"set": generator.choice(["a", "b"], rows), "measured": values[:, 0], "n": 1, "published": values[:, 1]})


@pytest.mark.parametrize("seed", range(20))
def test_ranks_are_those_of_scipy_within_a_set_among_rows_with_both_values(seed):
    table = drawn(np.random.default_rng(seed), 30)
    shown = compared(table, shared=False, within=["set"])
    for _, rows in shown.groupby("set"):
        both = rows.dropna(subset=["measured", "published"])
        for value, rank in (("measured", "rank"), ("published", "published rank")):
            assert both[rank].tolist() == rankdata(-both[value], method="min").tolist()
        assert rows.drop(both.index)[["rank", "published rank"]].isna().all(axis=None)


def test_without_sets_all_rows_are_ranked_together():
    shown = compared(pd.DataFrame({"measured": [1.0, 3.0, 2.0], "published": [8.0, 9.0, 9.0]}), shared=False)
    assert shown["rank"].tolist() == [3, 1, 2]
    assert shown["published rank"].tolist() == [3, 1, 1]


def test_means_of_the_same_seeds_in_another_order_share_a_rank():
    seeds = [0.1, 0.2, 0.3]
    one, other = sum(seeds) / 3, sum(reversed(seeds)) / 3
    assert one != other
    assert compared(pd.DataFrame({"measured": [one, other], "published": [1.0, 2.0]}), shared=False)["rank"].tolist() == [1, 1]


def test_the_rank_follows_what_is_measured_and_the_published_rank_what_is_published():
    table = pd.DataFrame({"method": ["a"], "measured": [1.0], "±": [0.1], "n": [3], "theirs": ["b"], "published": [2.0], "seconds": [1.0]})
    assert [*compared(table, shared=False)] == ["method", "measured", "±", "n", "rank", "theirs", "published", "published rank", "seconds"]
    assert [*compared(table, shared=True)] == ["method", "measured", "±", "n", "theirs", "published", "difference", "seconds"]


def test_where_the_data_are_shared_the_difference_is_measured_less_published():
    shown = compared(pd.DataFrame({"top1": [80.5, np.nan], "published": [81.0, 70.0]}), shared=True, measured="top1")
    assert shown["difference"].iloc[0] == -0.5 and np.isnan(shown["difference"].iloc[1])


def test_ranks_are_shown_as_whole_numbers_and_a_dash_where_there_is_none():
    text = formatted(compared(pd.DataFrame({"measured": [1.5, np.nan, 2.5], "published": [1.0, 2.0, 3.0]}), shared=False))
    assert text["rank"].tolist() == ["2", "–", "1"]
    assert text["published rank"].tolist() == ["2", "–", "1"]


def test_a_table_without_rows_keeps_its_columns():
    assert [*compared(pd.DataFrame({"measured": [], "published": []}), shared=False)] == ["measured", "rank", "published", "published rank"]


@every_table
def test_on_other_data_no_table_prints_a_difference_from_the_published_values(paper, table, described):
    shown = table(described(paper, "smoke"))
    assert "difference" not in shown
    assert {"rank", "published", "published rank"} <= {*shown}


@every_table
def test_on_the_documents_data_every_table_prints_the_difference_and_no_rank(paper, table, described):
    shown = table(described(paper, "paper"))
    assert "difference" in shown
    assert not {"rank", "published rank"} & {*shown}


def test_measured_values_are_ranked_on_digits_and_subtracted_had_the_document_measured_on_these(smoke):
    elsewhere = Results(smoke, smoke.execute(mode="read-only").stored)
    here = replace(elsewhere, study=replace(smoke, shares_data=True))
    ranked, subtracted = deit.table_strategies(elsewhere), deit.table_strategies(here)
    assert ranked[["measured", "published"]].equals(subtracted[["measured", "published"]])
    both = subtracted.dropna(subset=["measured", "published"])
    assert len(both) > 10
    assert both["difference"].tolist() == (both["measured"] - both["published"]).tolist()
    for _, rows in ranked.loc[both.index].groupby("model"):
        assert rows["rank"].tolist() == rankdata(-rows["measured"].round(6), method="min").tolist()


@pytest.mark.parametrize("paper", documents())
def test_profile_paper_has_the_documents_data_and_those_with_digits_do_not(paper, described):
    assert described(paper, "paper").study.shares_data
    assert not any(described(paper, profile).study.shares_data for profile in ("smoke", "quick", "desk"))


@pytest.mark.parametrize(
    ("changes", "shared"),
    [
        ({"recipe": {"epochs": 10}, "probe": {"epochs": 20}, "seeds": [0]}, True),
        ({"data": {"mean": [0.5] * 3, "std": [0.5] * 3}}, True),
        ({"downstream": {"cifar100": {"source": "folder/cifar100"}}}, True),
        ({"data": {"subset_seed": 3}}, True),
        ({"data": {"fraction": 0.02}}, False),
        ({"data": {"image_size": 160}}, False),
        ({"downstream": {"cifar100": {"source": "torch/cifar10"}}}, False),
        ({"downstream": {"cifar100": {"shift": {"contrast": 0.8, "noise": 0.1}}}}, False),
        ({"downstream": {"more": {"source": "folder/more", "image_size": 224}}}, False),
    ],
    ids=str,
)
def test_the_same_images_are_shared_however_they_are_kept_and_others_are_not(changes, shared, described):
    assert described("wecolora", "paper", **changes).study.shares_data is shared


def test_a_smoke_study_that_is_given_the_documents_data_shares_them(described):
    """The profile's name does not count: the document of multi-distillation has CIFAR-10 at 32 px."""
    own = {"source": "folder/cifar10", "image_size": 32, "per_class": None, "mean": [0.5] * 3, "std": [0.2] * 3}
    assert described("multi_distillation", "smoke", data=own).study.shares_data


def test_what_a_teacher_was_pretrained_on_is_not_the_studys_data(described):
    pretrained = {"run": {"profile": "tiny", "method": "supervised", "model": "tiny", "seed": 0}}
    results = described("wecolora", "paper", teacher={"origin": pretrained}, data={"image_size": 224})
    assert results.study.shares_data
