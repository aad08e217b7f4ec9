"""Put committed tables into README.md and docs/, between the marks of their names. Run by `make readme`."""

import re
import subprocess
import tempfile
from collections.abc import Callable
from functools import cache

from tests.support import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SCOREBOARD = "figures/scoreboard/desk/scoreboard.md"
PLACES = {"scoreboard": SCOREBOARD, "quality of teachers": "figures/teachers/micro_cpu/table_quality.md"}
GPUS = 64  # of the plan that the guide shows


@cache
def paper_plan() -> str:
    """`python -m vitlib plan all --profile paper --gpus 64` where nothing is stored and no images are."""
    from vitlib.grid.entries import read_entry, studies
    from vitlib.studies.costs.fleet.machines import Fleet
    from vitlib.studies.costs.fleet.report import assumptions, by_document
    from vitlib.studies.costs.speed.rates import SHIPPED
    from vitlib.studies.loading import load_study

    fleet, rates = Fleet(GPUS), SHIPPED["h100"]
    with tempfile.TemporaryDirectory() as nothing:
        names = [name for name in studies() if "paper" in read_entry(name)["profile"]]
        planned = [load_study(name, "paper", results_dir=nothing, data_dir=nothing) for name in names]
        table = by_document(planned, rates, fleet)
    return f"{table.to_markdown(index=False, disable_numparse=True)}\n\nAssumed: {assumptions(rates, fleet)}.\n"


MADE = {"paper plan": paper_plan}


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
            page = _between(page, name, read(path).rsplit("\n\n", 1)[1].replace("](../../", "](figures/"))
    for name, make in MADE.items():
        if f"<!-- {name} -->" in page:
            page = _between(page, name, make())
    return page


def _between(page: str, name: str, table: str) -> str:
    return re.sub(rf"(?<=<!-- {name} -->\n).*?(?=<!-- /{name} -->)", lambda _: table, page, flags=re.DOTALL)


def renew() -> list[str]:
    """Write the pages whose tables are not those of the checkout; their names."""
    pages = {path: path.read_text(encoding="utf-8") for path in PAGES}
    changed = {path: new for path, page in pages.items() if (new := renewed(page)) != page}
    for path, page in changed.items():
        path.write_text(page, encoding="utf-8")
    return [path.name for path in changed]


if __name__ == "__main__":
    renew()
