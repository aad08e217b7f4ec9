"""An executed notebook as a page: links, alt texts, tables in boxes of their own, and the files of each artefact to download below it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from html import escape
from pathlib import Path
from typing import Any

import nbformat
from bs4 import BeautifulSoup

from vitlib.report.pictures import alt_texts

SAVED = re.compile(r'save_(?:table|figure)\([^\n]*"(\w+)"\)')
SHOWING = re.compile(r"save_(?:table|figure)\(|\bMarkdown\(|\.show\(\)|^show_|\.style\b", re.MULTILINE)
FILES = {".csv": "CSV", ".pdf": "PDF"}


Carried = Callable[[list[str]], str]


def dressed(notebook: nbformat.NotebookNode, prose: Callable[[str], str], carried: Carried) -> nbformat.NotebookNode:
    """The notebook as myst-nb reads it.

    Args:
        prose: what becomes of the text of a Markdown cell.
        carried: a line of Markdown about the files of artefacts of these names, or nothing; it stands below the cell that saves them.
    """
    heading, cells = "", []
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = prose(cell.source)
            heading = next((line.lstrip("# ") for line in reversed(cell.source.splitlines()) if line.startswith("#")), heading)
        elif cell.cell_type == "code":
            _dress(cell, heading, len(cells))
        cells.append(cell)
        if cell.cell_type == "code" and (line := carried(SAVED.findall(cell.source))):
            cells.append(nbformat.v4.new_markdown_cell(line))
    notebook.cells = cells
    return notebook


def files(folder: Path, names: Iterable[str]) -> list[Path]:
    """CSV and PDF of artefacts of these names, as far as they are there."""
    return [path for name in names for suffix in FILES if (path := folder / f"{name}{suffix}").exists()]


def to_download(paths: list[Path]) -> str:
    """A line of links to files beside the page."""
    links = [f"{{download}}`{path.stem}, {FILES[path.suffix]} <{path.name}>`" for path in paths]
    return f"{{.downloads}}\nTo download: {' · '.join(links)}" if links else ""


def _dress(cell: nbformat.NotebookNode, heading: str, number: int) -> None:
    """Alt texts where myst-nb looks for them; tables in boxes; the call that only shows something folded away."""
    if any("image/png" in output.get("data", {}) for output in cell.outputs):
        said = cell.metadata.setdefault("mystnb", {}).setdefault("image", {})
        said.setdefault("alt", " ".join(alt_texts(cell.outputs)) or instead(cell.outputs, heading))
    for place, output in enumerate(cell.outputs):
        if "text/html" in output.get("data", {}):
            output.data["text/html"] = boxed(output.data["text/html"], heading, f"table-{number}-{place}")
    if SHOWING.search(cell.source):
        cell.metadata["tags"] = [*cell.metadata.get("tags", []), "hide-input"]


def instead(outputs: list[dict[str, Any]], heading: str) -> str:
    """For a picture that brings no text of its own: the caption below it, or the heading above."""
    texts = (output.get("data", {}).get("text/markdown", "") for output in outputs)
    caption = " ".join(re.sub(r"[*`$\\{}]", "", "".join(next(filter(None, texts), ""))).split())
    return caption[:300] or f"Figure of the section '{heading}'"


def boxed(html: str, heading: str, name: str) -> str:
    """Each table of an output scrolls in a box of its own, which the keyboard reaches; its caption stands above, as wide as the page."""
    soup = BeautifulSoup(html, "html.parser")
    for number, table in enumerate(soup.find_all("table")):
        del table["border"]
        table["class"] = "dataframe"  # which the theme draws on the page's own ground, dark or light
        box = soup.new_tag("div", attrs={"class": "table-box", "role": "region", "tabindex": "0"})
        if caption := table.find("caption"):
            caption = caption.extract()
            caption.name, caption.attrs = "div", {"class": "table-caption", "id": f"{name}-{number}"}
            table.insert_before(caption)
            box["aria-labelledby"] = caption["id"]
        else:
            box["aria-label"] = f"Table of the section {escape(heading)}, {name}-{number}"
        table.wrap(box)
    return str(soup)
