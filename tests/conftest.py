"""Fixtures of the spine's tests: seeded generators, a place to compute in, forked processes, a finished smoke study."""

import random
import sys
from multiprocessing import get_context

import numpy as np
import pytest

from tests.support import execute_smoke, smoke_study
from vitlib import load_study
from vitlib.runs.execute import Place
from vitlib.runs.store import Store


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
    context.set_forkserver_preload(["tests.support", "vitlib.papers.deit.compute", "vitlib.papers.multi_distillation.training.compute"])
    return context


@pytest.fixture(scope="session")
def finished(forking, tmp_path_factory):
    """`finished(paper, overrides)`: a document's smoke study, computed once without interruption; read it, do not write to its store."""
    folder = tmp_path_factory.mktemp("smoke") / "results"
    done = []

    def finished(paper, overrides=None):
        if (paper, overrides) not in done:
            child = forking.Process(target=execute_smoke, args=(folder, paper, overrides), daemon=True)
            child.start()
            child.join()
            assert child.exitcode == 0
            done.append((paper, overrides))
        return load_study(paper, "smoke", overrides=overrides, results_dir=str(folder), device="cpu")

    return finished


@pytest.fixture(scope="session")
def smoke(forking, tmp_path_factory):
    """DeiT's smoke study, computed without interruption; read it, do not write to its store."""
    folder = tmp_path_factory.mktemp("smoke") / "results"
    child = forking.Process(target=execute_smoke, args=(folder,), daemon=True)
    child.start()
    child.join()
    assert child.exitcode == 0
    return smoke_study(folder)
