"""The ways of computing, and, for Ray, two nodes on this machine that live as long as the tests of this folder."""

import pytest

from tests.runs.executors.ways import WAYS, way


@pytest.fixture(params=WAYS)
def compute(request, forking):
    if request.param == "ray":
        request.getfixturevalue("nodes")
    return way(request.param, forking)


@pytest.fixture(scope="session")
def nodes():
    """A head and one node more."""
    from benchmarks.cluster.nodes import cluster

    with cluster(2) as made:
        yield made


@pytest.fixture(scope="session")
def chain(smoke):
    """A student, the teacher it learns from, and what its tokens do, which reads that teacher too."""
    return next(cell.spec for cell in smoke.cells if cell.table == "tokens" and cell.spec.student.teacher)


@pytest.fixture(scope="session")
def doomed(chain):
    """A run whose loss does not stay finite."""
    recipe = chain.student.recipe.changed(lr=1e30, clip_grad=None)
    return chain.student.teacher.changed(recipe=recipe)
