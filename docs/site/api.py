"""The API reference: a page for each folder of vitlib, its modules as sections, from docstrings."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

INDEX = "api/index.rst"


def write(folder: Path, root: Path) -> list[str]:
    """The pages, by their paths below `folder`; the index first."""
    packages = {package: list(_modules(package)) for package in sorted({path.parent for path in root.glob("vitlib/**/*.py")})}
    packages = {package: modules for package, modules in packages.items() if modules}
    (folder / INDEX).parent.mkdir(parents=True, exist_ok=True)
    pages = {package: f"api/{_name(package, root)}.rst" for package in packages}
    for package, modules in packages.items():
        (folder / pages[package]).write_text(_page(package, modules, root), encoding="utf-8")
    (folder / INDEX).write_text(_index(pages, root), encoding="utf-8")
    return [INDEX, *pages.values()]


def escaped(lines: list[str]) -> list[str]:
    """A docstring's lines with what reStructuredText would take for marks, outside code spans, as plain letters."""
    return ["".join(part if part.startswith("`") else _plain(part) for part in re.split(r"(`[^`]*`|:\w+ [^:]*:)", line)) for line in lines]


def _plain(text: str) -> str:
    return re.sub(r"(?<!\\)([*|])|(?<=\w)_(?=\W|$)", lambda found: f"\\{found[0]}", text)


def _modules(package: Path) -> Iterator[Path]:
    """Modules with something public in them; a package's own file counts where it defines something."""
    for path in sorted(package.glob("*.py"), key=lambda path: (path.stem != "__init__", path.stem)):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        public = [node for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")]
        if public and path.stem != "__main__":
            yield path


def _page(package: Path, modules: list[Path], root: Path) -> str:
    title = _name(package, root)
    parts = [_heading(title, "="), _first_line(package / "__init__.py")]
    for path in modules:
        name = title if path.stem == "__init__" else f"{title}.{path.stem}"
        parts += [*([] if name == title else [_heading(name, "-")]), f".. automodule:: {name}\n   :members:"]
    return "\n\n".join(parts) + "\n"


def _index(pages: dict[Path, str], root: Path) -> str:
    rows = [f"* :doc:`{_name(package, root)}`: {_first_line(package / '__init__.py')}" for package in pages]
    tree = ".. toctree::\n   :hidden:\n\n" + "\n".join(f"   {_name(package, root)}" for package in pages)
    said = "What each folder of the library offers, from its docstrings. Rooms import downwards only: see the architecture."
    return "\n\n".join([_heading("API reference", "="), said, "\n".join(rows), tree]) + "\n"


def _first_line(path: Path) -> str:
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) if path.exists() else ""
    return escaped([(text or "").partition("\n\n")[0].replace("\n", " ")])[0]


def _heading(text: str, mark: str) -> str:
    return f"{text}\n{mark * len(text)}"


def _name(package: Path, root: Path) -> str:
    return ".".join(package.relative_to(root).parts)
