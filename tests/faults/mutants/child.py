"""Runs tests in a copy of the checkout, each time in a fork of a process that has imported what they need, but for vitlib.

Orders come as JSON lines, and exit statuses of pytest go back; null where the tests took too long. Imports nothing of vitlib or of
tests: they are to be those of the copy.
"""

import importlib
import json
import os
import re
import signal
import sys
import time
from contextlib import suppress

PRELOADED = ["numpy", "pandas", "scipy.stats", "torch", "timm", "pydantic", "sklearn", "matplotlib.figure", "safetensors.numpy", "pytest"]
QUIET = ("-W", "ignore::pytest.PytestAssertRewriteWarning")  # of plugins that are preloaded
OF_A_PLACE = re.compile(r"VITLIB_\w+|PYTEST_\w+")  # settings and marks of the run that starts this one


def main() -> None:
    for name in sys.argv[1:]:
        importlib.import_module(name)
    for line in sys.stdin:
        order = json.loads(line)
        print(json.dumps(status_of(order.pop("limit"), **order)), flush=True)


def status_of(limit: float, **order) -> int | None:
    """The exit status of a fork that runs tests; None where it has none after `limit` seconds. What the tests started ends with it."""
    if not (process := os.fork()):
        run(**order)
    until = time.monotonic() + limit
    while not (ended := os.waitpid(process, os.WNOHANG))[0] and time.monotonic() < until:
        time.sleep(0.02)
    with suppress(ProcessLookupError):
        os.killpg(process, signal.SIGKILL)
    if ended[0]:
        return os.waitstatus_to_exitcode(ended[1])
    os.waitpid(process, 0)
    return None


def run(root: str, temporary: str, said: str, places: list[str]) -> None:
    """Run tests below `root` until one fails; exit as pytest does."""
    os.setsid()
    for number, path, how in ((0, os.devnull, os.O_RDONLY), (1, said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)):
        os.dup2(os.open(path, how), number)
    os.dup2(1, 2)
    os.chdir(root)
    for name in filter(OF_A_PLACE.fullmatch, list(os.environ)):
        del os.environ[name]
    os.environ |= {"PYTHONPATH": root, "TMPDIR": temporary, "OMP_NUM_THREADS": "1"}
    sys.path.insert(0, root)
    import pytest

    status = pytest.main(["-x", "-q", "--no-header", "--tb=line", "-p", "no:cacheprovider", *QUIET, *places])
    sys.stdout.flush()
    os._exit(int(status))


if __name__ == "__main__":
    main()
