"""Where a result came from: versions, commit, device, and a fingerprint of the code that computed it. Imports no torch."""

from __future__ import annotations

import ast
import hashlib
import platform
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from vitlib.computing import module_of
from vitlib.spec import RunSpec

ROOT = Path(__file__).parents[1]
PACKAGES = ("torch", "torchvision", "timm", "numpy", "pandas", "scikit-learn")


def facts(cls: type[RunSpec], device: str) -> dict[str, str | dict[str, str]]:
    """Everything that can be said about a computation from outside it, before it begins."""
    return {
        "commit": commit(),
        "code": code_fingerprint(cls),
        "device": device_name(device),
        "python": platform.python_version(),
        "versions": {name: installed for name in PACKAGES if (installed := _version(name))},
    }


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


@cache
def commit() -> str:
    """Short commit of the checkout, '+' when it holds uncommitted changes, 'unknown' outside a checkout."""
    try:
        short = _git("rev-parse", "--short", "HEAD")
        return short + ("+" if _git("status", "--porcelain", "--", ".") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def device_name(device: str) -> str:
    if device.startswith("cuda"):
        import torch

        return torch.cuda.get_device_name(device)
    return f"{platform.machine()} CPU"


@cache
def code_fingerprint(cls: type[RunSpec]) -> str:
    """SHA-256 over the vitlib modules that describe and compute the runs of a class, and all that these import.

    Comments, docstrings and layout are left out.
    """
    digest = hashlib.sha256()
    for name in sorted(_closure(cls.__module__, module_of(cls))):
        digest.update(f"{name}\n{_read(name)[1]}\n".encode())
    return digest.hexdigest()[:16]


def _closure(*modules: str) -> set[str]:
    """The modules and those of vitlib that they need; report/ only shows results and is left out."""
    seen, todo = set(), [name for name in modules if _source(name)]
    while todo:
        name = todo.pop()
        if name not in seen and not name.startswith("vitlib.report"):
            seen.add(name)
            todo += _read(name)[0]
    return seen


@cache
def _read(module: str) -> tuple[tuple[str, ...], str]:
    """The vitlib modules that a module imports, and what it says but for its docstrings, as text."""
    tree = ast.parse(_source(module).read_text(encoding="utf-8"))
    imports = []
    for statement in _statements(tree):
        if isinstance(statement, ast.ImportFrom) and (statement.module or "").startswith("vitlib"):
            inner = [f"{statement.module}.{alias.name}" for alias in statement.names]
            imports += [name for name in inner if _source(name)] or [statement.module]
        body = getattr(statement, "body", None)
        if body and isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
            body[0] = ast.Pass()
    return tuple(imports), repr(_plain(tree))


def _statements(tree: ast.AST) -> Iterator[ast.AST]:
    """A syntax tree and all statements in it; what they compute is passed over."""
    yield tree
    for name in ("body", "handlers", "orelse", "finalbody", "cases"):
        for inner in getattr(tree, name, ()):
            yield from _statements(inner)


def _plain(node: object) -> object:
    """A syntax tree as tuples, without what is empty or follows from its place: the same in every version of Python."""
    if isinstance(node, list):
        return tuple([_plain(value) for value in node])
    if not isinstance(node, ast.AST):
        return node
    fields = [(name, getattr(node, name, None)) for name in node._fields if name != "ctx"]
    return type(node).__name__, *[(name, _plain(value)) for name, value in fields if value is not None and value != []]


@cache
def _source(module: str) -> Path | None:
    room, *rest = module.split(".")
    base = ROOT.joinpath(*rest)
    candidates = [base.with_suffix(".py"), base / "__init__.py"] if rest else [base / "__init__.py"]
    return next((path for path in candidates if path.is_file()), None) if room == "vitlib" else None


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
