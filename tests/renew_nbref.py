"""Renew tests/nbref: each notebook, or those named, executed at profile smoke in a store of its own. Run by `make nbref`."""

import os
import sys
import tempfile
from pathlib import Path

import nbformat

from tests import arithmetic

TRAIN_CONVOLUTIONS = {"multi_distillation"}
NBREF = Path(__file__).with_name("nbref")


def renew(names: list[str]) -> int:
    from vitlib.spec import require
    from vitlib.studies.headless.batch import notebooks, run_notebook

    known, failed = notebooks(), 0
    for name in names:
        require("notebook", name, known)
    for name in names or known:
        receipt = run_notebook(known[name], {"profile": "smoke"}, folder=NBREF)
        (NBREF / "receipt.json").unlink()
        print(f"{name}.ipynb: {receipt.status} {receipt.error}")
        failed += receipt.status != "done"
        finish(NBREF / f"{name}.ipynb")
    return failed


def finish(path: Path) -> None:
    """nbval does not compare pictures; figures are compared by their data in tests/report/test_figures.py."""
    notebook = nbformat.read(path, as_version=4)
    if path.stem in TRAIN_CONVOLUTIONS:
        notebook.metadata[arithmetic.KEY] = arithmetic.convolutions()
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            output.get("data", {}).pop("image/png", None)
    nbformat.write(notebook, path)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {"VITLIB_RESULTS": f"{folder}/results", "VITLIB_FIGURES": f"{folder}/figures"}
        sys.exit(renew(sys.argv[1:]))
