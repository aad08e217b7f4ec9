"""Put committed tables into the README, between the marks of their names. Run by `make readme`."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
TABLES = {
    "claims": "figures/deit/quick/claims.md",
    "claims of wecolora": "figures/wecolora/quick/claims.md",
    "teachers": "figures/teachers/micro_cpu/table_quality.md",
}


def table(name: str) -> str:
    """The committed table without its stamp."""
    return (ROOT / TABLES[name]).read_text(encoding="utf-8").split("\n\n", 1)[1]


def renewed(readme: str) -> str:
    for name in TABLES:
        readme = re.sub(rf"(?<=<!-- {name} -->\n).*?(?=<!-- /{name} -->)", lambda _, name=name: table(name), readme, flags=re.DOTALL)
    return readme


if __name__ == "__main__":
    path = ROOT / "README.md"
    path.write_text(renewed(path.read_text(encoding="utf-8")), encoding="utf-8")
