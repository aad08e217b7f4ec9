"""pytest plugin for the nbval run (`make test`): a store of its own, dead kernels noticed within a second, orphans skipped.

A copy that holds numbers of trained convolutions is compared on machines whose convolutions come to the same (`arithmetic`); on others its
cells are executed, and an error fails.
"""

import os
import tempfile
import time
from pathlib import Path
from queue import Empty

import nbformat
import pytest
from nbval.kernel import RunningKernel

from tests import arithmetic

NBREF = Path(__file__).with_name("nbref")
NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
NOT_COMPARED: set[Path] = set()


def pytest_configure(config):
    folder = tempfile.TemporaryDirectory(prefix="nbval")
    config.add_cleanup(folder.cleanup)
    os.environ |= {"VITLIB_RESULTS": f"{folder.name}/results", "VITLIB_FIGURES": f"{folder.name}/figures"}


def pytest_collection_modifyitems(items):
    """A copy whose notebook was taken away has nothing to be held against."""
    for item in items:
        if item.path.parent == NBREF and not (source := NOTEBOOKS / item.path.name).exists():
            item.add_marker(pytest.mark.skip(reason=f"{source.relative_to(source.parents[1])} is gone: remove its copy in tests/nbref"))
    NOT_COMPARED.update(path for path in {item.path for item in items if item.path.suffix == ".ipynb"} if computed_elsewhere(path))
    for item in items:
        if item.path in NOT_COMPARED:
            item.options["check"] = False


def pytest_terminal_summary(terminalreporter):
    for path in sorted(NOT_COMPARED):
        terminalreporter.write_line(f"{path.name}: executed, not compared: it was made where convolutions come to other last bits")


def computed_elsewhere(path):
    """Whether the copy's convolutions were computed on another kind of machine."""
    theirs = nbformat.read(path, as_version=4).metadata.get(arithmetic.KEY)
    return theirs is not None and theirs != arithmetic.convolutions()


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
