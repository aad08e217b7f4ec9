"""A stored run."""

import pytest

from tests.runs.support import FACTS, SPEC
from tests.support import context


@pytest.fixture
def result(tmp_path):
    return SPEC.compute(context(tmp_path))


@pytest.fixture
def folder(store, result):
    store.put(SPEC, result, FACTS)
    return store.root / SPEC.id
