"""Fixtures of the spine's tests: seeded generators, a place to compute in, forked processes, a finished smoke study."""

import os
import random
import sys
import tempfile
from multiprocessing import get_context
from multiprocessing.util import get_temp_dir

import numpy as np
import pytest

from tests.offline import sitecustomize  # noqa: F401  (no network in any test, nor in what it starts)
from tests.support import execute_backwards, smoke_study
from vitlib import load_study
from vitlib.runs.plan import Place
from vitlib.runs.store import Store


def pytest_configure(config):
    """Temporary files of each worker of xdist lie apart, with them the locks by which runs that measure time have a host to themselves."""
    if worker := os.environ.get("PYTEST_XDIST_WORKER"):
        get_temp_dir()  # multiprocessing's own, which is in use until this process ends
        folder = tempfile.TemporaryDirectory(prefix=f"vitlib-{worker}-")
        config.add_cleanup(folder.cleanup)
        tempfile.tempdir = os.environ["TMPDIR"] = folder.name


@pytest.fixture(autouse=True)
def seeded():
    """Every test starts from the same random state, alone or among others."""
    random.seed(0)
    np.random.seed(0)
    if torch := sys.modules.get("torch"):
        torch.manual_seed(0)
    if remembered := sys.modules.get("vitlib.training.remembered"):
        remembered._KEPT.clear()


@pytest.fixture
def place(tmp_path):
    (tmp_path / "data").mkdir()
    return Place(tmp_path / "results", tmp_path / "data", device="cpu")


@pytest.fixture
def store(place):
    return Store(place.results_dir)


@pytest.fixture(scope="session")
def forking():
    """Processes forked from a server that has imported everything and started no thread: real ones, in milliseconds."""
    context = get_context("forkserver")
    context.set_forkserver_preload(["tests.support", "vitlib.papers.deit.compute", "vitlib.papers.multi_distillation.compute"])
    return context


@pytest.fixture(scope="session")
def kept(tmp_path_factory):
    """A folder that all processes of one run of pytest share: what one has computed, the others find."""
    folder = tmp_path_factory.getbasetemp()
    return folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder


@pytest.fixture(scope="session")
def finished(forking, kept):
    """`finished(paper, overrides)`: a document's smoke study, computed once without interruption; read it, do not write to its store."""
    done = []

    def finished(paper, overrides=None):
        if (paper, overrides) not in done:
            execute_apart(forking, kept / "studies", paper, overrides)
            done.append((paper, overrides))
        return load_study(paper, "smoke", overrides=overrides, results_dir=str(kept / "studies"), device="cpu")

    return finished


@pytest.fixture(scope="session")
def smoke(forking, kept):
    """DeiT's smoke study in a store that holds no other, computed without interruption; read it, do not write to its store."""
    execute_apart(forking, kept / "deit", "deit", None)
    return smoke_study(kept / "deit")


def execute_apart(forking, folder, *study):
    child = forking.Process(target=execute_backwards, args=(folder, *study), daemon=True)
    child.start()
    child.join()
    assert child.exitcode == 0
