"""The networks in a checkpoint: which containers hold tensors by name, and what stands before the names.

`networks` offers every reading of a file; which of them is the architecture, `fitting` decides by the names.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vitlib.inputs.checkpoints.reading import Foreign

if TYPE_CHECKING:
    from torch import Tensor

DEEPEST = 4
WITHIN = re.compile(r"(?<=\.)(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")  # of blocks compiled or sharded one by one
WRAPPERS = {
    "module", "_orig_mod", "model", "backbone", "encoder", "net", "network", "student", "teacher", "vit", "visual", "trunk",
    "base_encoder", "encoder_q",
}  # fmt: skip


@dataclass(frozen=True)
class Network:
    """One reading of a checkpoint.

    Args:
        container: keys that lead to it, dotted; empty for the file itself.
        prefix: what stands before each name, with its dot.
        tensors: what is left by name, wrappers of single blocks undone too.
        beside: full names in the same container that do not begin with the prefix.
    """

    container: str
    prefix: str
    tensors: dict[str, Tensor]
    beside: tuple[str, ...]

    @property
    def label(self) -> str:
        return f"{self.container}.{self.prefix}".strip(".")

    @property
    def steps(self) -> list[str]:
        return self.label.split(".")


def networks(content: Any, names: Iterable[str]) -> list[Network]:
    """Every table of tensors in the content, with and without each prefix that the wanted names, or wrappers, suggest."""
    wanted = set(names)
    return [_without(prefix, container, table) for container, table in tables(content) for prefix in _prefixes(table, wanted)]


def tables(content: Any, container: str = "", depth: int = 0) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Tables of tensors by name, with the keys that lead to each; a list of (name, tensor) pairs is one too.

    A container that stands in several others is taken where it is met first: ten of ten of ten are not a thousand.
    """
    yield from _tables(content, container, depth, set())


def _tables(content: Any, container: str, depth: int, seen: set[int]) -> Iterator[tuple[str, dict[str, Tensor]]]:
    import torch

    items = {} if id(content) in seen else _items(content)
    seen.add(id(content))
    tensors = {name: value for name, value in items.items() if isinstance(value, torch.Tensor)}
    if tensors:
        yield container, tensors
    if depth < DEEPEST:
        for key, value in items.items():
            if not isinstance(value, torch.Tensor):
                yield from _tables(value, f"{container}.{key}".lstrip("."), depth + 1, seen)


def described(content: Any) -> str:
    """What a file without a single table of tensors holds instead, in some words."""
    import torch

    if isinstance(content, torch.Tensor):
        return "one tensor without a name"
    if isinstance(content, Foreign):
        return f"a whole object of {type(content).__name__}"
    if isinstance(content, list | tuple) and any(isinstance(item, torch.Tensor) for item in content):
        return f"{len(content)} tensors without names"
    items = _items(content)
    whole = next((f"a whole object of {type(value).__name__} in {key!r}" for key, value in items.items() if isinstance(value, Foreign)), "")
    if whole or not items:
        return whole or f"{type(content).__name__} without tensors"
    return f"{', '.join(map(repr, list(items)[:4]))} without tensors"


def _items(content: Any) -> dict[str, Any]:
    if isinstance(content, Mapping):
        return {key: value for key, value in content.items() if isinstance(key, str)}
    if isinstance(content, list | tuple) and all(isinstance(item, list | tuple) and len(item) == 2 for item in content):
        return {name: value for name, value in content if isinstance(name, str)}
    return {}


def _prefixes(table: dict[str, Tensor], wanted: set[str]) -> list[str]:
    """None, those before at least half of the wanted names, and chains of wrappers' names; shortest first."""
    counts: Counter[str] = Counter()
    chains = set()
    for name in table:
        steps = name.split(".")
        counts.update(".".join(steps[:cut]) for cut in range(1, len(steps)) if WITHIN.sub("", ".".join(steps[cut:])) in wanted)
        wrappers = next(cut for cut, step in enumerate([*steps, ""]) if step not in WRAPPERS)
        chains |= {".".join(steps[:cut]) for cut in range(1, wrappers + 1)}
    found = {prefix for prefix, count in counts.items() if 2 * count >= len(wanted)} | chains
    return ["", *(f"{prefix}." for prefix in sorted(found, key=lambda prefix: (len(prefix), prefix)))]


def _without(prefix: str, container: str, table: dict[str, Tensor]) -> Network:
    inside = {WITHIN.sub("", name.removeprefix(prefix)): tensor for name, tensor in table.items() if name.startswith(prefix)}
    return Network(container, prefix, inside, tuple(name for name in table if not name.startswith(prefix)))
