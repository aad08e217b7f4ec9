"""Rows that only the document reports stand apart, in HTML and in Markdown; the CSV has every row."""

import pandas as pd
import pytest
from bs4 import BeautifulSoup
from nbconvert.filters import markdown2html

from vitlib import load_study
from vitlib.papers import afr_pruning
from vitlib.report.tables import published_only, save, shown

PUBLISHED = {"set": ["X", "Y", "Z"], "n": [3, 0, 0], "measured": [61.9, None, None], "published": [77.0, 99.6, 45.25]}


def table(own=("a", None, None)):
    found = pd.DataFrame({"name": own, **PUBLISHED})
    return published_only(found, found["name"].isna())


def rows(text):
    page = BeautifulSoup(text, "html.parser")
    found = page.find_all("table")
    return [[[cell.get_text() for cell in row.find_all(["th", "td"])] for row in each.find_all("tr")] for each in found]


APART = [["set", "published"], ["Y", "99.6"], ["Z", "45.2"]]
HERE = [["name", "set", "n", "measured", "published"], ["a", "X", "3", "61.9", "77.0"]]


def test_a_notebook_folds_them_under_a_line_that_counts_them():
    html = shown(table(), "a caption", "t").to_html()
    assert rows(html) == [HERE, APART]
    page = BeautifulSoup(html, "html.parser")
    assert page.summary.get_text() == "2 rows that the document reports and this profile does not run"
    assert [len(each.find_parents("details")) for each in page.find_all("table")] == [0, 1]
    assert shown(table(), "a caption", "t")._repr_html_() == html  # what a notebook asks for


def test_a_file_has_them_under_a_heading_and_the_csv_has_all_rows(tmp_path):
    save(table(), tmp_path / "t", "a caption")
    text = (tmp_path / "t.md").read_text(encoding="utf-8")
    page = BeautifulSoup(markdown2html(text), "html.parser")
    assert rows(str(page)) == [HERE, APART]
    assert page.h3.get_text().startswith("2 rows that the document reports")
    assert pd.read_csv(tmp_path / "t.csv")["published"].tolist() == PUBLISHED["published"]


def test_one_row_is_one_and_none_folds_nothing():
    assert "1 row that" in shown(table(("a", "b", None)), "", "t").to_html()
    assert "<details>" not in shown(table(("a", "b", "c")), "", "t").to_html()


def test_where_nothing_is_measured_nothing_is_hidden():
    assert "<details>" not in shown(table((None, None, None)), "", "t").to_html()


def test_a_table_without_rows_says_so_instead_of_showing_its_head(tmp_path):
    empty = pd.DataFrame({"name": [], "measured": []})
    save(empty, tmp_path / "t", "a caption")
    assert (tmp_path / "t.md").read_text(encoding="utf-8") == "a caption\n\nNo rows at this profile.\n"
    assert rows(shown(empty, "a caption", "t").to_html())[0][-1] == ["No rows at this profile."]
    assert (tmp_path / "t.csv").read_text(encoding="utf-8") == "name,measured\n"


def test_heads_stand_over_their_cells_and_code_in_captions_is_code(tmp_path):
    html = shown(table(), "of `paper` only, a < b", "t").to_html()
    assert "<code>paper</code> only, a &lt; b" in html and "`" not in html
    style = " ".join(BeautifulSoup(html, "html.parser").style.get_text().split())
    rules = list(blocks(style))
    assert [next(side for side, chosen in rules if f"col{place}" in chosen) for place in range(5)] == ["left"] * 2 + ["right"] * 3
    save(table(), tmp_path / "t")
    assert (tmp_path / "t.md").read_text(encoding="utf-8").splitlines()[1].count(":|") == 3


def blocks(style):
    """Sides of text in a table's own rules, with the columns that they are for."""
    for rule in style.split("}"):
        chosen, _, said = rule.partition("{")
        if "col" in chosen:
            yield said.split("text-align:")[1].strip(" ;"), chosen


@pytest.mark.parametrize("name", ["table_1", "table_2"])
def test_the_documents_rows_without_a_set_here_are_those_folded(name, tmp_path):
    study = load_study("afr_pruning", "smoke", results_dir=str(tmp_path))
    found = getattr(afr_pruning, name)(study.execute(mode="read-only"))
    apart = BeautifulSoup(shown(found, "", "t").to_html(), "html.parser").details
    assert apart and len(apart.find_all("tr")) - 1 == found["dataset"].isna().sum() > 10
