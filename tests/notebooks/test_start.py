"""The start notebook: no outputs, links that lead somewhere, every notebook named, and its one cell at work."""

import re

import nbformat
import pytest

from tests.support import ROOT
from vitlib.spec import SpecError
from vitlib.studies.headless import batch
from vitlib.studies.pages.state import state

START = nbformat.read(ROOT / "start.ipynb", as_version=4)
TEXT = "\n".join(cell.source for cell in START.cells if cell.cell_type == "markdown")
LINKS = re.findall(r"\]\(([^)]+)\)", TEXT)


def test_it_carries_no_outputs_and_is_none_of_the_notebooks_that_are_executed():
    assert all(not cell.outputs and cell.execution_count is None for cell in START.cells if cell.cell_type == "code")
    assert "start" not in batch.notebooks()


def test_its_links_lead_to_files_of_the_checkout_and_to_every_notebook():
    assert [link for link in LINKS if not (ROOT / link).is_file()] == []
    assert {path.relative_to(ROOT).as_posix() for path in batch.notebooks().values()} <= set(LINKS)


def test_its_cell_shows_what_is_stored_of_every_document(tmp_path, monkeypatch):
    monkeypatch.setenv("VITLIB_RESULTS", str(tmp_path))
    (cell,) = [cell for cell in START.cells if cell.cell_type == "code"]
    lines, names = cell.source.splitlines(), {}
    exec("\n".join(lines[:-1]), names)
    table = eval(lines[-1], names)
    assert list(table.columns[:4]) == ["runs", "stored", "archived", "missing"]
    assert set(table.index) == set(batch.notebooks()) - {"your_model"}
    assert (table["stored"] == 0).all()
    assert (table.drop(columns="runs").sum(axis=1) == table["runs"]).all()


def test_an_unknown_profile_is_refused_by_name():
    with pytest.raises(SpecError, match="profile: got 'quik'"):
        state("quik")
