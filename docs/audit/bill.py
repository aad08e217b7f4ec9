"""The software bill of materials of a release: CycloneDX 1.6 as JSON, made from the lock by cyclonedx-bom, the same bytes every time."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from docs.audit.licences import PAGE, rows
from docs.audit.locked import LOCK, ROOT

OUT = ROOT / "build" / "vitlib.cdx.json"


def write(out: Path = OUT) -> int:
    """Write it, each package with its versions' checksums and its licence; returns the number of packages."""
    made = ["requirements", str(LOCK), "--pyproject", str(ROOT / "pyproject.toml"), "--output-reproducible", "--of", "JSON", "--sv", "1.6"]
    done = subprocess.run([sys.executable, "-m", "cyclonedx_py", *made], check=True, capture_output=True, text=True)
    bill, known = json.loads(done.stdout), rows(PAGE.read_text(encoding="utf-8"))
    for package in bill["components"]:
        package["licenses"] = [{"license": {"name": known[package["name"]]}}]
        package["description"] = package["description"].partition("--hash")[0].strip()
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(bill, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return len(bill["components"])
