"""One JupyterLab and one browser for all tests here: skipped where none is installed, failed where VITLIB_BROWSER=required asks for it."""

import os

import pytest

from tests.browser.lab import missing, serving
from tests.browser.places import checkout, filled_store
from tests.support import ROOT

SHOTS = ROOT / ".browser"


@pytest.fixture(scope="session")
def browser():
    if lacking := missing():
        if os.environ.get("VITLIB_BROWSER") == "required":
            pytest.fail(f"VITLIB_BROWSER=required, and {lacking}")
        pytest.skip(lacking)


@pytest.fixture(scope="session")
def root(tmp_path_factory, browser):
    """What Lab is opened on."""
    return checkout(tmp_path_factory.mktemp("lab") / "checkout")


@pytest.fixture(scope="session")
def lab(root, browser):
    home = root.parent / "home"
    home.mkdir()
    store = filled_store(root.parent / "results")
    with serving(root, home, VITLIB_RESULTS=str(store), VITLIB_FIGURES=str(root.parent / "figures"), PYTHONPATH=str(ROOT)) as lab:
        yield lab


@pytest.fixture
def no_errors(lab):
    """The pages of this test raise nothing, and no request of theirs fails."""
    lab.errors.clear()
    yield
    assert not lab.errors


@pytest.fixture(scope="session")
def shots():
    SHOTS.mkdir(exist_ok=True)
    return SHOTS
