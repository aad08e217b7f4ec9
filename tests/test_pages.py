"""README.md and docs/: their tables are the committed ones, their links lead somewhere, and the first screen stays one."""

import re

import pytest
from renew_readme import PAGES, ROOT, SCOREBOARD, as_committed, first_screen, renewed

LINK = re.compile(r"\]\(([^)\s]+)\)")
BOARD = """A caption.

| document   | sentence   | the document   | ours             | verdict   | table                                 |
|:-----------|:-----------|:---------------|:-----------------|:----------|:--------------------------------------|
| DeiT       | A beats B  | +1.2           | +0.6 (0.1 to 1)  | holds     | [table](../../deit/desk/table_1.md)   |
|            | C beats D  | no value       | –                | undecided | [figure](../../deit/desk/figure_2.png) |
"""
SHOWN = """| sentence | document says | ours | verdict |
|:--|:--|:--|:--|
| **DeiT**: [A beats B](figures/deit/desk/table_1.md) | +1.2 | +0.6 (0.1 to 1) | holds |
| [C beats D](figures/deit/desk/figure_2.png) | no value | – | undecided |
"""


def text_of(page):
    return page.read_text(encoding="utf-8")


def anchors(page):
    """What a code host calls the headings of a page."""
    titles = re.findall(r"^#+ (.+)$", text_of(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


every_page = pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])


@every_page
def test_tables_are_those_of_the_committed_figures(page):
    assert text_of(page) in (renewed(text_of(page)), renewed(text_of(page), as_committed)), "run `make readme`"


@every_page
def test_relative_links_lead_to_files_and_headings_that_exist(page):
    broken = []
    for link in LINK.findall(text_of(page)):
        target, _, anchor = link.partition("#")
        file = page.parent / target if target else page
        if "://" not in link and not (file.exists() and (not anchor or anchor in anchors(file))):
            broken.append(link)
    assert not broken


def test_the_scoreboard_is_cut_to_four_columns_whose_links_start_at_the_root():
    page = "Before.\n<!-- scoreboard -->\nold\n<!-- /scoreboard -->\nAfter.\n"
    assert renewed(page, {SCOREBOARD: BOARD}.get) == page.replace("old\n", SHOWN)


def test_a_scoreboard_without_a_column_that_the_first_screen_shows_is_an_error():
    with pytest.raises(KeyError, match="verdict"):
        first_screen(BOARD.partition("\n\n")[2].replace("verdict", "judgement"))


def test_the_readme_is_short_and_shows_at_most_25_claims():
    readme = text_of(ROOT / "README.md")
    board = readme.partition("<!-- scoreboard -->\n")[2].partition("<!-- /scoreboard -->")[0]
    assert len(readme.splitlines()) <= 120
    assert 1 <= len(board.splitlines()) - 2 <= 25


def test_the_readme_leads_to_every_page():
    linked = set(LINK.findall(text_of(ROOT / "README.md")))
    assert {page.relative_to(ROOT).as_posix() for page in PAGES[1:]} <= linked
