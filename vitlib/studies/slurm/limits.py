"""Time limits as Slurm writes them."""

from __future__ import annotations

import re

from vitlib.spec import SpecError

FORMS = "30 (minutes), 2:00:00 (hours:minutes:seconds), 1-12 or 1-12:00:00 (days-hours)"
_DAYS = re.compile(r"(?P<days>\d+)-(?P<hours>\d+)(?::(?P<minutes>\d+)(?::(?P<seconds>\d+))?)?", re.ASCII)
_HOURS = re.compile(r"(?:(?:(?P<hours>\d+):)?(?P<minutes>\d+):(?P<seconds>\d+)|(?P<only>\d+))", re.ASCII)
LONGEST = 365 * 86_400


def seconds_in(text: str) -> int:
    """Seconds of a limit: minutes, minutes:seconds, hours:minutes:seconds, or after days- hours, hours:minutes, hours:minutes:seconds.

    Raises:
        SpecError: for anything else, for no time at all, and for more than a year.
    """
    found = (_DAYS.fullmatch(text) or _HOURS.fullmatch(text)) if len(text) <= 20 else None
    part = {name: int(value or 0) for name, value in found.groupdict().items()} if found else {}
    minutes = part.get("minutes", 0) + part.get("only", 0)
    seconds = 86_400 * part.get("days", 0) + 3600 * part.get("hours", 0) + 60 * minutes + part.get("seconds", 0)
    if not 0 < seconds <= LONGEST:
        raise SpecError(f"time: got {text[:40]!r}; allowed: more than nothing and at most a year, as {FORMS}")
    return seconds


def limit_of(seconds: float) -> str:
    """As hours:minutes:seconds, behind days- where there are any."""
    days, rest = divmod(int(seconds), 86_400)
    return f"{f'{days}-' if days else ''}{rest // 3600:02d}:{rest // 60 % 60:02d}:{rest % 60:02d}"
