"""What faults did, in numbers: tests add what they tried to a row, and `make faults` keeps the table in docs/reliability.md."""

import re
from dataclasses import dataclass

from tests.support import ROOT

PAGE = ROOT / "docs" / "reliability.md"


@dataclass
class Row:
    """One kind of fault.

    Attributes:
        tries: times that it was made.
        lost: stored runs, or parts of a training older than its last checkpoint, that had to be computed again without need.
        wrong: numbers shown, or bits stored, that differ from those without the fault.
        recovery: the longest time in seconds from the fault until all was whole again; 0 where nothing had to recover.
    """

    fault: str
    tries: int = 0
    lost: int = 0
    wrong: int = 0
    recovery: float = 0.0


ROWS: dict[str, Row] = {}


def count(fault: str, tries: int = 1, lost: int = 0, wrong: int = 0, recovery: float = 0.0) -> None:
    """Add to the row of a fault; a test still asserts that nothing was lost and nothing wrong."""
    row = ROWS.setdefault(fault, Row(fault))
    row.tries += tries
    row.lost += lost
    row.wrong += wrong
    row.recovery = max(row.recovery, recovery)


def table() -> str:
    lines = ["| fault | tries | lost | wrong | longest recovery, s |", "|:--|--:|--:|--:|--:|"]
    return "\n".join(lines + [f"| {row.fault} | {row.tries:,} | {row.lost} | {row.wrong} | {_seconds(row)} |" for row in ROWS.values()])


def keep(section: str, text: str) -> None:
    """Put a table into the page, between the marks of a section's name."""
    page = PAGE.read_text(encoding="utf-8")
    marks = re.compile(rf"(?<=<!-- {section} -->\n).*?(?=<!-- /{section} -->)", re.DOTALL)
    PAGE.write_text(marks.sub(lambda _: f"\n{text}\n\n", page), encoding="utf-8")


def _seconds(row: Row) -> str:
    return f"{row.recovery:.1f}" if row.recovery else "–"
