"""Draw the rooms of vitlib from their imports into CONTRIBUTING.md, between the marks `house`. Run by `make readme`."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "CONTRIBUTING.md"
FRONT = {"__init__", "__main__"}  # what notebooks and the command line enter by: no rooms


def rooms(package: Path = ROOT / "vitlib") -> dict[str, set[str]]:
    """Each room, a folder or a module of its own, and the rooms that it imports, inside functions and for type checkers too."""
    names = {path.relative_to(package).parts[0].removesuffix(".py") for path in package.rglob("*.py")} - FRONT
    found: dict[str, set[str]] = {name: set() for name in sorted(names)}
    for path in package.rglob("*.py"):
        if (room := path.relative_to(package).parts[0].removesuffix(".py")) in found:
            found[room] |= _imported(path, package.name) & names - {room}
    return found


def reduced(imports: dict[str, set[str]]) -> dict[str, set[str]]:
    """The imports but for those that follow from others: a room's are those that none of its other ones reaches (transitive reduction)."""
    following = {room: set().union(*(reached(imports, name) for name in direct)) for room, direct in imports.items()}
    return {room: direct - following[room] for room, direct in imports.items()}


def reached(imports: dict[str, set[str]], room: str) -> set[str]:
    """All that a room imports, and what that imports, and so on."""
    found, todo = set(), [room]
    while todo:
        new = imports[todo.pop()] - found
        found |= new
        todo += new
    return found


def drawing(imports: dict[str, set[str]]) -> str:
    """A Mermaid diagram: an arrow points at what is imported; arrows that follow from others are left out."""
    arrows = [f"    {room} --> {name}" for room, names in reduced(imports).items() for name in sorted(names)]
    return "\n".join(["```mermaid", "flowchart TD", *arrows, "```", ""])


def renewed(page: str) -> str:
    """The page with the drawing of today's imports."""
    return re.sub(r"(?<=<!-- house -->\n).*?(?=<!-- /house -->)", lambda _: drawing(rooms()), page, flags=re.DOTALL)


def _imported(path: Path, package: str) -> set[str]:
    """The rooms that a file imports from."""
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [f"{node.module}.{alias.name}" for node in nodes if isinstance(node, ast.ImportFrom) for alias in node.names]
    return {name.split(".")[1] for name in names if name.startswith(f"{package}.")}


if __name__ == "__main__":
    PAGE.write_text(renewed(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
