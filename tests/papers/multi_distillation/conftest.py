"""Multi-distillation's smoke study, as described, and its results; a place to compute in."""

import pytest

from tests.papers.multi_distillation.support import smoke_of
from tests.support import context


@pytest.fixture(scope="session")
def study(tmp_path_factory):
    return smoke_of(tmp_path_factory.mktemp("multi") / "results")


@pytest.fixture
def where(tmp_path):
    """Makes a context."""
    return lambda **fields: context(tmp_path, **fields)


@pytest.fixture(scope="session")
def results(finished):
    return finished("multi_distillation").execute(mode="read-only")
