"""Put committed tables into the README, between the marks of their names. Run by `make readme`."""

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[1]
PLACES = {"claims": "quick/claims.md", "quality": "micro_cpu/table_quality.md"}  # <!-- claims of deit --> and so on


def in_the_checkout(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def as_committed(path: str) -> str:
    """The file of the last commit; that of the checkout where there is no repository."""
    shown = subprocess.run(["git", "show", f"HEAD:{path}"], cwd=ROOT, capture_output=True)
    return shown.stdout.decode() if shown.returncode == 0 else in_the_checkout(path)


def renewed(readme: str, read: Callable[[str], str] = in_the_checkout) -> str:
    """The README with each table, without its captions."""
    for what, study in re.findall(r"<!-- (claims|quality) of (\w+) -->", readme):
        table = read(f"figures/{study}/{PLACES[what]}").rsplit("\n\n", 1)[1]
        marks = rf"(?<=<!-- {what} of {study} -->\n).*?(?=<!-- /{what} of {study} -->)"
        readme = re.sub(marks, lambda _, table=table: table, readme, flags=re.DOTALL)
    return readme


if __name__ == "__main__":
    path = ROOT / "README.md"
    path.write_text(renewed(path.read_text(encoding="utf-8")), encoding="utf-8")
