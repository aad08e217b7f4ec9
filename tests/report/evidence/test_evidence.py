"""Paired differences, intervals, correction and power against loops, Welch's test, scipy and closed forms."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from vitlib.report.evidence.claims import COLUMNS, Judged, readable, scoreboard, verdicts
from vitlib.report.evidence.intervals import Interval, Spread, crossed, fixed, interval_of, sequential
from vitlib.report.evidence.multiplicity import adjusted, level_for_one
from vitlib.report.evidence.paired import Paired, paired, paired_differences
from vitlib.report.evidence.power import seeds_and_images_needed, seeds_needed
from vitlib.report.frames import in_units

GENERATOR = np.random.default_rng(16)
BY_SEED = {"first": {"method": "a"}, "second": {"method": "b"}, "pair_by": ["seed"]}
BY_SIZE = BY_SEED | {"pair_by": ["size", "seed"]}
BY_SET = BY_SEED | {"pair_by": ["dataset", "seed"]}


def row(values, **keys):
    """A run whose metric is the mean of right and wrong images."""
    values = in_units(np.asarray(values, bool))
    return {**keys, "top1": values.mean(), "top1 by image": values}


def right(count):
    return GENERATOR.random(count) < 0.7


# ------------------------------------------------------------------------------------------------ pairs


def test_differences_by_image_have_the_difference_by_seed_as_their_mean():
    sides = {(method, seed): right(40) for method in "ab" for seed in (3, 1)}
    frame = pd.DataFrame([row(values, method=method, seed=seed) for (method, seed), values in sides.items()])
    differences = paired(frame, "top1", **BY_SEED)
    assert differences.by_seed.index.tolist() == [1, 3]
    for seed, by_image in zip((1, 3), differences.by_image, strict=True):
        assert by_image.tolist() == [100.0 * (int(x) - int(y)) for x, y in zip(sides["a", seed], sides["b", seed], strict=True)]
    assert differences.by_image.mean(axis=1) == pytest.approx(differences.by_seed.to_numpy())
    assert differences.judged == 40


def test_sizes_share_their_images_and_are_averaged_image_by_image():
    sides = {(method, size): right(30) for method in "ab" for size in "sm"}
    frame = pd.DataFrame([row(values, method=method, size=size, seed=0) for (method, size), values in sides.items()])
    by_image = paired(frame, "top1", **BY_SIZE).by_image
    expected = [50.0 * sum(int(sides["a", size][i]) - int(sides["b", size][i]) for size in "sm") for i in range(30)]
    assert by_image[0] == pytest.approx(expected)


def test_means_of_four_models_are_of_images_that_were_judged_and_other_means_are_not():
    sides = {(method, size): right(30) for method in "ab" for size in "tsmb"}
    sides["a", "t"][0], sides["b", "t"][0] = True, False
    frame = pd.DataFrame([row(values, method=method, size=size, seed=0) for (method, size), values in sides.items()])
    assert paired(frame, "top1", **BY_SIZE).judged == 30
    frame["top1"], frame["top1 by image"] = 0.99 * frame["top1"], 0.99 * frame["top1 by image"]
    assert paired(frame, "top1", **BY_SIZE).judged == 0


def test_images_of_several_sets_are_joined_so_that_mean_and_variance_are_those_of_the_mean_over_sets():
    sides = {(method, name): right(count) for method in "ab" for name, count in (("x", 400), ("y", 150))}
    frame = pd.DataFrame([row(values, method=method, dataset=name, seed=0) for (method, name), values in sides.items()])
    differences = paired(frame, "top1", **BY_SET)
    of_set = {name: 100.0 * (sides["a", name].astype(float) - sides["b", name]) for name in "xy"}
    assert differences.by_seed[0] == pytest.approx(np.mean([values.mean() for values in of_set.values()]))
    assert differences.by_image.shape == (1, 550)
    assert differences.by_image.mean() == pytest.approx(differences.by_seed[0])
    expected = sum(values.var() / len(values) for values in of_set.values()) / 4
    assert differences.by_image.var() / 550 == pytest.approx(expected)
    assert differences.judged == 2 * 150


def test_sets_weigh_by_their_pairs_as_in_the_mean_by_seed():
    rows = [(name, size) for name, sizes in (("x", "sm"), ("y", "s")) for size in sizes]
    frame = pd.DataFrame([row(right(50), method=method, dataset=name, size=size, seed=0) for name, size in rows for method in "ab"])
    differences = paired(frame, "top1", **(BY_SEED | {"pair_by": ["dataset", "size", "seed"]}))
    assert differences.by_image.mean(axis=1) == pytest.approx(differences.by_seed.to_numpy())


@pytest.mark.parametrize(
    "rows",
    [
        [*(row(right(20), method=method, seed=seed) for method, seed in ("a0", "a1", "b0")), {"method": "b", "seed": "1", "top1": 50.0}],
        [row(right(20 + 5 * seed), method=method, seed=seed) for method in "ab" for seed in (0, 1)],
        [row(right(20 + 5 * (method == "a")), method=method, seed=seed) for method in "ab" for seed in (0, 1)],
        [{"method": method, "seed": seed, "top1": 50.0} for method in "ab" for seed in (0, 1)],
    ],
    ids=["one run lacks them", "seeds have other images", "sides have other images", "no run has them"],
)
def test_without_images_that_all_runs_share_only_seeds_are_counted(rows):
    frame = pd.DataFrame(rows)
    differences = paired(frame, "top1", **BY_SEED)
    assert differences.by_image is None
    assert differences.by_seed.equals(paired_differences(frame, "top1", **BY_SEED))


def test_a_seed_without_its_pair_is_left_out_of_the_images_too():
    rows = [row(right(20), method=method, seed=seed) for method in "ab" for seed in range(3)]
    rows[1] |= {"top1": np.nan, "top1 by image": np.nan}
    differences = paired(pd.DataFrame(rows), "top1", **BY_SEED)
    assert differences.by_seed.index.tolist() == [0, 2]
    assert differences.by_image.shape == (2, 20)


def test_values_by_image_with_another_mean_than_the_metric_are_refused():
    rows = [row(right(20), method=method, seed=0) for method in "ab"]
    rows[0]["top1"] += 5
    with pytest.raises(ValueError, match="top1 by image"):
        paired(pd.DataFrame(rows), "top1", **BY_SEED)


def test_arms_are_paired_by_seed_whatever_the_order_of_rows_and_whichever_are_missing():
    values = {("a", 0): 1.0, ("a", 1): 2.0, ("a", 2): 4.0, ("b", 2): 30.0, ("b", 3): 50.0, ("b", 0): 10.0}
    frame = pd.DataFrame([{"method": method, "seed": seed, "top1": value} for (method, seed), value in values.items()])
    assert paired_differences(frame, "top1", **BY_SEED).to_dict() == {0: 1.0 - 10.0, 2: 4.0 - 30.0}


# ------------------------------------------------------------------------------------------------ intervals


def test_variances_are_those_of_a_loop_over_seeds_and_images():
    values = GENERATOR.normal(size=(4, 6))
    n, m = values.shape
    mean = sum(values[s, i] for s in range(n) for i in range(m)) / (n * m)
    of_seed = [sum(values[s]) / m for s in range(n)]
    of_image = [sum(values[s, i] for s in range(n)) / n for i in range(m)]
    seeds = sum((x - mean) ** 2 for x in of_seed) / (n - 1)
    images = sum((x - mean) ** 2 for x in of_image) / (m - 1)
    rest = sum((values[s, i] - of_seed[s] - of_image[i] + mean) ** 2 for s in range(n) for i in range(m)) / ((n - 1) * (m - 1))
    spread = crossed(values)
    assert (spread.seeds, spread.images, spread.residual) == pytest.approx((seeds, images, rest))


def test_without_residual_the_interval_is_that_of_welch():
    """Two independent means, of seeds and of images, are what Welch's test has: the same error, the same degrees of freedom."""
    for n, m, scale in ((3, 50, 1.0), (12, 20, 1.0), (5, 8, 3.0)):
        seeds, images = GENERATOR.normal(size=n), scale * GENERATOR.normal(size=m)
        low, high = stats.ttest_ind(seeds, images, equal_var=False).confidence_interval(0.95)
        spread = crossed(seeds[:, None] + images)
        parts = [stats.t.ppf(0.975, len(values) - 1) * stats.sem(values) for values in (seeds, images)]
        assert fixed(spread) == pytest.approx(max((high - low) / 2, *parts))


