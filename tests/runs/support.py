"""A run with one of everything, and what may happen to it."""

from pathlib import Path

from tests.support import Number

SPEC = Number(value=3)
FACTS = {"finished": "now", "code": "0", "versions": {"numpy": "2"}}


def delete(folder: Path, name: str) -> None:
    (folder / name).unlink()


class PowerCut(BaseException):
    """Nothing of ours may catch this."""
