"""Figures and explorers, by their artists, at the edges of their controls."""

import math
from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure

from tests.legible import faults_at_both_widths, texts_inside
from tests.papers.dual_ssl_kd.support import DEEP
from vitlib import load_study
from vitlib.papers import dual_ssl_kd
from vitlib.papers.dual_ssl_kd.specs import AttentionTerm
from vitlib.report import figures

FIGURES = [name for name in vars(dual_ssl_kd) if name.startswith("figure_")]

# ------------------------------------------------------------------------------------------------ what options show


def test_the_histogram_of_heads_counts_those_of_every_taught_block():
    history = pd.DataFrame(
        {"method": "ours", "epoch": [1, 2], "ce_student": 1.0}
        | {name: heads for name, heads in (("cl_head", [0, 0]), ("cl_head 2", [3, 0]), ("mim_head", [1, 2]), ("mim_head 2", [1, 1]))}
    )
    settings = SimpleNamespace(attention=DEEP)
    results = SimpleNamespace(runs=lambda table: [], history=lambda table: history, study=SimpleNamespace(settings=settings))
    right = dual_ssl_kd.figure_confidence(results).axes[2]
    heights = [{round(bar.get_x() + bar.get_width() / 2 - 1): bar.get_height() for bar in bars} for bars in right.containers]
    assert heights == [{0: 3, 3: 1}, {1: 3, 2: 1}]
    assert right.get_xlabel() == "head of each of the blocks 1, 2 from the end"


def test_the_explorer_of_weights_shows_the_head_that_the_settings_choose():
    """Head 1 is the surest over all tokens of the last block, head 2 over its patches, head 1 again in the block before."""
    one_patch, even = torch.eye(5)[[1] * 5], torch.full((5, 5), 0.2)
    to_class, leaning = 0.9 * torch.eye(5)[[0] * 5] + 0.1 * even, 0.6 * one_patch + 0.4 * even
    maps = torch.stack([torch.stack([one_patch, even]), torch.stack([to_class, leaning])])[None]
    run = SimpleNamespace(arrays={"attention": maps.numpy(), "images": np.zeros((1, 3, 4, 4))}, metrics={"prefix": 1})
    shares, heads = {"lambda_1": 0.5, "lambda_2": 0.5, "image": 1}, {}
    cases = {"last": AttentionTerm(), "patches": AttentionTerm(tokens="patches"), "before": AttentionTerm(blocks=(2,))}
    for name, attention in cases.items():
        title = dual_ssl_kd.draw_targets(run, run, **shares, attention=attention).axes[2].get_title()
        heads[name] = title.partition("\n")[0]
    assert heads == {"last": "MIM (MAE), head 1", "patches": "MIM (MAE), head 2", "before": "MIM (MAE), head 1"}


# ------------------------------------------------------------------------------------------------ figures


def colours_of(axes):
    return {line.get_label(): line.get_color() for line in axes.get_lines()}


def test_a_network_has_one_colour_on_both_sides_of_the_terms(results):
    terms, accuracies = (colours_of(axes) for axes in dual_ssl_kd.figure_terms(results).axes)
    assert list(terms) == ["CE, student", "CE, CL", "CE, MIM", "KL, output", "KL, attention"]
    pairs = {"CE, student": "student", "CE, CL": "CL (DINO)", "CE, MIM": "MIM (MAE)"}
    assert {name: terms[name] for name in pairs} == {name: accuracies[other] for name, other in pairs.items()}
    assert len(set(terms.values())) == 5


def test_the_terms_drawn_are_those_of_the_history(results):
    rows = results.history("students").query("method == 'ours'").dropna(subset="ce_student")
    left, _ = dual_ssl_kd.figure_terms(results).axes
    drawn_terms = {line.get_label(): list(line.get_ydata()) for line in left.get_lines()}
    for label, column in {"CE, CL": "ce_cl", "CE, MIM": "ce_mim", "KL, output": "output", "KL, attention": "attention"}.items():
        assert drawn_terms[label] == rows[column].tolist()


def test_figure_1_names_its_own_images(results):
    (axes,) = dual_ssl_kd.figure_distance(results).axes
    assert axes.get_title() == "8 test images of 16 px, one training each"


@pytest.mark.parametrize("name", FIGURES)
def test_no_text_is_small_or_cut_off(name, results):
    assert faults_at_both_widths(getattr(dual_ssl_kd, name), results) == {}


@pytest.mark.parametrize("name", FIGURES)
def test_without_runs_no_panel_is_empty(name, tmp_path):
    study = load_study("dual_ssl_kd", "smoke", results_dir=str(tmp_path), data_dir=str(tmp_path))
    figure = getattr(dual_ssl_kd, name)(study.execute(mode="read-only"))
    assert all(axes.texts or axes.get_lines() or axes.collections or axes.patches for axes in figure.axes)


@pytest.mark.parametrize("narrow", [False, True], ids=["page", "column"])
def test_what_is_written_in_the_drawing_lies_inside_it(narrow, results):
    with figures.narrow() if narrow else nullcontext():
        figure = dual_ssl_kd.figure_method(results)
    assert texts_inside(figure) == 17


def test_networks_look_as_in_every_other_document(results):
    colours = {"cl": "DINO", "mim": "MAE", "supervised": "supervised", "untrained": "untrained", "ours": "DINO + MAE"}
    assert {name: dual_ssl_kd.LOOKS[name] for name in colours} == {name: figures.look(other) for name, other in colours.items()}
    (axes,) = dual_ssl_kd.figure_distance(results).axes
    shown = {container.get_label(): container.lines[0] for container in axes.containers}
    for label, name in {"CL (DINO)": "DINO", "MIM (MAE)": "MAE", "supervised": "supervised", "untrained": "untrained"}.items():
        assert (shown[label].get_color(), shown[label].get_marker()) == (figures.look(name).colour, figures.look(name).marker)


