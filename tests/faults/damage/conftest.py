"""What damage is found makes many lines: tests silence them, each for itself."""

import logging

import pytest


@pytest.fixture(autouse=True)
def heard_again():
    log = logging.getLogger("vitlib")
    before = log.level
    yield
    log.setLevel(before)
