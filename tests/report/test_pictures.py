"""Figures in words: what stands in for a picture where it cannot be seen names what the picture shows."""

import matplotlib as mpl
import numpy as np
import pytest

from tests.support import smoke_study
from vitlib.papers import deit
from vitlib.report import figures
from vitlib.report.pictures import Picture, alt_texts, described
from vitlib.studies.artefacts import caption

FIGURES = [name for name in vars(deit) if name.startswith("figure_")]
PNG = b"\x89PNG\r\n\x1a\n"


def two_panels():
    figure, ((left, right),) = figures.canvas(1, 2)
    for axes, title in ((left, "DeiT-Ti"), (right, "DeiT-S")):
        axes.plot([1, 2], [3, 4], label="hard, with a token")
        axes.plot([1, 2], [3, 4], label="_a helper")
        axes.set(title=title, xlabel="epoch", ylabel="top-1 (%)")
    return figure


def test_panels_axes_and_series_are_named_after_the_first_sentence_of_the_caption():
    said = described(two_panels(), "Learning curves by `method`, $\\lambda$ = 1. Dots are means.")
    curves = "Learning curves by method, lambda = 1."
    assert said == f"{curves} 2 panels: DeiT-Ti; DeiT-S. Top-1 (%) against epoch. Shown: hard, with a token."


def test_rows_that_have_names_are_told_and_numbers_on_an_axis_are_not():
    figure, ((axes,),) = figures.canvas()
    axes.plot([81.5, 82.0], [0, 1], "o", label="ours")
    axes.set_yticks([0, 1], ["no teacher", "soft"])
    assert described(figure) == "Shown: ours. Rows: no teacher; soft."


def test_a_heat_map_and_its_letters_are_told_and_its_colour_bar_is_not():
    figure, ((axes,),) = figures.canvas()
    figure.colorbar(axes.pcolormesh(np.eye(2)), ax=axes, label="share")
    axes.set(xlabel="epoch", ylabel="block")
    axes.text(0.5, 0.5, "never")
    assert described(figure, "Where it moves") == "Where it moves. Heat map: block against epoch. Labelled: never."


def test_many_names_are_counted_and_what_is_long_is_cut_between_words():
    figure, ((axes,),) = figures.canvas()
    for number in range(12):
        axes.plot([0], [number], label=f"run {number}")
    assert described(figure) == "Shown: run 0; run 1; run 2; run 3; run 4; run 5; run 6 and 5 more."
    long = described(figure, "word " * 100)
    assert len(long) < 300 and "word…" in long and long.endswith("and 5 more.")


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_of_a_document_is_described_by_more_than_its_caption(name, results):
    figure, text = getattr(deit, name)(results), caption(smoke_study("deit"), name)
    said = described(figure, text)
    assert len(text.split(". ")[0][:100]) + 20 < len(said) <= 300
    assert not set("*`$\\\n") & set(said)


def test_describing_a_figure_leaves_its_picture_as_it_was(tmp_path):
    with mpl.rc_context():
        figure = two_panels()
        before = figures.save(figure, tmp_path / "before", "")
        described(figure)
        assert figures.save(figure, tmp_path / "after", "") == before


def displayed(shown, monkeypatch):
    """What a notebook's outputs hold of it."""
    outputs = []

    def display(what):
        data, metadata = what._repr_mimebundle_() if hasattr(what, "_repr_mimebundle_") else ({}, {})
        outputs.append({"data": data, "metadata": metadata})

    monkeypatch.setattr("IPython.display.display", display)
    shown()
    return outputs


def test_a_saved_picture_carries_its_description_into_the_notebook(monkeypatch):
    picture = Picture.of(two_panels(), PNG, "Learning curves.")
    outputs = displayed(picture._ipython_display_, monkeypatch)
    assert alt_texts(outputs) == [picture.alt] and "DeiT-S" in picture.alt
    assert outputs[0]["metadata"]["image/png"]["width"] == 760


def test_a_picture_without_a_figure_is_described_by_its_caption(monkeypatch):
    assert alt_texts(displayed(Picture(PNG, "A photo.")._ipython_display_, monkeypatch)) == ["A photo."]


def test_an_explorers_still_picture_says_what_it_is_drawn_for(results, monkeypatch):
    explorer = deit.explore_attention(results)
    still = displayed(explorer.show, monkeypatch)[:1]
    assert "head 1" in alt_texts(still)[0] and "class token" in alt_texts(still)[0]


def test_outputs_without_pictures_have_no_alt_text():
    assert alt_texts([{"data": {"text/plain": "1"}, "metadata": {}}, {"output_type": "stream"}]) == []
