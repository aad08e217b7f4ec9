"""A stored run."""

import pytest

from tests.runs.support import FACTS, SPEC
from tests.support import context
from vitlib.computing import result_of


@pytest.fixture
def result(tmp_path):
    return result_of(SPEC, context(tmp_path))


@pytest.fixture
def folder(store, result):
    store.put(SPEC, result, FACTS)
    return store.root / SPEC.id
