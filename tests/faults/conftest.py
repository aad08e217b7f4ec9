"""The table of faults at the end of `make faults`."""

import os

from tests.faults import counted

KEEP = "KEEP_COUNTS"  # set by `make faults`, which tries everything: the table goes into docs/reliability.md


def pytest_terminal_summary(terminalreporter):
    if os.environ.get(KEEP) and counted.ROWS:
        terminalreporter.write_line(counted.table())
        if not terminalreporter.stats.get("failed"):
            counted.keep("faults", counted.table())
