"""The sources that Sphinx reads: the checkout's pages in the checkout's folders, so that links between them stay as they are."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from functools import partial
from pathlib import Path

import nbformat

from docs.site import api, links, notebooks
from docs.site.layout import ROOT, executed, sections, title_of

LANGUAGES = {".py": "python", ".toml": "toml", ".cff": "yaml", ".yml": "yaml", ".sh": "bash", ".json": "json"}
ORPHAN = "---\norphan: true\n---\n\n"  # a page that the side bar does not list
BESIDE = {
    "scoreboard": {"figure_claims": "Every claim of the documents: measured difference with its 95 % interval, by verdict"}
}  # of a table


class Sources:
    """Pages written below `folder`; what they link to follows, until nothing is wanted any more."""

    def __init__(self, folder: Path, root: Path = ROOT):
        self.folder, self.root = folder, root
        copies = executed(root)
        self.notebooks = {f"notebooks/{copy.notebook}.ipynb": copy.path for copy in reversed(copies)}
        self.sections = sections(copies, [api.INDEX])
        self.beside = {copy.path for copy in copies if copy.profile == "tiny"}
        self._wanted, self._done = [], set()

    def write(self) -> int:
        """Number of pages."""
        modules = api.write(self.folder, self.root)
        there = {*modules, *(page for pages in self.sections.values() for page in pages if (self.root / page).exists())}
        self.sections = {title: [page for page in pages if page in there] for title, pages in self.sections.items()}
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.joinpath(links.INDEX).write_text(self._front(), encoding="utf-8")
        listed = [page for pages in self.sections.values() for page in pages if page not in modules]
        self._wanted += listed
        while self._wanted:
            path = self._wanted.pop(0)
            if path not in self._done and path != links.FRONT:
                self._done.add(path)
                self._page(path, orphan=path not in listed)
        return 1 + len(modules) + len([path for path in self._done if Path(path).suffix not in links.TO_DOWNLOAD])

    def _front(self) -> str:
        trees = [
            f"```{{toctree}}\n:hidden:\n:caption: {title}\n\n" + "\n".join(map(self._entry, pages)) + "\n```"
            for title, pages in self.sections.items()
        ]
        return "\n\n".join([self._prose(self.root.joinpath(links.FRONT).read_text(encoding="utf-8"), links.FRONT), *trees]) + "\n"

    def _entry(self, page: str) -> str:
        """In the side bar: the page's title, and the profile where it stands beside another of that title."""
        return f"{title_of(self.root / page)}, tiny <{page}>" if page in self.beside else page

    def _page(self, path: str, orphan: bool) -> None:
        source, target = self.root / path, self.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.suffix == ".ipynb":
            prose, carried = partial(self._prose, page=path), partial(self._carried, source.parent)
            notebook = notebooks.dressed(nbformat.read(source, as_version=4), prose, carried)
            notebook.cells.append(nbformat.v4.new_markdown_cell(f"{{download}}`This notebook <{self._kept(source)}>`"))
            notebook.metadata |= {"orphan": True} if orphan else {}
            nbformat.write(notebook, target)
        elif source.suffix == ".md":
            figures = BESIDE.get(source.stem, {})
            text = _headed(source, orphan) + source.read_text(encoding="utf-8")
            text += "".join(f"\n![{alt}]({name}.png)\n" for name, alt in figures.items())
            text = self._prose(text, path) + f"\n{self._carried(source.parent, [source.stem, *figures])}\n"
            target.write_text(text, encoding="utf-8")
        elif source.suffix in links.TO_DOWNLOAD:
            shutil.copyfile(source, target)
        else:
            fence, language = "`" * 4, LANGUAGES.get(source.suffix, "text")
            text = f"{ORPHAN}# {path}\n\n{fence}{language}\n{source.read_text(encoding='utf-8')}\n{fence}\n"
            target.with_name(f"{target.name}.md").write_text(text, encoding="utf-8")

    def _prose(self, text: str, page: str) -> str:
        return _readable(links.rewritten(text, page, self.root, self.notebooks, self._wanted.append))

    def _carried(self, folder: Path, names: Iterable[str]) -> str:
        """A line of links to the files of these artefacts, which are copied beside the page; nothing where there are none."""
        files = notebooks.files(folder, names)
        for path in files:
            shutil.copyfile(path, self.folder / path.relative_to(self.root))
        return notebooks.to_download(files)

    def _kept(self, notebook: Path) -> str:
        """A copy of the notebook that is no page."""
        target = self.folder / "_files" / notebook.parent.name / notebook.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(notebook, target)
        return f"/{target.relative_to(self.folder).as_posix()}"


def _headed(source: Path, orphan: bool) -> str:
    """What stands before a page's text: a heading, which committed tables lack."""
    text = source.read_text(encoding="utf-8")
    heading = "" if any(line.startswith("# ") for line in text.splitlines()) else f"# {title_of(source)}\n\n"
    return (ORPHAN if orphan else "") + heading


def _readable(text: str) -> str:
    """A drawing that only a code host draws is shown as its text."""
    return text.replace("```mermaid\n", "```text\n")


def write(folder: Path, root: Path = ROOT) -> int:
    """All sources below `folder`, anew; number of pages."""
    shutil.rmtree(folder, ignore_errors=True)
    return Sources(folder, root).write()
