"""Which pages there are, in the order of the side bar; everything else gets a page only where one of these links to it."""

from __future__ import annotations

import importlib.metadata
import json
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
BY_PREFERENCE = ("desk", "quick", "tiny")  # whose executed copy is a document's page; others stand below it
SCOREBOARD = ("figures/scoreboard/desk/scoreboard.md", "figures/scoreboard/desk/all_claims.md")
GUIDES = (
    "first_steps", "exploring", "your_model", "own_images", "profiles", "store", "gpu", "imagenet", "cluster", "ray",
    "when_something_goes_wrong", "reliability", "add_a_document",
)  # fmt: skip
BACKGROUND = ("claims", "teachers", "architecture", "licences")
PROJECT = ("REPRODUCING.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "benchmarks/README.md")

MATHJAX = "sphinx-mathjax-offline", "tex-svg.js"  # the package that carries MathJax, and its file without fonts: it works from disk


@dataclass(frozen=True)
class Copy:
    """An executed notebook of figures/, by its path in the checkout."""

    path: str
    notebook: str
    profile: str


def executed(root: Path = ROOT) -> list[Copy]:
    """One a notebook, at `desk` where it has that profile; those at `tiny` beside it. The overview first."""
    copies = [Copy(path.relative_to(root).as_posix(), path.stem, path.parent.name) for path in sorted(root.glob("figures/*/*/*.ipynb"))]
    found = []
    for name in sorted({copy.notebook for copy in copies}, key=lambda name: (name != "overview", name == "your_model", name)):
        at = {copy.profile: copy for copy in copies if copy.notebook == name}
        first = next((profile for profile in BY_PREFERENCE if profile in at), None)
        found += [at[profile] for profile in dict.fromkeys([first, "tiny"]) if profile in at]
    return found


def sections(copies: list[Copy], api: list[str]) -> dict[str, list[str]]:
    """Pages of the side bar under their headings, as paths in the checkout, those of the `api` as it is written."""
    guides, background = ([f"docs/{name}.md" for name in names] for names in (GUIDES, BACKGROUND))
    return {
        "Results": [*SCOREBOARD, *(copy.path for copy in copies)],
        "Guides": guides,
        "Background": background,
        "Reference": api,
        "Project": list(PROJECT),
    }


def title_of(path: Path) -> str:
    """A page's first heading; a committed table, which has none, is named by its file, document and profile."""
    if path.suffix == ".ipynb":
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        lines = [line for cell in cells if cell["cell_type"] == "markdown" for line in "".join(cell["source"]).splitlines()]
    else:
        lines = path.read_text(encoding="utf-8").splitlines()
    headings = [line[2:].strip() for line in lines if line.startswith("# ")]
    document, profile = path.parts[-3:-1]
    name = path.stem.replace("_", " ").capitalize()
    return headings[0] if headings else name if document == "scoreboard" else f"{name} ({document}, {profile})"


def mathjax() -> Path:
    """The file of MathJax that an installed package carries."""
    package, name = MATHJAX
    return next(Path(file.locate()) for file in importlib.metadata.files(package) if file.name == name)
