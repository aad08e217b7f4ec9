"""DeiT's own figures and its attention explorer, by their artists."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.text import Annotation

from tests.legible import faults_at_both_widths
from vitlib.papers import deit
from vitlib.papers.deit.explore import draw_attention
from vitlib.report import figures
from vitlib.studies import artefacts


@pytest.fixture(scope="module")
def tokens(results):
    return results.run("tokens", method="token", seed=0).arrays


def drawn(figure, panel):
    frame = figures.drawn(figure)
    return frame[frame["panel"] == panel]


def points(frame, series):
    return frame[frame["series"] == series][["x", "y"]].values.tolist()


def test_figure_3_draws_trainings_of_two_lengths_and_not_the_course_of_one(results):
    ours = drawn(deit.figure_schedules(results), "measured here")
    top1 = results.frame("schedules").set_index("method")["top1"]
    assert points(ours, "no teacher") == [[2, top1["none"]], [4, top1["none-long"]]]
    assert points(ours, "distillation token") == [[2, top1["token"]], [4, top1["token-long"]]]


def test_figure_3_shows_what_is_published_and_no_longer_training_without_a_teacher(results):
    theirs = drawn(deit.figure_schedules(results), "published: DeiT-B on ImageNet")
    assert points(theirs, "no teacher") == [[300, 81.8]]
    assert points(theirs, "distillation token") == [[300, 83.4], [1000, 84.2]]


def test_figure_3_joins_the_two_trainings_of_each_seed_and_their_means(results, monkeypatch):
    rows = [(method, longer, seed, 80 + 10 * longer + seed) for method in ("none", "token") for longer in (False, True) for seed in (0, 2)]
    frame = pd.DataFrame(rows, columns=["method", "longer", "seed", "top1"])
    monkeypatch.setattr("vitlib.papers.deit.figures.frame_schedules", lambda _: frame.assign(epochs=np.where(frame["longer"], 20, 10)))
    lines = [line.get_ydata().tolist() for line in deit.figure_schedules(results).axes[0].get_lines()]
    assert lines == 2 * [[80, 90], [82, 92], [81, 91]]


def test_the_labels_of_the_throughput_figure_lie_inside_its_panel(results):
    figure = deit.figure_throughput(results)
    figure.canvas.draw()
    axes = figure.axes[0]
    labels = [child for child in axes.get_children() if isinstance(child, Annotation)]
    assert sorted(label.get_text() for label in labels) == ["B", "B↑", "Ti"]
    panel = axes.get_window_extent()
    for label in labels:
        box = label.get_window_extent()
        assert panel.x0 <= box.x0 and box.x1 <= panel.x1


def test_the_attention_maps_have_one_colour_scale_from_zero_to_the_largest_of_them(results, tokens):
    figure = deit.figure_attention(results)
    maps = [image for axes in figure.axes for image in axes.get_images() if image.get_cmap().name == "viridis"]
    shown = tokens["attention"][:6, -1].mean(axis=1)
    assert len(maps) == 12
    assert {image.get_clim() for image in maps} == {(0, shown.max())}
    np.testing.assert_allclose([maps[place].get_array().ravel() for place in (0, 1, 6)], [shown[0, 0], shown[1, 0], shown[0, 1]])
    assert "attention" in {axes.get_ylabel() for axes in figure.axes}


def test_maps_share_all_of_their_attention_with_themselves_half_where_they_meet_by_half_and_none_where_they_do_not():
    one, half, none = np.array([[0.2, 0.2, 0, 0], [0, 0.1, 0.1, 0], [0, 0, 0.3, 0.1]])
    np.testing.assert_allclose(deit.shared_attention(one, np.stack([3 * one, half, none])), [1, 0.5, 0])


def test_above_each_image_stands_what_both_maps_share(results, tokens):
    maps = tokens["attention"][:6, -1].mean(axis=1)
    shares = deit.shared_attention(maps[:, 0], maps[:, 1])
    assert [axes.get_title() for axes in deit.figure_attention(results).axes[:6]] == [f"{100 * share:.0f} %" for share in shares]


FIGURES = [name for name in vars(deit) if name.startswith("figure_")]


@pytest.mark.parametrize("name", FIGURES)
def test_no_text_of_a_figure_is_too_small_or_cut_off_on_a_page_and_in_a_column(name, results):
    assert faults_at_both_widths(getattr(deit, name), results) == {}


def test_the_attention_explorer_counts_blocks_and_heads_from_one(results, tokens):
    _, depth, heads = tokens["attention"].shape[:3]
    controls = deit.explore_attention(results).controls
    assert [(controls[name].min, controls[name].max) for name in ("block", "head")] == [(1, depth), (1, heads)]
    assert (controls["block"].value, controls["head"].value) == (depth, 1)


def test_the_attention_explorer_draws_the_block_and_the_head_that_it_names(tokens):
    figure = draw_attention(tokens, image=3, block=1, head=2)
    panels = figure.axes[:3]
    assert [axes.get_title() for axes in panels[1:]] == ["class token\nblock 1, head 2", "distillation token\nblock 1, head 2"]
    assert panels[0].get_title() == f"image 3, label {tokens['labels'][2]}"
    for token, axes in enumerate(panels[1:]):
        np.testing.assert_array_equal(axes.get_images()[0].get_array().ravel(), tokens["attention"][2, 0, 1, token])
    assert {axes.get_images()[0].get_clim() for axes in panels[1:]} == {(0, tokens["attention"].max())}


CAPTIONED = [name for name in vars(deit) if name.startswith(("figure_", "table_"))]


@pytest.mark.parametrize("name", CAPTIONED)
def test_captions_are_prose_without_the_names_of_code(name, smoke):
    caption = artefacts.caption(smoke, name)
    assert caption.endswith(".") and len(caption) > 60
    assert "_" not in caption
    assert set(caption.split("`")[1::2]) <= {"smoke", "quick", "tiny", "paper"}
