"""Known advisories about the packages of the lock, by pip-audit."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from docs.audit.locked import LOCK

DATABASES = {
    "pypi": "the advisories that the package index keeps (PyPI's JSON interface)",
    "osv": "OSV, the Open Source Vulnerabilities database",
}
CLEAN, FOUND, UNANSWERED = 0, 1, 3


def asked(database: str) -> dict[str, Any] | None:
    """pip-audit's answer about the lock; None where the database could not be reached.

    Nothing is installed for it: the lock names every package and version, for the running Python.
    """
    options = ["--no-deps", "--disable-pip", "--progress-spinner", "off", "-f", "json", "-s", database]
    done = subprocess.run([sys.executable, "-m", "pip_audit", "-r", str(LOCK), *options], capture_output=True, text=True)
    try:
        return json.loads(done.stdout)
    except ValueError:
        return None


def report(ask: Callable[[str], dict[str, Any] | None] = asked) -> int:
    """Print what the first database that answers says; exit status: 0 nothing known, 1 advisories, 3 nobody could be asked about all.

    A package that a database does not know was not audited: pip-audit itself ends with 0 then.
    """
    for database, what in DATABASES.items():
        answer = ask(database)
        packages = answer["dependencies"] if answer else []
        known = [each for each in packages if "skip_reason" not in each]
        if not known:
            print(f"audit: {what} could not be asked from here")
            continue
        return _said(what, packages, known)
    print("audit: NOT AUDITED: no database of advisories was reached; run this where one is")
    return UNANSWERED


def _said(what: str, packages: list[dict[str, Any]], known: list[dict[str, Any]]) -> int:
    found = [(each, advisory) for each in known for advisory in each["vulns"]]
    for each, advisory in found:
        print(f"{each['name']} {each['version']}: {advisory['id']}; mended in {', '.join(advisory['fix_versions']) or 'no version yet'}")
    today = datetime.now(UTC).date()
    print(f"audit: {len(known)} of {len(packages)} packages asked about at {what} on {today}: {len(found)} advisories")
    if unknown := [each["name"] for each in packages if "skip_reason" in each]:
        print(f"audit: NOT AUDITED: {', '.join(unknown)}")
    return FOUND if found else UNANSWERED if unknown else CLEAN
