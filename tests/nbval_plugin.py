"""pytest plugin for the nbval run (`make test`): a store of its own, dead kernels noticed within a second, orphans skipped."""

import os
import tempfile
import time
from pathlib import Path
from queue import Empty

import pytest
from nbval.kernel import RunningKernel

NBREF = Path(__file__).with_name("nbref")
NOTEBOOKS = Path(__file__).parents[1] / "notebooks"


def pytest_configure(config):
    folder = tempfile.TemporaryDirectory(prefix="nbval")
    config.add_cleanup(folder.cleanup)
    os.environ |= {"VITLIB_RESULTS": f"{folder.name}/results", "VITLIB_FIGURES": f"{folder.name}/figures"}


def pytest_collection_modifyitems(items):
    """A copy whose notebook was taken away has nothing to be held against."""
    for item in items:
        if item.path.parent == NBREF and not (source := NOTEBOOKS / item.path.name).exists():
            item.add_marker(pytest.mark.skip(reason=f"{source.relative_to(source.parents[1])} is gone: remove its copy in tests/nbref"))


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
