"""docs/licences.md: where the files of the checkout come from, and under which licence each package of the lock is.

A package's licence is what its own metadata says, as it is installed. One that is not installed here (of another system or version of
Python) keeps the row that the page has.
"""

from __future__ import annotations

import fnmatch
import re
import subprocess
import tomllib
from importlib.metadata import PackageNotFoundError, metadata

from docs.audit.locked import ROOT, packages

PAGE = ROOT / "docs" / "licences.md"
UNKNOWN, SILENT = "not known here", "none stated"
LONGEST = 60  # letters of a licence's name; what is longer is its text
SAME = {  # one name for one licence, where classifiers and free text have many; SPDX expressions stay as they are
    "MIT License": "MIT",
    "MIT license": "MIT",
    "BSD License": "BSD",
    "BSD 3-Clause License": "BSD-3-Clause",
    "3-Clause BSD License": "BSD-3-Clause",
    "BSD 2-Clause License": "BSD-2-Clause",
    "Apache Software License": "Apache-2.0",
    "Apache License, Version 2.0": "Apache-2.0",
    "Apache 2.0": "Apache-2.0",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "ISC License (ISCL)": "ISC",
    "ISC license": "ISC",
    "Python Software Foundation License": "PSF-2.0",
    "PSFL": "PSF-2.0",
}


def licence(package: str) -> str | None:
    """What the metadata of an installed package says: its SPDX expression, else a short text, else its classifiers.

    None if it is not installed.
    """
    try:
        told = metadata(package)
    except PackageNotFoundError:
        return None
    if expression := told.get("License-Expression"):
        return expression
    text = (told.get("License") or "").strip()
    classes = [line.rpartition(" :: ")[2] for line in told.get_all("Classifier", []) if line.startswith("License :: ")]
    named = [SAME.get(name, name) for name in classes if name != "OSI Approved"]
    plain = bool(text) and text != "UNKNOWN" and "\n" not in text and len(text) <= LONGEST and "Copyright" not in text
    if plain and not (named and text == "BSD"):
        return SAME.get(text, text)
    return " AND ".join(sorted(set(named))) or SILENT


def rows(page: str) -> dict[str, str]:
    """Licences by package, as a page has them."""
    return dict(re.findall(r"^\| `([\w.-]+)` \| [^|]* \| ([^|]*?) \|$", page.partition("## Packages")[2], re.MULTILINE))


def origins() -> list[dict[str, str]]:
    """The entries of REUSE.toml."""
    return tomllib.loads((ROOT / "REUSE.toml").read_text(encoding="utf-8"))["annotations"]


def origin(path: str) -> dict[str, str]:
    """The entry that holds for a file of the checkout: the last that matches it."""
    return [entry for entry in origins() if fnmatch.fnmatch(path, entry["path"])][-1]


def tracked() -> list[str]:
    """The files of the checkout."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return [path for path in listed.split("\0") if path]


def page() -> str:
    """docs/licences.md as it should be."""
    known = rows(PAGE.read_text(encoding="utf-8")) if PAGE.exists() else {}
    files = [f"| `{entry['path']}` | {entry['SPDX-License-Identifier']} | {entry['SPDX-FileComment']} |" for entry in origins()]
    locked = [
        f"| `{name}` | {', '.join(versions)} | {licence(name) or known.get(name, UNKNOWN)} |" for name, versions in packages().items()
    ]
    return f"""# Licences

vitlib is under the Apache License 2.0. `make audit` renews this page, and a test compares.

## Files

Where the files of the checkout come from; the last line that matches a file holds. [REUSE.toml](../REUSE.toml) says the same for programs.

| files | licence | from |
|:--|:--|:--|
{chr(10).join(files)}

Pages that `make site` builds carry MathJax 3.2.2 (Apache-2.0) by the package sphinx-mathjax-offline, and the theme's scripts; neither is in
the checkout.

## Packages

What `requirements.lock` installs, and the licence that each package states of itself. vitlib ships none of them. Those of NVIDIA are not
free software: they are installed where a GPU is to be used on Linux, and a computation on the CPU calls none of them.

| package | version | licence |
|:--|:--|:--|
{chr(10).join(locked)}
"""


def renew() -> None:
    """Write docs/licences.md."""
    PAGE.write_text(page(), encoding="utf-8")
