"""The executed copy of a notebook: what a reader sees stays, what changes from run to run goes, links lead on, and it is signed.

Alt texts are put where both nbconvert and myst-nb read them. Progress lines go, and so do live widgets: without their kernel they are
dead, and the still picture before each stays.
"""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path

import nbformat
from nbformat.sign import NotebookNotary

from vitlib import durable
from vitlib.report.pictures import alt_texts
from vitlib.runs.clock.progress import PREFIX as PROGRESS

WIDGET = "application/vnd.jupyter.widget-view+json"
log = logging.getLogger("vitlib")


def finish(source: Path, target: Path) -> None:
    """Tidy the copy at `target`.

    Raises:
        RuntimeError: for a cell that was not executed; the copy is then left as it is.
    """
    notebook = nbformat.read(target, as_version=4)
    for position, cell in enumerate(notebook.cells):
        cell.metadata = {key: value for key, value in cell.metadata.items() if key == "tags"}
        if cell.cell_type == "markdown":
            cell.source = links_from(target.parent, source.parent, cell.source)
        elif cell.cell_type == "code":
            if cell.source.strip() and cell.execution_count is None:
                raise RuntimeError(f"cell {position} was not executed")
            executed = cell.outputs if cell.source.strip() else []  # an empty cell is passed over: what lies below it is another's
            cell.outputs = [output for output in executed if not (_is_widget(output) or _is_progress(output))]
            if texts := alt_texts(cell.outputs):
                cell.metadata["mystnb"] = {"image": {"alt": " ".join(texts)}}  # where myst-nb looks for it
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook.metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
    with durable.whole(target) as aside:
        nbformat.write(notebook, aside)
    _sign(notebook, target)


def links_from(folder: Path, before: Path, text: str) -> str:
    """Relative links of Markdown that were written in the folder `before`, as they read from `folder`."""

    def moved(link: re.Match) -> str:
        return f"]({Path(os.path.relpath(before / link[1], folder)).as_posix()})"

    return re.sub(r"\]\((\.\.?/[^)\s]*)\)", moved, text)


def _sign(notebook: nbformat.NotebookNode, target: Path) -> None:
    try:
        NotebookNotary().sign(notebook)
    except OSError as error:  # its secret lies in the home folder
        log.warning("%s is not signed (%s): JupyterLab asks whether to trust it; its results stand", target.name, error)


def _is_widget(output: nbformat.NotebookNode) -> bool:
    return WIDGET in output.get("data", {})


def _is_progress(output: nbformat.NotebookNode) -> bool:
    return output.get("name") == "stderr" and all(line.startswith(PROGRESS) for line in output.text.splitlines())
