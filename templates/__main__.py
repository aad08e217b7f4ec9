"""`make new-paper NAME=x`: a document to start from, as a folder and a notebook that pass every test as they are.

What lies in `paper/` is written into `vitlib/papers/x` and `notebooks/x.ipynb`, with the name in place of `paper_name`, `PaperName` and
`Paper name`; then the notebook is executed at profile smoke into tests/nbref. No existing file is touched.
"""

from __future__ import annotations

import ast
import builtins
import keyword
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import nbformat

from vitlib.messages import brief
from vitlib.spec import SpecError

ROOT = Path(__file__).parents[1]
TEMPLATE = Path(__file__).with_name("paper")
NOTEBOOK = "notebook.ipynb"
WORDS = {*keyword.kwlist, *keyword.softkwlist, *dir(builtins)}
NAMED = ("vitlib", "vitlib/papers", "tests", "tests/nbref", "notebooks", "figures")  # folders in which a document's name means something
LONGEST = 40  # characters of a name, so that lines with it stay short


def main(arguments: list[str]) -> int:
    """Exit status: 0 done, 1 the notebook failed, 2 the name was refused; unless it is done, nothing is left."""
    try:
        written = new_paper(" ".join(arguments))
    except SpecError as error:
        print(f"refused: {error}", file=sys.stderr)
        return 2
    except subprocess.CalledProcessError:
        print("new-paper: its notebook did not run, as said above; nothing is left of it", file=sys.stderr)
        return 1
    for path in written:
        print(path.relative_to(ROOT))
    print("new-paper: make it yours as CONTRIBUTING.md says; `rm -r` of these three takes it away")
    return 0


def new_paper(name: str) -> list[Path]:
    """Write a document and the executed copy of its notebook, or nothing; the folder and the two files.

    Raises:
        SpecError: for a name that no document can have, before anything is written.
        CalledProcessError: where the notebook fails.
    """
    require_free(name)
    folder, notebook, copy = places(name)
    folder.mkdir()
    with ExitStack() as undo:
        for place in (folder, notebook, copy):
            undo.callback(_remove, place)
        for template in _files():
            target = notebook if template.name == NOTEBOOK else folder / template.name
            target.write_text(filled(template.read_text(encoding="utf-8"), name), encoding="utf-8")
        subprocess.run([sys.executable, "-m", "tests.renew_nbref", name], cwd=ROOT, check=True)
        undo.pop_all()
    return [folder, notebook, copy]


def places(name: str) -> tuple[Path, Path, Path]:
    """Where a document lies: its folder, its notebook, and the executed copy that nbval repeats."""
    return ROOT / "vitlib" / "papers" / name, ROOT / "notebooks" / f"{name}.ipynb", ROOT / "tests" / "nbref" / f"{name}.ipynb"


def filled(text: str, name: str) -> str:
    """A text of the template with the document's name in the three forms of the placeholder."""
    words = name.split("_")
    forms = {"paper_name": name, "PaperName": "".join(map(str.capitalize, words)), "Paper name": " ".join(words).capitalize()}
    return re.sub("|".join(forms), lambda found: forms[found[0]], text)


def require_free(name: str) -> None:
    """Refuse a name that Python, the notebook or the house has another use for.

    Raises:
        SpecError: saying which.
    """
    allowed = f"allowed: lower-case words joined by underscores, at most {LONGEST} characters, for instance label_smoothing"
    if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", name) or len(name) > LONGEST:
        raise SpecError(f"NAME: got {brief(name)}; {allowed}")
    if name in WORDS:
        raise SpecError(f"NAME: got {brief(name)}, which is a word of Python; {allowed}")
    if name in _names_in_the_notebook():
        raise SpecError(f"NAME: got {brief(name)}, which the notebook calls something else; {allowed}")
    for path in _named():
        if path.stem.replace("_", "") == name.replace("_", ""):
            raise SpecError(f"NAME: got {brief(name)}, but {path.relative_to(ROOT)} is there; allowed: a name that nothing there has")


def _files() -> list[Path]:
    return sorted(path for path in TEMPLATE.iterdir() if path.is_file())


def _named() -> Iterator[Path]:
    for folder in NAMED:
        yield from sorted((ROOT / folder).iterdir())


def _names_in_the_notebook() -> set[str]:
    """What the cells import or assign."""
    cells = nbformat.read(TEMPLATE / NOTEBOOK, as_version=4).cells
    nodes = [node for cell in cells if cell.cell_type == "code" for node in ast.walk(ast.parse(cell.source))]
    imported = {alias.name.partition(".")[0] for node in nodes if isinstance(node, ast.Import | ast.ImportFrom) for alias in node.names}
    return imported | {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
