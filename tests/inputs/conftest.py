"""Every test reads its images anew."""

import pytest

from vitlib.inputs.sources import fingerprint


@pytest.fixture(autouse=True)
def fresh_fingerprints():
    fingerprint.cache_clear()
