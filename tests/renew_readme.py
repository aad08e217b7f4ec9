"""Put committed tables into README.md and docs/, between the marks of their names. Run by `make readme`."""

import re
import subprocess
from collections.abc import Callable

from tests.support import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SCOREBOARD = "figures/scoreboard/desk/scoreboard.md"
PLACES = {"scoreboard": SCOREBOARD, "quality of teachers": "figures/teachers/micro_cpu/table_quality.md"}


def in_the_checkout(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def as_committed(path: str) -> str:
    """The file of the last commit; that of the checkout where there is no repository."""
    shown = subprocess.run(["git", "show", f"HEAD:{path}"], cwd=ROOT, capture_output=True)
    return shown.stdout.decode() if shown.returncode == 0 else in_the_checkout(path)


def renewed(page: str, read: Callable[[str], str] = in_the_checkout) -> str:
    """The page with each table that it has marks for, without its captions; links of the scoreboard start at the checkout's root."""
    for name, path in PLACES.items():
        if f"<!-- {name} -->" in page:
            table = read(path).rsplit("\n\n", 1)[1].replace("](../../", "](figures/")
            page = re.sub(rf"(?<=<!-- {name} -->\n).*?(?=<!-- /{name} -->)", lambda _, table=table: table, page, flags=re.DOTALL)
    return page


def renew() -> list[str]:
    """Write the pages whose tables are not those of the checkout; their names."""
    pages = {path: path.read_text(encoding="utf-8") for path in PAGES}
    changed = {path: new for path, page in pages.items() if (new := renewed(page)) != page}
    for path, page in changed.items():
        path.write_text(page, encoding="utf-8")
    return [path.name for path in changed]


if __name__ == "__main__":
    renew()