def test_the_interval_is_never_narrower_than_that_of_seeds_or_of_images_alone():
    for _ in range(50):
        values = GENERATOR.normal(size=(4, 30)) + GENERATOR.normal(size=(4, 1)) + GENERATOR.normal(size=30)
        alone = [stats.t.ppf(0.975, len(means) - 1) * stats.sem(means) for means in (values.mean(axis=1), values.mean(axis=0))]
        assert fixed(crossed(values)) >= max(alone) - 1e-12
        assert sequential(crossed(values)) >= max(alone) - 1e-12


def test_seeds_alone_give_student_t():
    values = np.array([3.0, 4.0, 8.0])
    interval = interval_of(Paired(pd.Series(values)))
    assert (interval.low, interval.high) == pytest.approx(stats.t.interval(0.95, 2, loc=values.mean(), scale=stats.sem(values)))
    assert interval.over == "seeds"
    assert interval.level_of(interval.mean) == pytest.approx(stats.ttest_1samp(values, 0).pvalue)


def test_one_training_gives_the_interval_over_its_images():
    values = 100.0 * (right(200).astype(float) - right(200))
    interval = interval_of(Paired(pd.Series([values.mean()]), values[None], 200))
    assert (interval.low, interval.high) == pytest.approx(stats.t.interval(0.95, 199, loc=values.mean(), scale=stats.sem(values)))
    assert interval.over == "images"


