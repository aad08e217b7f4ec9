"""The documents and their entries: `entry.toml` (grid, profiles, claims) and `published.csv`, found by name."""

from __future__ import annotations

import pkgutil
import tomllib
from pathlib import Path
from typing import Any

import pandas as pd

FOLDER = Path(__file__).parents[1] / "papers"


def documents() -> list[str]:
    """Names of the documents that vitlib holds: the studies with published numbers."""
    return [name for name in studies() if (FOLDER / name / "published.csv").exists()]


def studies() -> list[str]:
    """The documents, and the study that makes their teachers."""
    return sorted(module.name for module in pkgutil.iter_modules([str(FOLDER)]) if module.ispkg)


def read_entry(paper: str) -> dict[str, Any]:
    """The entry's tables; a profile that is `like` another one is that one with what it changes."""
    entry = tomllib.loads((FOLDER / paper / "entry.toml").read_text(encoding="utf-8"))
    return entry | {"profile": {name: _whole(entry["profile"], name) for name in entry["profile"]}}


def merged(*layers: dict[str, Any]) -> dict[str, Any]:
    """Tables merged key by key, the later layer winning; a null takes away what an earlier layer gives.

    One kind of several, as an `origin` or a model of another kind, replaces the earlier one whole; other images (`source`) leave the
    normalisation of those that they replace.
    """
    result: dict[str, Any] = {}
    for layer in layers:
        for key, value in layer.items():
            if value is None and key in result:
                del result[key]
            elif isinstance(value, dict) and isinstance(result.get(key), dict) and key != "origin" and _of_one_kind(result[key], value):
                result[key] = merged(_kept(result[key], value), value)
            else:
                result[key] = value
    return result


def _whole(profiles: dict[str, Any], name: str) -> dict[str, Any]:
    own = dict(profiles[name])
    return merged(_whole(profiles, own.pop("like")), own) if "like" in own else own


def _kept(earlier: dict[str, Any], later: dict[str, Any]) -> dict[str, Any]:
    other_images = "source" in later and later["source"] != earlier.get("source")
    return {key: value for key, value in earlier.items() if not (other_images and key in ("mean", "std"))}


def _of_one_kind(earlier: dict[str, Any], later: dict[str, Any]) -> bool:
    """Whether both may describe the same kind of model: a Vit or a ResNet by its width, or one of timm by name."""
    kinds = [{"embed_dim", "width", "name"} & table.keys() for table in (earlier, later)]
    return not all(kinds) or kinds[0] == kinds[1]


def published(paper: str, table: str) -> pd.DataFrame:
    """The document's rows for a table."""
    frame = pd.read_csv(FOLDER / paper / "published.csv")
    return frame[frame["table"] == table].reset_index(drop=True)
