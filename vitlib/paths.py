"""What this machine offers: where the checkout, results, figures and data lie, and its cores.

The rule of places: `~` is the home folder everywhere. A relative place on a command line starts where the person stands
(`from_shell`); one in a notebook's parameters or in VITLIB_RESULTS, VITLIB_FIGURES, VITLIB_DATA starts at the checkout, and so do
the defaults results/, figures/ and data/, from whatever folder a notebook or papermill was started.
"""

from __future__ import annotations

import os
from pathlib import Path


def root() -> Path:
    """The checkout (its pyproject.toml names vitlib) that holds the current folder, else the one that vitlib runs from, else the folder."""
    here = Path.cwd()
    folders = [here, *here.parents, Path(__file__).resolve().parents[1]]
    return next((folder for folder in folders if _is_checkout(folder)), here)


def results_dir(given: str = "") -> Path:
    """`given`, else $VITLIB_RESULTS, else results/ of the checkout; ValueError for the home of a user that is not known."""
    return _place(given, "VITLIB_RESULTS", "results")


def figures_dir(given: str = "") -> Path:
    """`given`, else $VITLIB_FIGURES, else figures/ of the checkout; ValueError as for results."""
    return _place(given, "VITLIB_FIGURES", "figures")


def data_dir(given: str = "") -> Path:
    """`given`, else $VITLIB_DATA, else data/ of the checkout; ValueError as for results."""
    return _place(given, "VITLIB_DATA", "data")


def from_shell(given: str) -> Path:
    """A place given on a command line: absolute; ValueError as for results."""
    return Path.cwd() / _expanded(given)


def cores() -> int:
    """CPU cores that this process may use; all of the machine where the system does not say."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _place(given: str, variable: str, default: str) -> Path:
    return root() / _expanded(given or os.environ.get(variable) or default)


def _expanded(given: str) -> Path:
    if "\0" in str(given):
        raise ValueError("a path holds no zero byte")
    try:
        return Path(given).expanduser()
    except RuntimeError:
        raise ValueError(f"no home folder is known for {given!r}") from None


def _is_checkout(folder: Path) -> bool:
    project = folder / "pyproject.toml"
    return project.is_file() and 'name = "vitlib"' in project.read_text(encoding="utf-8")
