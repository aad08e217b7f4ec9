"""One scoreboard of all documents: every claim once, corrected together; the figure draws what the table says."""

import importlib

import numpy as np
import pandas as pd
import pytest

from tests.legible import faults_at_both_widths
from vitlib.grid.entries import documents, read_entry
from vitlib.report import figures
from vitlib.report.evidence.forest import COLOURS, forest
from vitlib.studies.verdicts import scoreboard


@pytest.fixture(scope="module")
def studies(finished):
    return [finished(paper) for paper in documents()]


@pytest.fixture(scope="module")
def board(studies):
    return scoreboard.scoreboard(studies)


def test_every_claim_of_every_document_has_its_row(board):
    assert len(board) == sum(len(read_entry(paper)["claim"]) for paper in documents()) >= 45
    assert not board.duplicated(["document", "claim"]).any() and not board.duplicated(["document", "sentence"]).any()


def test_the_compact_table_has_one_to_five_rows_of_every_document(board):
    table = scoreboard.compact(board)
    assert len(table) == board["main"].sum() and board.groupby("document")["main"].sum().between(1, 5).all()
    named = table["sentence"].str.extract(r"^\*\*(.+?)\*\*: \[")[0].dropna()
    assert named.tolist() == list(dict.fromkeys(board["document"]))


@pytest.mark.parametrize("paper", documents())
def test_every_claim_leads_to_a_table_or_figure_of_its_document(paper, studies):
    module = importlib.import_module(f"vitlib.papers.{paper}")
    for claim in read_entry(paper)["claim"]:
        assert callable(getattr(module, claim["shown"])), claim["sentence"]
        assert claim["shown"].startswith(("table_", "figure_"))


def made(**columns):
    rows = {
        "document": ["A", "A", "B", "B"], "sentence": ["one", "two", "three", "four"], "main": [True, True, True, False],
        "published": "+1", "difference": [2.0, -0.04, np.nan, 0.31], "low": [1.0, -2.0, np.nan, 0.22], "high": [3.0, 1.92, np.nan, 0.44],
        "unit": ["points", "points", "points", "cosine"], "effect": [0.5, np.nan, np.nan, 0.87],
        "verdict": ["holds", "undecided", "undecided", "fails"], "link": "x.md",
    }  # fmt: skip
    return pd.DataFrame(rows | columns)


def test_ours_is_the_difference_with_its_interval_and_unit_and_never_minus_nought():
    assert scoreboard.compact(made())["ours"].tolist() == ["+2.0 (1.0 to 3.0)", "+0.0 (-2.0 to 1.9)", "–"]
    assert scoreboard.compact(made(main=True))["ours"].iloc[3] == "+0.31 (0.22 to 0.44) cosine"


def test_a_document_is_named_once():
    sentences = scoreboard.compact(made())["sentence"].tolist()
    assert sentences == ["**A**: [one](x.md)", "[two](x.md)", "**B**: [three](x.md)"]


def test_the_figure_shows_each_difference_in_units_of_the_documents_effect_or_as_it_is():
    above, below = forest(made()).axes
    drawn = {
        name: {line.get_xdata()[0] for container in axes.containers for line in [container.lines[0]] if len(line.get_xdata())}
        for name, axes in (("above", above), ("below", below))
    }
    assert drawn["above"] == {2.0 / 0.5, 0.31 / 0.87}
    assert {value for value in drawn["below"] if not np.isnan(value)} == {-0.04}


def test_holds_and_fails_are_told_by_colour_and_marker():
    above, _ = forest(made()).axes
    colours = {
        container.get_label(): container.lines[0].get_color() for container in above.containers if len(container.lines[0].get_xdata())
    }
    assert colours == {"holds": COLOURS["holds"], "fails": COLOURS["fails"]}


def test_no_text_of_the_figure_is_too_small_or_cut_off_on_a_page_and_in_a_column(board):
    assert faults_at_both_widths(forest, board) == {} == faults_at_both_widths(forest, made())


def test_the_whole_scoreboard_is_drawn_without_a_label_cut(board, tmp_path):
    figure = forest(board)
    figures.save(figure, tmp_path / "claims", "stamp")
    renderer = figure.canvas.get_renderer()
    for axes in figure.axes:
        for label in axes.get_yticklabels():
            assert label.get_window_extent(renderer).x0 >= 0, label.get_text()
