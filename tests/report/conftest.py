"""Results of DeiT's smoke study."""

import pytest


@pytest.fixture(scope="session")
def results(smoke):
    return smoke.execute(mode="read-only")
