"""What a file in ONNX is written and read by, and how much of it is heard."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from importlib.util import find_spec

from vitlib.spec import SpecError

NEEDED = ("onnx", "onnxruntime", "onnxscript")


def require() -> None:
    """Refuse in a line, before anything is computed, where the extra is not installed.

    Raises:
        SpecError: naming what is missing and what installs it.
    """
    if missing := [name for name in NEEDED if find_spec(name) is None]:
        raise SpecError(f"onnx: {', '.join(missing)} not installed; allowed: after pip install 'vitlib[deploy]'")


@contextmanager
def quiet() -> Iterator[None]:
    """Without the exporter's progress, warnings and log, none of which the caller can act on; errors are raised as ever."""
    root, silent, before = logging.getLogger(), logging.NullHandler(), logging.root.manager.disable
    root.addHandler(silent)  # so that a warning to the root logger does not set up one of its own
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
        root.removeHandler(silent)
