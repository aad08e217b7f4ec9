"""Receipts of executed notebooks: what became of each, with checksums of what it left and of the receipt itself."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from vitlib import durable
from vitlib.runs.manifest import content_of, digest_of, json_table, taken_from

RECEIPT = "receipt.json"


@dataclass
class Receipt:
    """What became of one notebook; written last, so that its absence means it did not finish.

    Attributes:
        files: SHA-256 of what lay in its folder then, by name: the executed copy, tables, figures and the archive of results.
    """

    notebook: str
    status: str
    seconds: float
    commit: str
    source_sha256: str
    parameters: dict[str, Any] = field(default_factory=dict)
    error: str = ""
    ended: str = ""  # when, in UTC
    files: dict[str, str] = field(default_factory=dict)


def digests(paths: Iterable[Path]) -> dict[str, str]:
    """SHA-256 of files by name; receipts, hidden files and folders are passed over."""
    plain = (path for path in sorted(paths) if path.name != RECEIPT and not path.name.startswith(".") and path.is_file())
    return {path.name: taken_from(path, digest_of) or "" for path in plain}


def write(folder: Path, receipt: Receipt) -> None:
    content = asdict(receipt)
    with durable.whole(folder / RECEIPT) as file:
        file.write_text(json.dumps(content | {"sha256": _digest(content)}, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def read(folder: Path) -> dict[str, Any] | None:
    """The fields of a receipt, of one from before receipts had a checksum too; None where it is damaged, or there is none."""
    found = json_table(content_of(folder / RECEIPT) or b"")
    return None if found is None or found.pop("sha256", None) not in (None, _digest(found)) else found


def changed(folder: Path, receipt: dict[str, Any]) -> list[str]:
    """Files that are not as the notebook left them."""
    left = receipt.get("files")
    return [name for name, digest in left.items() if digests([folder / name]).get(name) != digest] if isinstance(left, dict) else []


def _digest(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
