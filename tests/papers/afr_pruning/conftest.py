"""AFR pruning's smoke study: as described, and its results."""

import pytest

from vitlib import load_study


@pytest.fixture(scope="session")
def study():
    return load_study("afr_pruning", "smoke")


@pytest.fixture(scope="session")
def results(finished):
    return finished("afr_pruning").execute(mode="read-only")