def test_identical_predictions_leave_what_no_disagreeing_image_of_m_leaves_possible():
    """The exact (Clopper-Pearson) upper end for no success in m draws."""
    interval = interval_of(Paired(pd.Series([0.0, 0.0, 0.0]), np.zeros((3, 720)), 720))
    upper = 100 * stats.binomtest(0, 720).proportion_ci(0.95, method="exact").high
    assert interval.half_width() == pytest.approx(upper)
    assert 0.5 < upper < 0.52


@pytest.mark.parametrize("is_sequential", [False, True])
@pytest.mark.parametrize(
    "differences",
    [
        Paired(pd.Series([], dtype=float)),
        Paired(pd.Series([2.0])),
        Paired(pd.Series([100 / 3, 100 / 3 + 1e-13, 100 / 3])),
        Paired(pd.Series([0.5] * 6), np.full((6, 10), 0.5)),
    ],
    ids=["none", "one seed", "equal seeds", "equal values that are not right or wrong"],
)
def test_where_nothing_varies_there_is_no_interval_instead_of_one_of_no_width(differences, is_sequential):
    interval = interval_of(differences, is_sequential)
    assert np.isnan(interval.low) and np.isnan(interval.high)
    assert np.isnan(interval.level_of(1.0))


def test_an_effect_of_right_and_wrong_may_be_shown_by_equal_seeds_through_their_images():
    """Every seed gains the same 40 of 100 images."""
    by_image = np.tile(np.repeat([100.0, 0.0], [40, 60]), (3, 1))
    interval = interval_of(Paired(pd.Series([40.0] * 3), by_image, 100))
    assert 0 < interval.low < 40 < interval.high


def test_the_sequential_interval_of_seeds_is_the_mixture_t_interval_and_infinite_below_five():
    for n in (5, 8, 30):
        values = GENERATOR.normal(size=n)
        a = ((1 + n) / 0.05**2) ** (1 / n)
        expected = stats.sem(values) * np.sqrt((n - 1) * (a - 1) / (1 - a / (1 + n)))
        assert interval_of(Paired(pd.Series(values)), True).half_width() == pytest.approx(expected)
    assert np.isinf(interval_of(Paired(pd.Series([1.0, 1.1, 0.9, 1.2])), True).half_width())


def test_the_inverse_of_a_sequential_level_is_the_e_value_of_the_mixture():
    for n in (5, 12, 30):
        values = 0.8 + GENERATOR.normal(size=n)
        interval = interval_of(Paired(pd.Series(values)), True)
        r = stats.ttest_1samp(values, 0).statistic ** 2 / (n - 1)
        e_value = (1 + n) ** -0.5 * ((1 + r) / (1 + r / (1 + n))) ** (n / 2)
        assert 1 / interval.level_of(abs(interval.mean)) == pytest.approx(max(e_value, 1.0), rel=1e-6)


def random_differences():
    n, m = GENERATOR.choice([2, 3, 6, 12]), GENERATOR.choice([0, 20, 100])
    by_seed = GENERATOR.normal(GENERATOR.normal(), GENERATOR.uniform(0.2, 2), n)
    if not m:
        return Paired(pd.Series(by_seed))
    by_image = 100.0 * (GENERATOR.random((n, m)) < 0.1) - 100.0 * (GENERATOR.random(m) < GENERATOR.uniform(0, 0.3))
    return Paired(pd.Series(by_image.mean(axis=1)), by_image, float(m))


