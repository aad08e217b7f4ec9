"""WeCoLoRA's tables, claims, findings and figures, on results made by hand."""

import re
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from matplotlib.patches import FancyBboxPatch

from tests.legible import faults_at_both_widths
from vitlib import load_study
from vitlib.grid.results import Results
from vitlib.papers import wecolora
from vitlib.papers.wecolora.tables import AFTER, BEFORE, frame_relative_times
from vitlib.report.figures import drawn
from vitlib.report.tables import formatted

SHOWN = [name for name in vars(wecolora) if name.startswith(("table_", "figure_"))]
FINDINGS = [name for name in vars(wecolora) if name.startswith("finding_")]
PLAIN, STAGED = [1.0, 2.0, 4.0], [0.9, 1.0, 3.6]  # seconds of three rounds: 10, 50 and 10 % saved, but 50 % by the medians 2 and 1
TIMES = {"seconds plain": np.array(PLAIN), "seconds staged": np.array(STAGED), "epochs of stage 1": np.array([[1.0], [2.0], [9.0]])}
TIMES |= {"epochs of whole": np.array([[4.0, 6.0], [5.0, 5.0], [7.0, 9.0]]), "epochs of plain": np.full((3, 15), 6.0)}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return load_study("wecolora", "quick", results_dir=str(tmp_path_factory.mktemp("none")), device="cpu")


@pytest.fixture
def empty(study):
    return Results(study, {})


def made(study, **tables):
    """Results whose runs hold what a function of the grid point says, table by table."""
    chosen = [cell for cell in study.cells if cell.table in tables]
    return Results(study, {cell.spec.id: stored(**tables[cell.table](cell.point)) for cell in chosen})


def stored(metrics=None, history=None, arrays=None):
    text = None if history is None else history.to_csv(index=False).encode()
    return SimpleNamespace(metrics=metrics or {}, history=history, history_text=text, arrays=arrays or {})


def accuracies(values, otherwise=50.0):
    """Accuracies by (start, schedule, set) or (reference, set), 0.1 apart from seed to seed."""

    def at(point):
        key = (point["row"],) if "row" in point else (point["lora_init"], point["schedule"])
        value = values.get((*key, point["dataset"]), values.get(key, otherwise))
        return {"metrics": {"top1": value + 0.1 * point["seed"]}}

    return {"accuracy": at, "reference": at}


def trembling(values):
    """The same, each student moving around its mean by up to 0.3 from seed to seed in a way of its own."""
    steady = accuracies(values)
    steps = {"zero_b": [0.1, -0.1, 0.0], "svd": [0.0, 0.2, -0.2], "svd_shift": [0.3, -0.3, 0.0], "random": [0.0, 0.0, 0.0]}

    def at(point):
        sign = -1 if point["schedule"] == "staged" else 1
        return {"metrics": {"top1": steady["accuracy"](point)["metrics"]["top1"] + sign * steps[point["lora_init"]][point["seed"]]}}

    return steady | {"accuracy": at}


def timed(point):
    return {"arrays": TIMES}


# ------------------------------------------------------------------------------------------------ claims


@pytest.mark.parametrize(
    ("profile", "sets"),
    [
        ("quick", {"ImageNet-1k": "digits", "CIFAR-100": "shifted"}),
        ("tiny", {"ImageNet-1k": "tiny-imagenet", "CIFAR-100": "cifar100"}),
        ("paper", {"ImageNet-1k": "imagenet", "CIFAR-100": "cifar100"}),
    ],
)
def test_a_claim_about_accuracy_selects_one_set_by_what_it_stands_for(profile, sets, tmp_path):
    study = load_study("wecolora", profile, results_dir=str(tmp_path), data_dir=str(tmp_path), device="cpu")
    frame = wecolora.frame_downstream(Results(study, {}))
    claims = [claim for claim in study.entry["claim"] if claim["table"] == "downstream"]
    assert len(claims) == 10
    for claim in claims:
        for selection in (claim["first"], claim["second"]):
            rows = frame[np.logical_and.reduce([frame[key] == value for key, value in selection.items()])]
            wanted = sets[selection["stands_for"]]
            assert sorted(zip(rows["dataset"], rows["seed"], strict=True)) == ([(wanted, seed) for seed in (0, 1, 2)] if wanted else [])
        assert claim["first"]["stands_for"] == claim["second"]["stands_for"] and claim["first"]["stands_for"] in claim["where"]


