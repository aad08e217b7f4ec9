"""What lies in a document's folder of artefacts, and who wrote the code: read from files alone."""

from __future__ import annotations

import hashlib
import importlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vitlib import paths
from vitlib.grid.entries import read_entry, studies
from vitlib.messages import brief
from vitlib.runs.manifest import StoreError
from vitlib.spec import SpecError, require
from vitlib.studies.headless import receipts
from vitlib.studies.headless.receipts import RECEIPT

CITATION = "CITATION.cff"
NOTEBOOK = re.compile(r"\w[\w-]*\.ipynb")
FIELDS = {"notebook": str, "status": str, "commit": str, "source_sha256": str, "parameters": dict, "seconds": int | float}
KINDS = {
    ".csv": ("table of numbers", "text/csv"),
    ".md": ("table as it is read", "text/markdown"),
    ".png": ("figure", "image/png"),
    ".pdf": ("figure", "application/pdf"),
    ".ipynb": ("executed notebook", "application/x-ipynb+json"),
    ".json": ("record", "application/json"),
    ".xz": ("stored runs", "application/x-xz"),
}


@dataclass(frozen=True)
class Artefacts:
    """A folder of artefacts.

    Attributes:
        receipt: what became of its notebook; None where the folder comes from no notebook, or that did not finish.
    """

    document: str
    folder: Path
    receipt: dict[str, Any] | None

    @property
    def files(self) -> list[Path]:
        found = sorted(path for path in self.folder.iterdir() if path.is_file() and not path.name.startswith("."))
        if links := [path for path in found if path.is_symlink()]:
            raise StoreError(f"artefacts: {links[0]} is a link to {links[0].readlink()}; a crate holds files of its own folder alone")
        return found

    @property
    def source(self) -> Path | None:
        """The notebook as it was executed, if it still lies in the checkout unchanged."""
        if self.receipt is None:
            return None
        path = paths.root() / "notebooks" / self.receipt["notebook"]
        return path if path.is_file() and digest(path) == self.receipt["source_sha256"] else None


def found(documents: list[str], profile: str, figures_dir: Path) -> list[Artefacts]:
    """The folders of a profile, all of them where no document is named.

    Raises:
        SpecError: for a document or profile without artefacts.
        StoreError: for a receipt that cannot be read.
    """
    folders = {path.parent.name: path for path in sorted(figures_dir.glob(f"*/{profile}")) if path.is_dir() and any(path.iterdir())}
    if not folders:
        require("profile", profile, sorted({path.name for path in figures_dir.glob("*/*") if path.is_dir()}))
    for name in documents:
        require("document", name, folders)
    return [Artefacts(name, path, _receipt(path)) for name, path in folders.items() if name in documents or not documents]


def _receipt(folder: Path) -> dict[str, Any] | None:
    path = folder / RECEIPT
    if not path.exists():
        return None
    read = receipts.read(folder)
    if read is None or not read.keys() >= FIELDS.keys() or any(not isinstance(read[name], kind) for name, kind in FIELDS.items()):
        raise StoreError(f"receipt: {path} cannot be read; run the notebook again")
    if not NOTEBOOK.fullmatch(read["notebook"]):
        raise StoreError(f"receipt: {path} names {brief(read['notebook'])}; allowed: the name of a notebook, such as deit.ipynb")
    return read


def cited() -> dict[str, Any]:
    """CITATION.cff of the checkout.

    Raises:
        SpecError: where there is none.
    """
    import yaml

    path = paths.root() / CITATION
    if not path.is_file():
        raise SpecError(f"{CITATION}: none in {path.parent}; run this in the checkout of vitlib")
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def described(path: Path, document: str) -> dict[str, Any]:
    """Properties of a file: what it is, what it shows, its type, size and checksum."""
    kind, media_type = KINDS.get(path.suffix, ("file", "application/octet-stream"))
    return {
        "name": path.name,
        "description": _caption(path, document) or kind,
        "encodingFormat": media_type,
        "contentSize": str(path.stat().st_size),
        "sha256": digest(path),
    }


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def title(document: str) -> str:
    """Of the document that a folder is about, or the folder's name."""
    return read_entry(document)["title"] if document in studies() else document.replace("_", " ")


def parameters(artefacts: Artefacts) -> dict[str, str]:
    """What the notebook was executed with, beyond its own defaults, as text."""
    given = artefacts.receipt["parameters"] if artefacts.receipt else {}
    return {name: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False) for name, value in given.items()}


def _caption(path: Path, document: str) -> str:
    """The first paragraph of what draws a figure or makes a table."""
    module = importlib.import_module(f"vitlib.papers.{document}") if document in studies() else None
    return " ".join((getattr(getattr(module, path.stem, None), "__doc__", None) or "").partition("\n\n")[0].split())
