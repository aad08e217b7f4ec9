"""pytest plugin for the nbval run (`make test`): a store of its own, and dead kernels noticed within a second."""

import os
import tempfile
import time
from queue import Empty

from nbval.kernel import RunningKernel


def pytest_configure(config):
    folder = tempfile.TemporaryDirectory(prefix="nbval")
    config.add_cleanup(folder.cleanup)
    os.environ |= {"VITLIB_RESULTS": f"{folder.name}/results", "VITLIB_FIGURES": f"{folder.name}/figures"}


def await_reply(self, msg_id, timeout=None):
    """nbval's own waits out the whole cell time before it looks whether the kernel lives."""
    end = time.monotonic() + (timeout or float("inf"))
    while time.monotonic() < end:
        try:
            reply = self.kc.get_shell_msg(timeout=1)
        except Empty:
            if not self.is_alive():
                raise RuntimeError("the kernel died while it executed this cell") from None
            continue
        if reply["parent_header"].get("msg_id") == msg_id:
            return
    raise Empty


RunningKernel.await_reply = await_reply
