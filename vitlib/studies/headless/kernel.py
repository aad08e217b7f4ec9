"""A notebook executed by papermill in a kernel of this interpreter; its progress lines are passed on, several notebooks at once."""

from __future__ import annotations

import json
import logging
import os
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jupyter_client.connect import KernelConnectionInfo
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from jupyter_client.provisioning import LocalProvisioner
from traitlets import default

from vitlib.runs.clock.progress import PREFIX as PROGRESS
from vitlib.studies.headless.forks import Forks

KERNEL = "vitlib-running-interpreter"
QUIET = "--Application.log_level=CRITICAL"  # it is interrupted before it is shut down, and would say so as an error


def execute(source: Path, target: Path, parameters: dict[str, Any], timeout: float | None, kernels: Forks | None = None) -> None:
    """Run a copy of `source` from its folder into `target`; raises what papermill does."""
    import papermill

    with own_kernel(kernels) as kernel, _progress_shown():
        papermill.execute_notebook(
            source, target, parameters, kernel_name=KERNEL, kernel_manager_class=kernel, cwd=source.parent, progress_bar=False,
            log_output=True, request_save_on_cell_execute=False, execution_timeout=timeout,
        )  # fmt: skip


@contextmanager
def own_kernel(kernels: Forks | None = None) -> Iterator[type[AsyncKernelManager]]:
    """A manager for a kernel of the interpreter that runs this, whatever kernels are installed; local sockets, not TCP.

    Args:
        kernels: what it forks from; None to start it afresh.
    """
    with tempfile.TemporaryDirectory(prefix="vitlib") as folder:
        spec = Path(folder, "kernels", KERNEL)
        spec.mkdir(parents=True)
        argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}", QUIET]
        spec.joinpath("kernel.json").write_text(json.dumps({"argv": argv, "display_name": "Python 3", "language": "python"}))

        class OwnKernel(AsyncKernelManager):
            def __init__(self, **traits: Any):
                super().__init__(**traits)
                self.provisioner = _Forking(kernels, kernel_spec=self.kernel_spec, parent=self) if kernels else None

            @default("kernel_spec_manager")
            def _specs(self) -> KernelSpecManager:
                return KernelSpecManager(kernel_dirs=[str(spec.parent)])

            @default("transport")
            def _transport(self) -> str:
                return "ipc"

            @default("ip")
            def _ip(self) -> str:
                return f"{folder}/socket"

        yield OwnKernel


class _Forking(LocalProvisioner):
    """Has a kernel forked in place of its command, which is: interpreter, -m, module, arguments."""

    def __init__(self, kernels: Forks, **traits: Any):
        super().__init__(**traits)
        self._kernels = kernels

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> KernelConnectionInfo:
        self.cwd = kwargs.get("cwd") or os.getcwd()
        self.process = self._kernels.fork(cmd[3:], str(self.cwd), dict(kwargs["env"]))
        self.pid = self.pgid = self.process.pid
        return self.connection_info


@contextmanager
def _progress_shown() -> Iterator[None]:
    """Pass the progress lines of this thread's notebook, and nothing else of what cells print, on to standard error."""
    logger, handler, here = logging.getLogger("papermill"), logging.StreamHandler(), threading.get_ident()
    handler.terminator = ""  # a cell's text brings its own
    handler.addFilter(lambda record: record.thread == here and record.getMessage().startswith(PROGRESS))
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
