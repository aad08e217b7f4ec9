"""What a run that is being computed does when its claim is lost: it ends, and stores nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from vitlib.runs.claims.leases import Lease


class LostClaimError(RuntimeError):
    """Another process may be computing the run: this one was suspended, or cut off from the disk, for longer than a lease lasts."""


def require_held(claim: Lease | bool) -> None:
    if not claim:
        raise LostClaimError("the lease ran out while the run was computed")


def while_held(claim: Lease | bool, tick: Callable[..., Any]) -> Callable[..., Any]:
    """`tick`, as a run calls it at each step, which also ends a run whose claim is lost."""

    def checked(*progress: int) -> None:
        require_held(claim)
        tick(*progress)

    return checked
