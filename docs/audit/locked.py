"""The packages of requirements.lock."""

from __future__ import annotations

import re
from pathlib import Path

from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
LOCK = ROOT / "requirements.lock"


def packages() -> dict[str, list[str]]:
    """Versions by name; several where they depend on Python's version or the system."""
    found: dict[str, list[str]] = {}
    for name, version in re.findall(r"^([\w.-]+)==([\w.+!-]+)", LOCK.read_text(encoding="utf-8"), re.MULTILINE):
        found.setdefault(canonicalize_name(name), []).append(version)
    return dict(sorted(found.items()))
