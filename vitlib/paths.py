"""What this machine offers: where the checkout, results, figures and data lie, and its cores."""

from __future__ import annotations

import os
from pathlib import Path


def root() -> Path:
    """The checkout that holds the current folder (its pyproject.toml names vitlib), or the current folder itself."""
    here = Path.cwd()
    return next((folder for folder in [here, *here.parents] if _is_checkout(folder)), here)


def results_dir(given: str = "") -> Path:
    """`given`, else $VITLIB_RESULTS, else results/ of the checkout; relative paths start at the checkout."""
    return root() / (given or os.environ.get("VITLIB_RESULTS") or "results")


def figures_dir(given: str = "") -> Path:
    """`given`, else $VITLIB_FIGURES, else figures/ of the checkout."""
    return root() / (given or os.environ.get("VITLIB_FIGURES") or "figures")


def data_dir(given: str = "") -> Path:
    """`given`, else $VITLIB_DATA, else data/ of the checkout."""
    return root() / (given or os.environ.get("VITLIB_DATA") or "data")


def cores() -> int:
    """CPU cores that this process may use; all of the machine where the system does not say."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _is_checkout(folder: Path) -> bool:
    project = folder / "pyproject.toml"
    return project.is_file() and 'name = "vitlib"' in project.read_text(encoding="utf-8")
