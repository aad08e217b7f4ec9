"""The process that kernels fork from: it loads what notebooks import, then forks a kernel for each line on its standard input.

It has one thread of its own when it forks, and no socket. A kernel is a session of its own, as one started afresh, and ends when this does.
"""

from __future__ import annotations

import atexit
import importlib
import json
import os
import signal
import sys
import traceback
from typing import NoReturn

from ipykernel.kernelapp import IPKernelApp

from vitlib.grid.entries import studies

LIBRARIES = (
    "ipykernel.ipkernel",
    "ipywidgets",
    "matplotlib.backends.backend_agg",
    "matplotlib.backends.backend_pdf",
    "fontTools.subset",
    "seaborn",
    "sklearn.datasets",
    "tabulate",
    "vitlib.compress.doors",
)


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what imports print must not be taken for answers
    for name in (*LIBRARIES, *(f"vitlib.papers.{study}" for study in studies())):
        importlib.import_module(name)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the system forgets kernels that ended
    for line in sys.stdin:
        if not (pid := os.fork()):
            answers.close()
            _become_kernel(**json.loads(line))
        print(pid, file=answers, flush=True)


def _become_kernel(arguments: list[str], cwd: str, env: dict[str, str]) -> NoReturn:
    """Ends when the kernel is shut down: without taking down what was loaded, piece by piece, which takes seconds."""
    parent = os.getppid()
    os.setsid()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    del sys.path[0]  # where the driver stands
    try:
        IPKernelApp.launch_instance([*arguments, f"--IPKernelApp.parent_handle={parent}"])
        atexit._run_exitfuncs()
    except Exception:
        traceback.print_exc()
    finally:
        os._exit(0)


if __name__ == "__main__":
    main()
