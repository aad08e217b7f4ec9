"""Put the claims table of figures/deit/quick into the README. Run by `make readme`."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"(?<=<!-- claims -->\n).*?(?=<!-- /claims -->)", re.DOTALL)


def claims() -> str:
    return (ROOT / "figures" / "deit" / "quick" / "claims.md").read_text().split("\n\n", 1)[1]


if __name__ == "__main__":
    readme = ROOT / "README.md"
    readme.write_text(BLOCK.sub(lambda _: claims(), readme.read_text()))
