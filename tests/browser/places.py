"""The checkout as a browser test sees it: copies of its notebooks, and a store filled from the archives beside the figures."""

import os
import shutil
from pathlib import Path

import nbformat

from tests.support import ROOT
from vitlib.runs.archive import import_
from vitlib.runs.store import Store

EXPLORERS = {"wecolora": 1, "afr_pruning": 1, "dual_ssl_kd": 2, "deit": 2, "multi_distillation": 1, "overview": 1, "your_model": 1}
SETTINGS = {"your_model": {"profile": "smoke"}}


def checkout(folder: Path) -> Path:
    """A folder with copies of the notebooks and links to everything else."""
    folder.mkdir()
    for path in ROOT.iterdir():
        if path.name == "notebooks" or path.suffix == ".ipynb":
            continue
        if not path.name.startswith("."):
            (folder / path.name).symlink_to(path)
    shutil.copytree(ROOT / "notebooks", folder / "notebooks", ignore=shutil.ignore_patterns(".*"))
    for path in ROOT.glob("*.ipynb"):
        shutil.copy(path, folder)
    for name, parameters in SETTINGS.items():
        with_parameters(folder / f"notebooks/{name}.ipynb", **parameters)
    return folder


def with_parameters(path: Path, **parameters: object) -> Path:
    """The notebook with other literals in its parameters cell."""
    notebook = nbformat.read(path, as_version=4)
    (cell,) = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    cell.source += "".join(f"\n{name} = {value!r}" for name, value in parameters.items())
    nbformat.write(notebook, path)
    return path


def filled_store(folder: Path) -> Path:
    """A store with the committed results of `quick`; VITLIB_BROWSER_STORE names one that is filled already, and is copied."""
    if given := os.environ.get("VITLIB_BROWSER_STORE"):
        return shutil.copytree(given, folder)
    for archive in sorted((ROOT / "figures").glob("*/quick/results.tar.xz")):
        import_(Store(folder), archive)
    return folder
