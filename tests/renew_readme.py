"""Put committed tables into the README, between the marks of their names. Run by `make readme`."""

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[1]
TABLES = {
    "claims": "figures/deit/quick/claims.md",
    "claims of wecolora": "figures/wecolora/quick/claims.md",
    "claims of afr_pruning": "figures/afr_pruning/quick/claims.md",
    "claims of dual_ssl_kd": "figures/dual_ssl_kd/quick/claims.md",
    "claims of multi_distillation": "figures/multi_distillation/quick/claims.md",
    "teachers": "figures/teachers/micro_cpu/table_quality.md",
}


def in_the_checkout(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def as_committed(path: str) -> str:
    """The file of the last commit; that of the checkout where there is no repository."""
    shown = subprocess.run(["git", "show", f"HEAD:{path}"], cwd=ROOT, capture_output=True)
    return shown.stdout.decode() if shown.returncode == 0 else in_the_checkout(path)


def renewed(readme: str, read: Callable[[str], str] = in_the_checkout) -> str:
    """The README with each table, without its captions."""
    for name, path in TABLES.items():
        table = read(path).rsplit("\n\n", 1)[1]
        readme = re.sub(rf"(?<=<!-- {name} -->\n).*?(?=<!-- /{name} -->)", lambda _, table=table: table, readme, flags=re.DOTALL)
    return readme


if __name__ == "__main__":
    path = ROOT / "README.md"
    path.write_text(renewed(path.read_text(encoding="utf-8")), encoding="utf-8")