def test_opposite_effects_on_two_sets_are_two_verdicts(study):
    """The SVD start gains more or less with each seed, on both sets alike: equal gains would have no interval."""
    accuracy = accuracies({("svd", "staged", "digits"): 60.0, ("svd", "staged", "shifted"): 40.0})["accuracy"]

    def varied(point):
        shift = 0.3 * (point["seed"] - 1) * (point["lora_init"] == "svd")
        return {"metrics": {"top1": accuracy(point)["metrics"]["top1"] + shift}}

    table = made(study, accuracy=varied).claims("downstream").set_index("claim")
    together = table[table.index.str.contains("stages together")]
    assert together["alone"].tolist() == ["holds", "fails"]
    assert together["difference"].tolist() == pytest.approx([10.0, -10.0])
    assert together["n"].tolist() == ["3 seeds", "3 seeds"]


def test_the_claim_about_weight_copy_compares_with_weight_copy_at_the_same_reduction(study):
    values = accuracies({("weight copy",): 55.0})["reference"]
    elsewhere = {"reference": lambda point: values(point) if point["reduction"] == 2 else {"metrics": {"top1": 99.0}}}
    table = made(study, **accuracies({}) | elsewhere).claims("downstream")
    assert table[table["claim"].str.contains("weight copy")]["difference"].tolist() == pytest.approx([-5.0, -5.0])


# ------------------------------------------------------------------------------------------------ tables


def test_table_1_has_the_epochs_and_times_of_each_schedule_and_published_times_beside_the_published_rows(study):
    table = wecolora.table_1(made(study, times=timed))
    epochs = table.groupby("schedule", dropna=False)[["staged epochs", "whole epochs"]].agg(lambda values: {*values.dropna()})
    assert epochs.loc["plain"].tolist() == [set(), {"15"}]
    assert epochs.loc["staged"].tolist() == [{"1 × 5"}, {"10"}]
    assert epochs.loc["none"].tolist() == [set(), set()]
    assert table.groupby("schedule")["seconds"].agg(["min", "max"]).loc[["plain", "staged"]].to_numpy().tolist() == [[2.0, 2.0], [1.0, 1.0]]
    published = table.dropna(subset="published, s")[["student", "schedule", "published", "published, s"]]
    assert published.to_numpy().tolist() == [
        ["B = 0 (WeCoLoRA)", "plain", 64.50, 1233.0],
        ["B = 0 (WeCoLoRA)", "plain", 62.46, 1233.0],
        ["SVD of the dropped blocks", "staged", 68.87, 1037.0],
        ["SVD of the dropped blocks", "staged", 68.13, 1037.0],
    ]


def test_the_table_of_times_has_the_saving_of_the_medians_and_the_mean_of_the_rounds(study):
    table = wecolora.table_times(made(study, times=timed)).set_index("training")
    assert table.loc["staged", "saving of the medians, %"] == pytest.approx(50.0)
    assert table.loc["staged", "mean saving of the rounds, %"] == pytest.approx((10 + 50 + 10) / 3)
    assert table.loc["staged", "published saving, %"] == pytest.approx(15.896, abs=1e-3)
    assert formatted(table)["n"].tolist() == ["3", "3", "0", "0"]


def test_the_claim_about_time_is_the_mean_saving_of_the_rounds(study):
    results = made(study, times=timed)
    table, (claim,) = wecolora.table_times(results).set_index("training"), results.claims("relative_times").to_dict("records")
    assert (claim["difference"], claim["n"]) == (pytest.approx(table.loc["staged", "mean saving of the rounds, %"]), "3 rounds")
    assert claim["high"] - claim["difference"] == pytest.approx(table.loc["staged", "±"])
    assert {*frame_relative_times(results)["training"]} == {"plain", "staged"}  # epochs are no trainings


def test_distances_are_before_and_after_distillation(study):
    table = wecolora.table_distances(made(study, distilled=lambda point: distances(4.0, 1.0)))
    assert (table[BEFORE] == 4.0).all() and (table[AFTER] == 1.0).all()


# ------------------------------------------------------------------------------------------------ findings


def distances(before, after, calls=1.0):
    return {"metrics": {"step-0 last": before, "last": after, "block calls": calls}}


def test_the_finding_of_table_1_says_where_weight_copy_is_above_every_student(study):
    values = {("teacher",): 60.0, ("weight copy", "digits"): 70.0, ("weight copy", "shifted"): 40.0, ("svd", "staged"): 65.0}
    digits, shifted = wecolora.finding_table_1(made(study, **accuracies(values))).split("\n\n")
    assert "the best of 10 rows by mean is 'weight copy', with 70.1 % (n = 3)" in digits
    assert "+10.0 points" in digits and "+5.0 points" in digits and "'SVD of the dropped blocks, staged'" in digits
    assert "claim A cannot show a gain" in digits
    assert "by mean is 'SVD of the dropped blocks, staged', with 65.1 %" in shifted
    assert "-20.0 points" in shifted and "-25.0 points" in shifted and "can show here" in shifted


