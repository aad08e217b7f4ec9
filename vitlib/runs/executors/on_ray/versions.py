"""What has to be the same on every node: Python, Ray, the packages that numbers come from, and vitlib to the last line of code."""

from __future__ import annotations

import hashlib
import os
import platform
from functools import cache
from importlib.metadata import PackageNotFoundError, version

from vitlib.runs.provenance import PACKAGES, ROOT
from vitlib.spec import SpecError

MATCH = "RAY_DEFAULT_PYTHON_VERSION_MATCH_LEVEL"  # Ray's own: 'minor' lets 3.11.7 and 3.11.9 work together


@cache
def versions() -> dict[str, str]:
    """Of this process, by name."""
    digest = hashlib.sha256()
    for path in sorted(ROOT.rglob("*.py")):
        digest.update(f"{path.relative_to(ROOT)}\n".encode() + path.read_bytes())
    found = {name: _version(name) for name in ("ray", *PACKAGES)}
    return {"Python": _python(), **found, "vitlib": f"{_version('vitlib')} (code {digest.hexdigest()[:8]})"}


def require_same(driver: dict[str, str], node: dict[str, str], name: str) -> None:
    """Refuse a node that differs from the driver.

    Raises:
        SpecError: naming both versions of what differs.
    """
    differing = [what for what in driver if driver[what] != node.get(what, "missing")]
    if differing:
        there = ", ".join(f"{what} {node.get(what, 'missing')}" for what in differing)
        here = ", ".join(f"{what} {driver[what]}" for what in differing)
        raise SpecError(f"executor: got 'ray', whose node {name} has {there}, and the driver has {here}; allowed: the same on all nodes")


def _python() -> str:
    """As far as Ray compares it."""
    parts = platform.python_version().split(".")
    return ".".join(parts[:2] if os.environ.get(MATCH) == "minor" else parts)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "missing"
