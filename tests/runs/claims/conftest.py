"""A store whose runs are claimed in either way; leases that end in a second instead of minutes."""

import os
import time

import pytest

from vitlib.runs.claims import leases
from vitlib.runs.claims.kinds import BY_LEASE


@pytest.fixture
def quick_leases(monkeypatch):
    monkeypatch.setattr(leases, "BEAT", 0.1)
    monkeypatch.setattr(leases, "EXPIRES", 1.0)


@pytest.fixture(params=["flock", "lease"])
def shared(request, store, quick_leases):
    if request.param == "lease":
        (store.root / BY_LEASE).touch()
    return store


@pytest.fixture
def by_lease(store, quick_leases):
    (store.root / BY_LEASE).touch()
    return store


@pytest.fixture
def expired(by_lease):
    """Makes a lease that nobody has touched for an hour."""

    def make(run_id):
        path = by_lease.root / ".claims" / run_id
        path.parent.mkdir(exist_ok=True)
        path.write_text('{"token": "dead"}')
        os.utime(path, (time.time() - 3600, time.time() - 3600))
        return path

    return make
