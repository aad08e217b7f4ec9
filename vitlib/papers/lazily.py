"""What a document shows is loaded when somebody asks for it: drawing takes half a second to import, and computing does without."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from typing import Any


def shown_by(package: str, *modules: str) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """`__getattr__` and `__dir__` of a package that has the public names of some of its modules too, all loaded at the first one."""
    own, loading = vars(sys.modules[package]), list(modules)

    def load() -> None:
        while loading:
            module = importlib.import_module(f"{package}.{loading.pop(0)}")
            own.update((name, value) for name, value in vars(module).items() if not name.startswith("_"))

    def attribute(name: str) -> Any:
        if not name.startswith("__"):
            load()
        if name not in own:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return own[name]

    def names() -> list[str]:
        load()
        return sorted(own)

    return attribute, names
