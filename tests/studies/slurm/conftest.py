"""A Slurm of one node with four slots, for as long as the tests last."""

import shutil
import tempfile
from pathlib import Path

import pytest

from tests.studies.slurm.cluster import PROGRAMS, Cluster


@pytest.fixture(scope="session")
def cluster():
    absent = [name for name in PROGRAMS if not shutil.which(name)]
    if absent:
        pytest.skip(f"not installed: {', '.join(absent)} (Debian: slurm-wlm and munge)")
    folder = Path(tempfile.mkdtemp(prefix="slurm"))  # a socket's path is short
    with Cluster(folder) as cluster:
        yield cluster
    shutil.rmtree(folder)
