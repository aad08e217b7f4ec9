"""Processes that a test started, and what these started, by a mark in their environment."""

import os
import time
import uuid
from pathlib import Path

NAME = "VITLIB_STARTED_BY_A_TEST"


def mark() -> str:
    return uuid.uuid4().hex


def with_mark(text: str) -> list[str]:
    """The command lines of processes that carry the mark; this one is none of them."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if process.name != str(os.getpid()) and f"{NAME}={text}".encode() in process.joinpath("environ").read_bytes():
                found.append(process.joinpath("cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            continue
    return found


def gone(text: str, seconds: float) -> float:
    """Seconds until no process carries the mark; an AssertionError that names them if that takes longer."""
    began = time.monotonic()
    while still := with_mark(text):
        assert time.monotonic() - began < seconds, f"still there after {seconds:.0f} s: {still}"
        time.sleep(0.05)
    return time.monotonic() - began
