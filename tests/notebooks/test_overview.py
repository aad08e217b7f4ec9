"""The overview beside the documents: when it is executed, and when it is left out."""

import logging

from vitlib.grid.entries import documents, read_entry
from vitlib.studies.headless import batch
from vitlib.studies.pages.page import study_of


def test_it_shows_the_comparison_and_comes_after_the_documents_whose_claims_it_lists():
    names = list(batch.notebooks())
    assert study_of(batch.notebooks()["overview"]) == "comparison"
    assert set(names[: len(documents())]) == set(documents()) and "overview" in names[len(documents()) :]


def test_it_is_left_out_at_a_profile_that_the_comparison_does_not_have(caplog):
    assert "paper" not in read_entry("comparison")["profile"]
    with caplog.at_level(logging.WARNING, "vitlib"):
        chosen = batch.for_all({"profile": "paper"})
    assert set(documents()) == set(chosen)
    assert "overview.ipynb is left out: it has no profile 'paper', only smoke, quick, desk, tiny" in caplog.messages


def test_a_profile_that_nobody_has_is_left_to_the_documents_to_refuse():
    assert set(documents()) <= set(batch.for_all({"profile": "smok"}))
    assert "overview" in batch.for_all({"profile": "desk"})
