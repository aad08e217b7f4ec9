"""Figures by their artists: what is drawn is what the results hold."""

import time
from threading import Thread

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes

from tests.support import smoke_study
from vitlib.papers import deit
from vitlib.report import figures

FIGURES = [name for name in vars(deit) if name.startswith("figure_")]


def points(axes: Axes, label: str) -> list[tuple[float, float]]:
    lines = [line for line in axes.get_lines() if line.get_label() == label]
    return [(float(x), float(y)) for line in lines for x, y in zip(*line.get_data(), strict=True)]


def test_drawn_reads_both_edges_of_a_band_in_the_order_of_x():
    figure, ((axes,),) = figures.canvas()
    figures.band(axes, [2, 1, 3], [5.0, 4.0, 6.0], [7.0, 4.5, 9.0], of="line", colour="C0")
    rows = figures.drawn(figure)
    edges = [[1, 4.0], [1, 4.5], [2, 5.0], [2, 7.0], [3, 6.0], [3, 9.0]]
    assert set(rows["series"]) == {"line, band"} and rows[["x", "y"]].values.tolist() == edges


def test_threads_that_draw_at_once_keep_the_style_and_leave_no_trace_of_it():
    """The second thread wants to draw while the first does, and goes on when the first has ended."""
    before, seen = mpl.rcParams["axes.titlesize"], []

    def draw():
        with figures.style():
            time.sleep(0.1)
            seen.append(mpl.rcParams["axes.titlesize"])

    threads = [Thread(target=draw) for _ in range(3)]
    for thread in threads:
        thread.start()
        time.sleep(0.03)
    for thread in threads:
        thread.join()
    assert seen == [9.0] * 3 and mpl.rcParams["axes.titlesize"] == before != 9.0


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_gives_the_same_bytes_twice_and_a_csv_of_what_it_draws(name, results, tmp_path):
    for copy in ("one", "two"):
        figure = getattr(deit, name)(results)
        figures.save(figure, tmp_path / copy, "stamp")
        figures.save_column(figure, tmp_path / copy, "stamp")
    for suffix in (".png", ".pdf", ".csv", ".column.pdf"):
        assert (tmp_path / f"one{suffix}").read_bytes() == (tmp_path / f"two{suffix}").read_bytes()
    if name != "figure_architecture":  # a diagram: nothing is plotted
        assert len(pd.read_csv(tmp_path / "one.csv"))


@pytest.mark.parametrize("name", [name for name in FIGURES if name not in {"figure_architecture", "figure_attention"}])
def test_every_panel_names_its_axes_or_itself(name, results):
    for axes in getattr(deit, name)(results).axes:
        assert axes.get_title() or (axes.get_xlabel() and axes.get_ylabel())


def test_the_throughput_figure_draws_the_measured_accuracy_and_speed_of_each_family(results):
    ours = deit.figure_throughput(results).axes[0]
    accuracy = results.frame("models").set_index(["method", "size", "resolution"])["top1"]
    speed = results.frame("throughput").set_index(["method", "size", "resolution"])["images_per_second"]
    expected = sorted((speed["none", s, r], accuracy["none", s, r]) for s, r in [("tiny", "native"), ("base", "native"), ("base", "up")])
    drawn = figures.drawn(ours.figure)
    drawn = drawn[(drawn["panel"] == ours.get_title()) & (drawn["series"] == "no teacher")]
    assert drawn[["x", "y"]].values.tolist() == [pytest.approx(point) for point in expected]


def test_the_published_panel_holds_the_published_numbers(results):
    theirs = deit.figure_throughput(results).axes[1]
    assert points(theirs, "distillation token") == [(85.8, 84.5), (290.9, 83.4), (936.2, 81.2), (2529.5, 74.5)]


def test_the_epoch_curves_are_the_histories_of_the_runs(results):
    history = results.history("models")
    for axes, size in zip(deit.figure_epochs(results).axes, ("tiny", "base"), strict=True):
        chosen = history[(history["method"] == "token-long") & (history["size"] == size) & (history["resolution"] == "native")]
        chosen = chosen.dropna(subset="validation top1")
        assert points(axes, "token, longer training") == list(zip(chosen["epoch"], chosen["validation top1"], strict=True))


def test_the_heat_map_holds_the_disagreement_matrix(results):
    drawn = figures.drawn(deit.figure_disagreement(results))
    ours = drawn[drawn["panel"] == "measured here (%)"].pivot(index="y", columns="x", values="value").to_numpy()
    np.testing.assert_allclose(ours, 100 * deit.disagreement_matrices(results).to_numpy())


def test_the_cosine_curve_is_the_stored_one(results):
    run = next(run for point, run in results.runs("tokens") if point["method"] == "token")
    (axes,) = deit.figure_cosine(results).axes
    curve = [y for _, y in points(axes, "class and distillation token (thin: each of 1 seeds)")]
    np.testing.assert_allclose(curve, run.arrays["cosine_by_block"])


def test_the_diagram_states_the_model_that_was_run(results):
    (axes,) = deit.figure_architecture(results).axes
    text = " ".join(label.get_text() for label in axes.texts)
    assert "16 patches" in text and "width 16" in text and "18 tokens" in text and "2 × block" in text


def test_drawn_reads_lines_points_bars_and_images():
    figure, ((axes,),) = figures.canvas()
    axes.plot([1, 2], [3, 4], label="line")
    axes.plot([1, 2], [9, 9])
    axes.scatter([5], [6], label="point")
    axes.scatter([5], [6])
    axes.hlines([4], 0, 1, label="a rule, which is no point")
    axes.bar([7], [8], label="bar")
    axes.imshow([[0.5]], label="image")
    rows = figures.drawn(figure)
    assert rows[["series", "x", "y"]].values.tolist() == [["line", 1, 3], ["line", 2, 4], ["point", 5, 6], ["bar", 7, 8], ["image", 0, 0]]
    assert rows["value"].tolist()[-1] == 0.5


@pytest.mark.parametrize("name", FIGURES)
def test_figures_of_an_empty_store_are_drawn_empty(name, smoke, tmp_path):
    empty = smoke_study(tmp_path / "empty").execute(mode="read-only")
    assert getattr(deit, name)(empty).axes


def test_a_picture_in_colour_is_read_channel_by_channel():
    figure, ((axes,),) = figures.canvas()
    picture = np.arange(12).reshape(2, 2, 3)
    axes.imshow(picture, label="photo")
    table = figures.drawn(figure)
    assert table["series"].unique().tolist() == ["photo, red", "photo, green", "photo, blue"]
    for place, colour in enumerate(("red", "green", "blue")):
        channel = table[table["series"] == f"photo, {colour}"].pivot(index="y", columns="x", values="value")
        assert (channel.to_numpy() == picture[..., place]).all()
