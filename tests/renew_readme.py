"""Put committed tables into README.md and docs/, between the marks of their names. Run by `make readme`."""

import posixpath
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SCOREBOARD = "figures/scoreboard/desk/scoreboard.md"
QUALITY = "figures/teachers/micro_cpu/table_quality.md"


def in_the_checkout(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def as_committed(path: str) -> str:
    """The file of the last commit; that of the checkout where there is no repository."""
    shown = subprocess.run(["git", "show", f"HEAD:{path}"], cwd=ROOT, capture_output=True)
    return shown.stdout.decode() if shown.returncode == 0 else in_the_checkout(path)


def renewed(page: str, read: Callable[[str], str] = in_the_checkout) -> str:
    """The page with each table that it has marks for, without its captions."""
    for name, path, written in (("scoreboard", SCOREBOARD, first_screen), ("quality of teachers", QUALITY, str)):
        if f"<!-- {name} -->" in page:
            table = written(read(path).rsplit("\n\n", 1)[1])
            marks = rf"(?<=<!-- {name} -->\n).*?(?=<!-- /{name} -->)"
            page = re.sub(marks, lambda _, table=table: table, page, flags=re.DOTALL)
    return page


def first_screen(table: str) -> str:
    """The scoreboard in four columns: each sentence leads to its table, the first of a document stands after its name."""
    names, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    lines = ["| sentence | document says | ours | verdict |", "|:--|:--|:--|:--|"]
    for row in (dict(zip(names, cells, strict=True)) for cells in rows):
        name = f"**{row['document']}**: " if row["document"] else ""
        sentence = f"{name}[{row['sentence']}]({_from_the_root(row['table'])})"
        lines.append(f"| {sentence} | {row['the document']} | {row['ours']} | {row['verdict']} |")
    return "\n".join(lines) + "\n"


def _from_the_root(link: str) -> str:
    """Where a link of the scoreboard leads, from the checkout's root."""
    target = link.partition("](")[2].removesuffix(")")
    return posixpath.normpath(posixpath.join(posixpath.dirname(SCOREBOARD), target))


if __name__ == "__main__":
    for path in PAGES:
        path.write_text(renewed(path.read_text(encoding="utf-8")), encoding="utf-8")
