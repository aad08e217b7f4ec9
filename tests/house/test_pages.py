"""README.md and docs/: their tables are the committed ones, their links lead somewhere, and the first screen stays one."""

import re

import pytest

from tests.renew_readme import PAGES, SCOREBOARD, as_committed, renewed
from tests.support import ROOT
from vitlib import documents

LINK = re.compile(r"\]\(([^)\s]+)\)")
BOARD = """A caption.

| sentence                                             | document says   | ours             | verdict   |
|:-----------------------------------------------------|:----------------|:-----------------|:----------|
| **DeiT**: [A beats B](../../deit/desk/table_1.md)    | +1.2            | +0.6 (0.1 to 1)  | holds     |
| [C beats D](../../deit/desk/figure_2.png)            | no value        | –                | undecided |
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


def test_the_scoreboard_stands_between_its_marks_without_caption_and_with_links_from_the_root():
    page = "Before.\n<!-- scoreboard -->\nold\n<!-- /scoreboard -->\nAfter.\n"
    _, _, table = BOARD.partition("\n\n")
    shown = renewed(page, {SCOREBOARD: BOARD}.get)
    assert shown == page.replace("old\n", table.replace("../../deit", "figures/deit"))
    assert LINK.findall(shown) == ["figures/deit/desk/table_1.md", "figures/deit/desk/figure_2.png"]


def test_the_readme_is_short_and_shows_at_most_five_claims_of_a_document():
    readme = text_of(ROOT / "README.md")
    board = readme.partition("<!-- scoreboard -->\n")[2].partition("<!-- /scoreboard -->")[0]
    assert len(readme.splitlines()) <= 120
    assert 1 <= len(board.splitlines()) - 2 <= 5 * len(documents())


def test_the_readme_leads_to_every_page():
    linked = set(LINK.findall(text_of(ROOT / "README.md")))
    assert {page.relative_to(ROOT).as_posix() for page in PAGES[1:]} <= linked