@pytest.mark.parametrize("is_sequential", [False, True])
@pytest.mark.parametrize(("relation", "margin"), [("greater", 0.0), ("equal", 0.5), ("equal", 4.0)])
def test_p_is_at_most_5_percent_exactly_where_the_95_percent_interval_decides(relation, margin, is_sequential):
    found = set()
    for _ in range(150):
        interval = interval_of(random_differences(), is_sequential)
        judgement = Judged({"relation": relation, "margin": margin}, interval)
        low, high = interval.low, interval.high
        inside, outside = (
            (low > 0, high < 0) if relation == "greater" else (low > -margin and high < margin, low > margin or high < -margin)
        )
        assert judgement.verdict(judgement.level <= 0.05) == ("holds" if inside else "fails" if outside else "undecided")
        found.add(judgement.verdict(judgement.level <= 0.05))
    assert "undecided" in found and len(found) > 1


# ------------------------------------------------------------------------------------------------ many claims


def step_up(p, level=0.05):
    """Benjamini and Hochberg by hand: the largest k with the k-th smallest at most k level / K."""
    passed = [k for k in range(1, len(p) + 1) if sorted(p)[k - 1] <= k * level / len(p)]
    return p <= sorted(p)[max(passed) - 1] if passed else np.zeros(len(p), bool)


def e_step_up(e, level=0.05):
    """e-BH by hand: the largest k with the k-th largest at least K / (k level)."""
    passed = [k for k in range(1, len(e) + 1) if sorted(e)[-k] >= len(e) / (k * level)]
    return e >= sorted(e)[-max(passed)] if passed else np.zeros(len(e), bool)


def test_claims_are_corrected_as_by_hand_counts():
    for _ in range(200):
        p = GENERATOR.random(12) ** 4
        assert ((adjusted(p) <= 0.05) == step_up(p)).all()
        assert ((adjusted(p) <= 0.05) == e_step_up(1 / p)).all()


def test_a_claim_without_interval_counts_among_the_claims():
    assert adjusted(np.array([0.02, np.nan, np.nan]))[0] == pytest.approx(0.06)
    assert adjusted(np.array([])).tolist() == []


def test_the_level_that_an_open_claim_is_measured_at_would_decide_it():
    for _ in range(100):
        p = GENERATOR.random(9) ** 3
        corrected = adjusted(p)
        for k in np.flatnonzero(corrected > 0.05):
            assert adjusted(np.where(np.arange(9) == k, level_for_one(corrected)[k], p))[k] <= 0.05 + 1e-12


# ------------------------------------------------------------------------------------------------ power


def test_the_seeds_that_are_needed_decide_and_one_fewer_does_not():
    for kind, width in ((False, fixed), (True, sequential)):
        spread = Spread(4.0, 400.0, 300.0, 5, 720)
        n = seeds_needed(Interval(1.9, spread, kind), 1.9, 0.05)
        assert 5 < n < 100
        assert width(spread.with_seeds(n)) < 1.9 <= width(spread.with_seeds(n - 1))


def test_more_seeds_have_the_variances_that_crossed_effects_predict():
    """s²(a) stays, s²(b) is that of images and a share 1/n of the residual's, s²(r) stays: means over many draws."""

    def drawn(n):
        shapes = {2: (4000, n, 1), 3: (4000, 1, 20), 4: (4000, n, 20)}
        return crossed(sum(size * GENERATOR.normal(size=shape) for size, shape in shapes.items()))

    draws = {n: drawn(n) for n in (4, 12)}
    few, many = ({name: getattr(draws[n], name).mean() for name in ("seeds", "images", "residual")} for n in (4, 12))
    foreseen = Spread(few["seeds"], few["images"], few["residual"], 4, 20).with_seeds(12)
    assert (foreseen.seeds, foreseen.images, foreseen.residual) == pytest.approx(tuple(many.values()), rel=0.05)


def test_more_seeds_on_more_images_have_the_variances_that_crossed_effects_predict():
    def drawn(n, m):
        shapes = {2: (4000, n, 1), 3: (4000, 1, m), 4: (4000, n, m)}
        return crossed(sum(size * GENERATOR.normal(size=shape) for size, shape in shapes.items()))

    draws = {n: drawn(n, 5 * n) for n in (4, 12)}
    few, many = ({name: getattr(draws[n], name).mean() for name in ("seeds", "images", "residual")} for n in (4, 12))
    foreseen = Spread(few["seeds"], few["images"], few["residual"], 4, 20, 20).with_seeds_and_images(12, 60)
    assert (foreseen.seeds, foreseen.images, foreseen.residual) == pytest.approx(tuple(many.values()), rel=0.05)
    assert (foreseen.n, foreseen.m, foreseen.judged) == (12, 60, 60)