def test_confidences_are_the_stored_ones_on_one_scale(results):
    figure = dual_ssl_kd.figure_confidence(results)
    (run,) = [run for point, run in results.runs("students") if point["method"] == "ours"]
    rows = figures.drawn(figure)
    for name, label in dual_ssl_kd.TEACHERS.items():
        found = rows[(rows["series"] == label) & (rows["panel"] == label)].pivot(index="y", columns="x", values="value")
        np.testing.assert_allclose(found, run.arrays[f"confidence {name}"].T)
    scales = {axes.collections[0].get_clim() for axes in figure.axes[:2]}
    assert len(scales) == 1 and [axes.get_xlabel() for axes in figure.axes if axes.get_label() == "<colorbar>"] == ["attention confidence"]


def test_students_and_their_variants_are_drawn_by_method(results):
    left, right = dual_ssl_kd.figure_students(results).axes
    frame = results.frame("students").set_index("method")["top1"]
    drawn_there = {line.get_label(): line.get_xdata()[0] for line in left.get_lines() if line.get_label() in dual_ssl_kd.METHODS.values()}
    assert drawn_there == {dual_ssl_kd.METHODS[name]: value for name, value in frame.items()}
    names = [label.get_text() for label in right.get_yticklabels()]
    assert names[:2] == ["outputs of MIM alone (λ₁ = 0)", "outputs of CL alone (λ₁ = 1)"] and len(names) == 6


# ------------------------------------------------------------------------------------------------ explorers


def test_stored_maps_are_distributions_of_the_shown_images(study, results):
    for _, run in results.runs("maps"):
        maps = run.arrays["attention"].astype(float)
        assert maps.shape == (study.settings.shown, 12, maps.shape[2], 17, 17) and len(run.arrays["images"]) == study.settings.shown
        assert np.allclose(maps.sum(axis=-1), 1, atol=0.01)


def test_the_explorer_of_attention_draws_every_model_and_head_at_the_edges_of_its_controls(results):
    explorer = dual_ssl_kd.explore_attention(results)
    edges = {name: (control.min, control.max) for name, control in explorer.controls.items() if name != "model"}
    runs = {point["model"]: run for point, run in results.runs("maps")}
    assert {value for _, value in explorer.controls["model"].options} == set(runs) == {"cl", "mim", "supervised", "untrained"}
    assert edges == {"image": (1, 2), "patch": (1, 16), "block": (1, 12), "head": (1, runs["cl"].arrays["attention"].shape[2])}
    for name, run in runs.items():
        for head in edges["head"]:
            for end in (0, 1):
                image, patch, block = (edges[control][end] for control in ("image", "patch", "block"))
                figure = dual_ssl_kd.draw_attention(run, name, image=image, patch=patch, block=block, head=head)
                assert isinstance(figure, Figure)
                row = run.arrays["attention"][image - 1, block - 1, head - 1, patch, 1:].astype(float)
                drawn_row = np.asarray(figure.axes[1].get_images()[0].get_array()).ravel()
                assert np.allclose(drawn_row, row / row.sum())
                ways = [4 * math.dist(divmod(patch - 1, 4), divmod(key, 4)) for key in range(16)]
                assert figure.axes[1].get_title().endswith(f"head {head}: {float(row @ ways / row.sum()):.1f} px")


def test_the_explorer_of_weights_draws_both_targets_at_the_edges_of_its_controls(study, results):
    explorer = dual_ssl_kd.explore_weights(results)
    assert explorer.controls["lambda_1"].value == 0.5 and explorer.controls["lambda_2"].value == 0
    cl, mim = (results.run("maps", model=name) for name in ("cl", "mim"))
    first_scale = dual_ssl_kd.draw_targets(cl, mim, lambda_1=0, lambda_2=0, image=1).axes[1].get_images()[0].get_clim()
    for image in (explorer.controls["image"].min, explorer.controls["image"].max):
        for lambda_1, lambda_2 in ((0.0, 1.0), (1.0, 0.0), (0.5, 0.5)):
            figure = dual_ssl_kd.draw_targets(cl, mim, lambda_1=lambda_1, lambda_2=lambda_2, image=image)
            assert isinstance(figure, Figure)
            widths = [bar.get_width() for bar in figure.axes[3].patches]
            assert widths == [lambda_1, 1 - lambda_1, lambda_2, 1 - lambda_2]
            title = figure.axes[2].get_title()
            assert title.startswith("MIM (MAE), head ") and title.endswith("student head 2")
            maps = [shown for axes in figure.axes[1:3] for shown in axes.get_images()]
            pulled, scales = [shown.get_array().max() for shown in maps], [shown.get_clim() for shown in maps]
            assert (pulled[0] == 0) == (lambda_2 == 0) and (pulled[1] == 0) == (lambda_2 == 1)
            assert scales[0] == scales[1] == first_scale


def test_there_is_nothing_to_explore_before_the_runs_are_stored(study, tmp_path):
    empty = SimpleNamespace(runs=lambda table: [], study=study)
    assert type(dual_ssl_kd.explore_attention(empty)).__name__ == type(dual_ssl_kd.explore_weights(empty)).__name__ == "NothingToExplore"
