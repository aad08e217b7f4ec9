"""Statistics and tables against plain formulas and hand counts."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from vitlib.report.distances import uniform_attention_distance
from vitlib.report.evidence.claims import verdicts
from vitlib.report.evidence.paired import paired_differences
from vitlib.report.statistics import beside, disagreement, half_width, summary
from vitlib.report.tables import DASH, formatted, save, shown


def test_half_width_is_half_of_the_student_t_interval():
    values = np.array([3.0, 4.0, 8.0])
    low, high = stats.t.interval(0.95, 2, loc=values.mean(), scale=stats.sem(values))
    assert half_width(pd.Series(values)) == pytest.approx((high - low) / 2)


@pytest.mark.parametrize(("image_size", "patch_size", "expected"), [(224, 16, 116.4922), (8, 4, (2 + 2**0.5))])
def test_attention_that_looks_everywhere_alike(image_size, patch_size, expected):
    """116.49 px: 14 x 14 patches of 16 px, from the sheet. Of 2 x 2 patches a quarter lie at 0, half at 4, a quarter at 4 * sqrt(2) px."""
    assert uniform_attention_distance(image_size, patch_size) == pytest.approx(expected, abs=5e-5)


def test_one_value_has_no_interval():
    assert np.isnan(half_width(pd.Series([3.0])))


def test_summary_keeps_groups_whose_runs_are_missing():
    frame = pd.DataFrame({"method": ["b", "b", "a"], "top1": [1.0, 3.0, np.nan]})
    table = summary(frame, ["method"], "top1")
    assert table["method"].tolist() == ["b", "a"]
    assert table["n"].tolist() == [2, 0]
    assert table["measured"].iloc[0] == 2.0
    assert np.isnan(table["measured"].iloc[1])


def test_summary_of_a_metric_that_no_run_has_is_empty_and_not_an_error():
    table = summary(pd.DataFrame({"method": ["a"]}), ["method"], "top1")
    assert table["n"].tolist() == [0]


def test_published_values_join_on_their_keys_and_leave_gaps_where_there_are_none():
    measured = pd.DataFrame({"method": ["a", "b"], "measured": [1.0, 2.0]})
    published = pd.DataFrame({"method": ["b", "c"], "published": [5.0, 6.0]})
    table = beside(measured, published, ["method"])
    assert table["published"].iloc[1] == 5.0
    assert np.isnan(table["published"].iloc[0])
    assert len(table) == 2


def test_a_published_value_given_twice_is_refused():
    measured = pd.DataFrame({"method": ["a"], "measured": [1.0]})
    twice = pd.DataFrame({"method": ["a", "a"], "published": [1.0, 2.0]})
    with pytest.raises(pd.errors.MergeError):
        beside(measured, twice, ["method"])


CLAIM = {
    "sentence": "a beats b", "published": "+1", "table": "t", "metric": "top1", "pair_by": ["size", "seed"],
    "first": {"method": "a"}, "second": {"method": "b"}, "relation": "greater",
}  # fmt: skip


def claimed(differences, relation="greater", margin=0.0):
    rows = [
        {"method": method, "size": size, "seed": seed, "top1": 50.0 + (difference if method == "a" else 0.0)}
        for seed, difference in enumerate(differences)
        for size in ("s", "m")
        for method in ("a", "b")
    ]
    claim = CLAIM | {"relation": relation, "margin": margin}
    return verdicts([claim], lambda table: pd.DataFrame(rows)).iloc[0]


@pytest.mark.parametrize(
    ("differences", "relation", "margin", "verdict"),
    [
        ([1.0, 1.1, 0.9], "greater", 0.0, "holds"),
        ([-1.0, -1.1, -0.9], "greater", 0.0, "fails"),
        ([1.0, -1.0, 0.2], "greater", 0.0, "undecided"),
        ([1.0], "greater", 0.0, "undecided"),
        ([0.1, 0.0, -0.1], "equal", 0.5, "holds"),
        ([5.0, 5.1, 4.9], "equal", 0.5, "fails"),
        ([-5.0, -5.1, -4.9], "equal", 0.5, "fails"),
        ([2.0, -2.0, 0.1], "equal", 0.5, "undecided"),
    ],
)
def test_verdict_follows_from_the_interval_of_the_paired_difference(differences, relation, margin, verdict):
    row = claimed(differences, relation, margin)
    assert row["verdict"] == verdict
    assert row["n"] == len(differences)
    assert row["difference"] == pytest.approx(np.mean(differences))


def test_pairing_removes_what_both_sides_share():
    """Seeds differ by ten points, the difference within a seed is always one."""
    rows = [{"method": m, "seed": s, "top1": 10.0 * s + (m == "a")} for s in range(3) for m in "ab"]
    differences = paired_differences(pd.DataFrame(rows), "top1", {"method": "a"}, {"method": "b"}, ["seed"])
    assert differences.tolist() == [1.0, 1.0, 1.0]


def test_a_claim_about_runs_that_are_missing_is_undecided():
    row = verdicts([CLAIM], lambda table: pd.DataFrame({"method": ["a"], "size": ["s"], "seed": [0]})).iloc[0]
    assert (row["verdict"], row["n"]) == ("undecided", 0)


def test_a_seed_with_a_pair_unmeasured_is_left_out_of_a_claim_and_a_point_of_one_side_alone_is_no_pair():
    gains = {(0.5, 0): 10.0, (0.5, 1): 11.0, (0.5, 2): 9.0, (0.9, 0): -2.0, (0.9, 1): np.nan, (0.9, 2): -3.0}
    rows = [
        {"method": method, "sparsity": sparsity, "seed": seed, "top1": 50.0 + (gain if method == "a" else 0.0)}
        for (sparsity, seed), gain in gains.items()
        for method in ("a", "b")
    ]
    rows += [{"method": "a", "sparsity": 0.99, "seed": seed, "top1": 1.0} for seed in range(3)]
    differences = paired_differences(pd.DataFrame(rows), "top1", {"method": "a"}, {"method": "b"}, ["sparsity", "seed"])
    assert differences.to_dict() == {0: 4.0, 2: 3.0}


def test_disagreement_is_a_metric_and_its_first_row_the_error_rate():
    """Invariant 11 of the DeiT sheet."""
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 5, 200)
    predictions = {"labels": labels, **{name: np.where(generator.random(200) < 0.7, labels, 0) for name in "abc"}}
    matrix = disagreement(predictions)
    assert (matrix == matrix.T).all()
    assert (np.diag(matrix) == 0).all()
    for one, other in np.ndindex(matrix.shape):
        assert (matrix[one, other] <= matrix[one] + matrix[other] + 1e-12).all()
    for row, name in enumerate("abc", start=1):
        assert matrix[0, row] == pytest.approx(1 - np.mean(predictions[name] == labels))


def test_cells_have_one_number_of_decimals_a_column_and_a_dash_where_nothing_is():
    table = pd.DataFrame(
        {"top1": [99.04, np.nan], "cosine": [0.5, -1.25], "images/s": [12345.6, 3.2], "n": [3, 0], "difference": [1.0, -2.25]}
    )
    text = formatted(table)
    assert text["top1"].tolist() == ["99.0", DASH]
    assert text["cosine"].tolist() == ["0.50", "-1.25"]
    assert text["images/s"].tolist() == ["12,346", "3"]
    assert text["n"].tolist() == ["3", "0"]
    assert text["difference"].tolist() == ["+1.0", "-2.2"]


def test_an_interval_is_written_with_the_decimals_that_its_width_needs_and_no_zero_has_a_minus():
    table = pd.DataFrame(
        {"difference": [3.1, -0.004, -0.052], "low": [1.2, -np.inf, -0.086], "high": [5, np.inf, -0.018], "p": [0.0123, 1e-5, 0.2]}
    )
    text = formatted(table)
    assert text["difference"].tolist() == ["+3.1", "0.0", "-0.05"]
    assert text["low"].tolist() == ["1.2", "-∞", "-0.09"]
    assert text["high"].tolist() == ["5.0", "∞", "-0.02"]
    assert text["p"].tolist() == ["0.012", "< 0.0001", "0.20"]
    assert formatted(pd.DataFrame({"p": [0.2, 1.0, np.nan]}))["p"].tolist() == ["0.20", "1.0", DASH]


def test_saved_tables_keep_full_precision_in_csv_and_carry_the_stamp(tmp_path):
    table = pd.DataFrame({"model": ["a"], "top1": [1 / 3]})
    save(table, tmp_path / "t", "profile quick")
    assert pd.read_csv(tmp_path / "t.csv")["top1"].iloc[0] == 1 / 3
    assert (tmp_path / "t.md").read_text().startswith("profile quick\n")
    assert "profile quick" in shown(table, "profile quick", "t").to_html()