def test_the_finding_of_other_reductions_speaks_of_their_students(study):
    values = accuracies({("weight copy",): 55.0})
    elsewhere = {"accuracy": lambda point: {"metrics": {"top1": 99.0}} if point["reduction"] == 2 else values["accuracy"](point)}
    said = wecolora.finding_reductions(made(study, **values | elsewhere))
    assert said.startswith("At r = 3. ") and said.count("the best of 6 rows by mean is 'weight copy'") == 2


def test_the_finding_of_the_ablation_says_what_differs_from_zero_and_whether_effects_add_up(study):
    values = {("svd", "plain"): 49.0, ("zero_b", "staged"): 52.0, ("svd", "staged"): 56.0, ("svd_shift", "staged"): 56.0}
    said = wecolora.finding_ablation(made(study, **trembling(values))).split("\n\n")[0]
    assert [float(number) for number in re.findall(r"([+-][\d.]+) points", said)] == [5.0, -1.0, 2.0, 6.0, 0.0]
    assert said.partition(": ")[2].startswith(
        "the stages alone and both together raise accuracy; the SVD start alone lowers accuracy; "
        "shifting W back in the staged SVD student is not told apart from no effect. Together they bring more than their sum (+5.0 points, "
    )


def test_the_finding_of_the_ablation_says_when_nothing_differs_from_zero(study):
    one_seed = load_study("wecolora", "quick", overrides={"seeds": [0]}, results_dir=str(study.place.results_dir), device="cpu")
    said = wecolora.finding_ablation(made(one_seed, **accuracies({("svd", "staged"): 60.0})))
    assert "both together and shifting W back in the staged SVD student are not told apart from no effect. " in said
    assert "Whether the two add up is open (" in said and "(one seed, no interval)" in said


def test_the_finding_of_the_times_gives_both_savings_the_range_of_the_rounds_and_the_expectation(study):
    results = made(study, times=timed, distilled=lambda point: distances(1.0, 1.0, 0.75 if point["schedule"] == "staged" else 1.0))
    said = wecolora.finding_times(results)
    assert "saved 23.3 %" in said and "n = 3 rounds; from 10.0 to 50.0 % in single rounds" in said
    assert "says 50.0 %" in said and "saving is 15.9 %" in said and "25.0 % fewer block calls" in said


@pytest.mark.parametrize(("svd", "said"), [(5.0, "is farther from the teacher"), (3.0, "is no farther from the teacher")])
@pytest.mark.parametrize("agree", [True, False])
def test_the_finding_of_the_distances_says_who_is_nearest_and_whether_it_is_best(study, svd, said, agree):
    def distilled(point):
        nearest = point["lora_init"] == "random" and point["schedule"] == "staged"
        return distances(svd if point["lora_init"] == "svd" else 4.0, 1.0 if nearest else 2.0)

    best = "random" if agree else "svd"
    found = wecolora.finding_distances(made(study, distilled=distilled, **accuracies({(best, "staged", "digits"): 60.0})))
    assert said in found and "'both factors random, staged' is nearest, at 1.00 (n = 3)" in found
    assert ("is the same." in found) == agree and ("another one, 'SVD of the dropped blocks, staged'." in found) != agree


@pytest.mark.parametrize("name", FINDINGS)
def test_findings_of_an_empty_store_say_so(name, empty):
    assert "not measured yet" in getattr(wecolora, name)(empty)


# ------------------------------------------------------------------------------------------------ figures


def history(point):
    """Block b has distance 10 ** (b + epoch) plain, a tenth of it staged, and another seed none of it."""
    share = {"plain": 1.0, "staged": 0.1}[point["schedule"]] * (1 if point["seed"] == 0 else 1e9)
    rows = [{"epoch": epoch, "last": 1.0, **{f"block {b}": share * 10.0 ** (b + epoch) for b in (1, 2)}} for epoch in (1, 2, 3)]
    return {"metrics": {"last": 1.0}, "history": pd.DataFrame(rows)}


def test_blocks_of_both_schedules_are_drawn_on_one_scale(study):
    figure = wecolora.figure_blocks(made(study, distilled=history))
    plain, staged = (image for axes in figure.axes for image in axes.get_images())
    assert plain.get_clim() == staged.get_clim() == pytest.approx((1.0, 5.0))
    np.testing.assert_allclose(plain.get_array(), [[2, 3, 4], [3, 4, 5]])
    np.testing.assert_allclose(staged.get_array(), [[1, 2, 3], [2, 3, 4]])
    assert len(figure.axes) == 3  # two panels and one colour bar


