"""Links of Markdown, from the checkout to the site: pages, files to download, sources as pages; what is not there becomes plain text."""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Callable
from pathlib import Path

LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)")
PAGES = {".md", ".ipynb"}
TO_DOWNLOAD = {".csv", ".pdf", ".png", ".xz"}
FRONT, INDEX = "README.md", "index.md"  # the checkout's first page is the site's
Wanted = Callable[[str], None]


def rewritten(text: str, page: str, root: Path, notebooks: dict[str, str], wanted: Wanted) -> str:
    """The text of a page with its relative links as the site has them.

    Args:
        page: path of the page in the checkout, where relative links start.
        notebooks: path of the executed copy of each notebook's source.
        wanted: told what the links lead to, by its path in the checkout.
    """

    def one(link: re.Match) -> str:
        image, label, target = link.groups()
        place, mark, part = target.partition("#")
        if re.match(r"[a-z]+:", target) or not place:
            return link[0]
        path = posixpath.normpath(posixpath.join(posixpath.dirname(page), place))
        path = notebooks.get(path, path)
        if path.startswith("..") or not (root / path).is_file():
            return label
        wanted(path)
        shown = path if Path(path).suffix in PAGES | TO_DOWNLOAD else f"{path}.md"
        shown = INDEX if path == FRONT else shown
        return f"{image}[{label}]({_from(page, shown)}{mark}{part})"

    return _outside_code(text, lambda prose: LINK.sub(one, prose))


def _from(page: str, path: str) -> str:
    return Path(os.path.relpath(path, posixpath.dirname(page) or ".")).as_posix()


def _outside_code(text: str, change: Callable[[str], str]) -> str:
    """Fences stay as they are."""
    parts = re.split(r"(^```.*?^```[ ]*$)", text, flags=re.DOTALL | re.MULTILINE)
    return "".join(part if part.startswith("```") else change(part) for part in parts)
