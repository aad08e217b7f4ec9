"""The sources that Sphinx reads: the checkout's pages in the checkout's folders, so that links between them stay as they are."""

from __future__ import annotations

import shutil
from pathlib import Path

import nbformat

from docs.site import api, links, notebooks
from docs.site.layout import ROOT, executed, sections, title_of

LANGUAGES = {".py": "python", ".toml": "toml", ".cff": "yaml", ".yml": "yaml", ".sh": "bash", ".json": "json"}


class Sources:
    """Pages written below `folder`; what they link to follows, until nothing is wanted any more."""

    def __init__(self, folder: Path, root: Path = ROOT):
        self.folder, self.root = folder, root
        copies = executed(root)
        self.notebooks = {f"notebooks/{copy.notebook}.ipynb": copy.path for copy in reversed(copies)}
        self.sections = sections(copies, [api.INDEX])
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
        trees = [f"```{{toctree}}\n:hidden:\n:caption: {title}\n\n" + "\n".join(pages) + "\n```" for title, pages in self.sections.items()]
        return "\n\n".join([self._prose(self.root.joinpath(links.FRONT).read_text(encoding="utf-8"), links.FRONT), *trees]) + "\n"

    def _page(self, path: str, orphan: bool) -> None:
        source, target = self.root / path, self.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.suffix == ".ipynb":
            notebook = notebooks.dressed(nbformat.read(source, as_version=4), source.parent, lambda text: self._prose(text, path))
            self._carry(source)
            notebook.cells.append(nbformat.v4.new_markdown_cell(f"{{download}}`This notebook <{self._kept(source)}>`"))
            notebook.metadata |= {"orphan": True} if orphan else {}
            nbformat.write(notebook, target)
        elif source.suffix == ".md":
            text = self._prose(source.read_text(encoding="utf-8"), path)
            target.write_text(_headed(text, source, orphan) + self._files(source), encoding="utf-8")
        elif source.suffix in links.TO_DOWNLOAD:
            shutil.copyfile(source, target)
        else:
            fence, language = "`" * 4, LANGUAGES.get(source.suffix, "text")
            text = f"{ORPHAN}# {path}\n\n{fence}{language}\n{source.read_text(encoding='utf-8')}\n{fence}\n"
            target.with_name(f"{target.name}.md").write_text(text, encoding="utf-8")

    def _prose(self, text: str, page: str) -> str:
        return _readable(links.rewritten(text, page, self.root, self.notebooks, self._want))

    def _want(self, path: str) -> None:
        self._wanted.append(path)

    def _carry(self, notebook: Path) -> None:
        """The files of a notebook's artefacts, beside its page."""
        for path in [path for suffix in notebooks.FILES for path in notebook.parent.glob(f"*{suffix}")]:
            shutil.copyfile(path, self.folder / path.relative_to(self.root))

    def _kept(self, notebook: Path) -> str:
        """A copy of the notebook that is no page."""
        target = self.folder / "_files" / notebook.parent.name / notebook.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(notebook, target)
        return f"/{target.relative_to(self.folder).as_posix()}"

    def _files(self, page: Path) -> str:
        """Below a committed table, its files; below the scoreboard its figure too."""
        if "figures" not in page.parts[len(self.root.parts) :]:
            return ""
        names = [page.stem, *(["figure_claims"] if page.stem == "scoreboard" else [])]
        found = [path for name in names for path in (page.with_name(f"{name}.csv"), page.with_name(f"{name}.pdf")) if path.exists()]
        for path in found:
            shutil.copyfile(path, self.folder / path.relative_to(self.root))
        shown = ""
        if (picture := page.with_name("figure_claims.png")).exists() and page.stem == "scoreboard":
            shutil.copyfile(picture, self.folder / picture.relative_to(self.root))
            shown = "\n![Every claim of the documents: measured difference with its 95 % interval, by verdict](figure_claims.png)\n"
        return shown + "".join(f"\n- {{download}}`{path.name} <{path.name}>`" for path in found) + "\n"


ORPHAN = "---\norphan: true\n---\n\n"


def _headed(text: str, source: Path, orphan: bool) -> str:
    """With a heading: committed tables have none."""
    heading = "" if any(line.startswith("# ") for line in text.splitlines()) else f"# {title_of(source)}\n\n"
    return (ORPHAN if orphan else "") + heading + text


def _readable(text: str) -> str:
    """A drawing that only a code host draws is shown as its text."""
    return text.replace("```mermaid\n", "```text\n")


def write(folder: Path, root: Path = ROOT) -> int:
    """All sources below `folder`, anew; number of pages."""
    shutil.rmtree(folder, ignore_errors=True)
    return Sources(folder, root).write()