def test_the_overview_draws_every_box_within_its_axes(empty):
    (axes,) = wecolora.figure_overview(empty).axes
    boxes = [patch.get_path().get_extents(patch.get_patch_transform()) for patch in axes.patches if isinstance(patch, FancyBboxPatch)]
    assert len(boxes) == 12 + 2 * 6 + 1
    assert min(box.y0 for box in boxes) > axes.get_ylim()[0] and max(box.y1 for box in boxes) < axes.get_ylim()[1]
    assert max(box.x1 for box in boxes) < axes.get_xlim()[1]


def test_the_figure_of_times_names_every_kind_of_bar_and_shows_the_rounds(study):
    figure = wecolora.figure_times(made(study, times=timed))
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_xticklabels()] == ["stage 1", "whole", "plain"]
    assert {text.get_text() for text in figure.legends[0].get_texts()} == {"stage", "whole student", "plain distillation", "one round"}
    bars = {round(bar.get_x() + bar.get_width() / 2): bar.get_height() for bar in axes.patches}
    assert bars == {0: 2.0, 1: 5.0, 2: 6.0}  # medians of the rounds 1, 2, 9; of 5, 5, 8; of 6, 6, 6
    (dots,) = axes.get_lines()
    assert sorted(zip(*dots.get_data(), strict=True)) == [
        (0, 1.0),
        (0, 2.0),
        (0, 9.0),
        (1, 5.0),
        (1, 5.0),
        (1, 8.0),
        (2, 6.0),
        (2, 6.0),
        (2, 6.0),
    ]


LEGIBLE = [name for name in SHOWN if name.startswith("figure_")]


def started(point):
    """Block b is 2 b away for B = 0, a quarter more for SVD; seeds differ by a factor; the last distance is the seed's, one less staged."""
    share = {"zero_b": 1.0, "svd": 1.25, "random": 1.1, "svd_shift": 1.0}[point["lora_init"]] * (1 + point["seed"])
    last = 5.0 + point["seed"] - (point["schedule"] == "staged")
    rows = [{"epoch": epoch, "last": last + 3 - epoch, "block 1": 1.0, "block 2": 2.0} for epoch in (1, 2, 3)]
    return {"metrics": {"last": last} | {f"step-0 block {b}": 2.0 * b * share for b in (1, 2)}, "history": pd.DataFrame(rows)}


def series(figure, panel, name):
    rows = drawn(figure)
    return rows[(rows["panel"] == panel) & (rows["series"] == name)][["x", "y"]].to_numpy()


def test_starts_are_compared_with_weight_copy_of_the_same_seed(study):
    figure = wecolora.figure_step0(made(study, distilled=started))
    copied = [[block, np.mean([2 * block * (1 + seed) for seed in study.settings.seeds])] for block in (1, 2)]
    np.testing.assert_allclose(series(figure, "weight copy (B = 0)", "B = 0 (WeCoLoRA)"), copied)
    np.testing.assert_allclose(series(figure, "other starts", "SVD of the dropped blocks"), [[1, 25], [2, 25]])
    np.testing.assert_allclose(series(figure, "other starts", "SVD, W shifted back"), [[1, 0], [2, 0]], atol=1e-9)


def test_the_end_points_of_the_losses_are_those_of_the_last_epoch(study):
    figure = wecolora.figure_losses(made(study, distilled=started))
    last = np.mean([5.0 + seed for seed in study.settings.seeds])
    assert series(figure, "after the last epoch", "SVD of the dropped blocks, plain").tolist() == [[last, 2 - 0.15]]
    assert series(figure, "after the last epoch", "SVD of the dropped blocks, staged").tolist() == [[last - 1, 2 + 0.15]]
    assert series(figure, "in the course of training", "SVD of the dropped blocks, plain").tolist() == [
        [1, last + 2],
        [2, last + 1],
        [3, last],
    ]


@pytest.mark.parametrize("name", LEGIBLE)
def test_no_text_of_a_figure_is_too_small_or_cut_off_on_a_page_and_in_a_column(name, study, empty):
    assert faults_at_both_widths(getattr(wecolora, name), made(study, distilled=started, times=timed)) == {}
    assert faults_at_both_widths(getattr(wecolora, name), empty) == {}


@pytest.mark.parametrize("name", SHOWN)
def test_every_artefact_of_an_empty_store_is_made_and_has_a_caption_without_code(name, empty):
    assert getattr(wecolora, name)(empty) is not None
    caption = getattr(wecolora, name).__doc__.split("\n\n")[0]
    assert caption.rstrip().endswith(".") and "_" not in caption and {*re.findall("`(.*?)`", caption)} <= {"quick"}