def test_where_the_images_are_too_few_no_seeds_are_enough():
    spread = Spread(1.0, 900.0, 0.0, 5, 100)
    interval = Interval(1.0, spread)
    assert np.isinf(seeds_needed(interval, 1.0))
    n, m = seeds_and_images_needed(interval, 1.0)
    assert m == np.ceil(20 * n) and fixed(spread.with_seeds_and_images(n, m)) < 1.0
    assert fixed(spread.with_seeds_and_images(n - 1, np.ceil(20 * (n - 1)))) >= 1.0
    assert 1.96**2 * (1 / n + 900 / m) < 1.0 < 1.99**2 * (1 / n + 900 / m)  # the normal quantile's sum of both variances, nearly


def test_no_number_of_seeds_and_images_shows_a_difference_of_nothing():
    assert seeds_and_images_needed(Interval(1e-9, Spread(1.0, 900.0, 0.0, 5, 100)), 1e-9) == (np.inf, np.inf)


def test_one_seed_does_not_tell_how_many_are_needed():
    assert np.isnan(seeds_needed(Interval(1.0, Spread(0.0, 900.0, 0.0, 1, 100)), 1.0))


# ------------------------------------------------------------------------------------------------ the scoreboard

CLAIM = {"sentence": "a beats b", "published": "+1", "table": "t", "metric": "top1", "relation": "greater", **BY_SEED}


def frame_of_gains(gains):
    return pd.DataFrame([{"method": m, "seed": s, "top1": 50.0 + gain * (m == "a")} for s, gain in enumerate(gains) for m in "ab"])


def test_a_verdict_that_stands_alone_may_not_stand_among_many():
    gains = [1.0, 2.2, 1.5, 0.4]
    assert 0.01 < stats.ttest_1samp(gains, 0).pvalue < 0.05
    board = verdicts([CLAIM] + [CLAIM | {"table": "other"}] * 9, lambda table: frame_of_gains(gains if table == "t" else [1.0, -1.0, 0.1]))
    assert board.loc[0, ["alone", "verdict"]].tolist() == ["holds", "undecided"]
    assert board.loc[0, "smallest"] == pytest.approx(stats.t.ppf(1 - 0.005 / 2, 3) * stats.sem(gains))
    assert board.loc[0, "to decide"] == f"{board.loc[0, 'seeds_needed']:.0f} seeds"
    assert verdicts([CLAIM], lambda table: frame_of_gains(gains)).loc[0, "verdict"] == "holds"


def test_seeds_beside_the_declared_ones_make_a_claim_sequential():
    gains = [1.0, 2.2, 1.5, 0.8, 1.4, 1.1]
    declared, added = (verdicts([CLAIM], lambda table: frame_of_gains(gains), range(n)).iloc[0] for n in (6, 3))
    assert (declared["counted"], added["counted"]) == ("6 seeds", "6 seeds, sequential")
    assert np.isnan(declared["e"]) and added["e"] == pytest.approx(1 / added["p"])
    assert added["high"] - added["low"] > declared["high"] - declared["low"]
    others = [CLAIM | {"over": over} for over in ("rounds", "selections")]
    counted = verdicts(others, lambda table: frame_of_gains(gains), range(3))["counted"]
    assert counted.tolist() == ["6 rounds", "6 selections, sequential"]


def test_a_scoreboard_says_what_it_counts_in_one_column():
    rows = [row(right(720), method=method, seed=seed) for method in "ab" for seed in range(12)]
    board = verdicts([CLAIM], lambda table: pd.DataFrame(rows))
    assert board.loc[0, "over"] == "seeds and images"
    assert readable(board).loc[0, "n"] == "12 seeds × 720 images"
    assert readable(board, ["other"]).empty


def test_one_seed_decides_nothing_but_a_claim_on_images_whatever_its_images_say():
    frame = pd.DataFrame([row(np.arange(100) < count, method=method, seed=0) for method, count in (("a", 80), ("b", 50))])
    board = verdicts([CLAIM, CLAIM | {"over": "pairs of seeds"}, CLAIM | {"over": "images"}], lambda table: frame)
    assert board["counted"].tolist() == ["1 seed × 100 images", "1 pair of seeds × 100 images", "100 images of one training"]
    assert (board["low"] > 0).all()
    assert board["verdict"].tolist() == ["undecided", "undecided", "holds"]


def test_a_scoreboard_of_no_claims_has_its_columns():
    assert list(scoreboard([])) == list(COLUMNS)


def test_a_relation_that_there_is_not_is_refused():
    with pytest.raises(ValueError, match="relation: got 'smaller'; allowed: greater, equal"):
        verdicts([CLAIM | {"relation": "smaller"}], lambda table: frame_of_gains([1.0]))
