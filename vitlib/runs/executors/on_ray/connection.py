"""The way to a Ray cluster: the one that RAY_ADDRESS names, or one on this machine for as long as it is needed."""

from __future__ import annotations

import os
import secrets
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from vitlib import paths
from vitlib.messages import brief
from vitlib.spec import SpecError

INSTALLED = "the package ray is not installed here; in the checkout, python -m pip install -e '.[ray]' installs it"
ALWAYS = {"RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0"}  # under `uv run`, Ray would build an environment for each worker
OWN = {"RAY_AUTH_MODE": "token", "RAY_USAGE_STATS_ENABLED": "0"}
HERE = "127.0.0.1"  # nobody on another machine has to do with a cluster of our own


@contextmanager
def connected() -> Iterator[Any]:
    """The module `ray`, connected; what it started is ended on leaving. A connection that is there already is used, and stays.

    Raises:
        SpecError: if ray is not installed, or the cluster does not answer or has another version of it.
    """
    ray = imported()
    if ray.is_initialized():
        yield ray
        return
    address = os.environ.get("RAY_ADDRESS", "")
    if address.startswith("ray://"):
        raise SpecError(f"RAY_ADDRESS: got {brief(address)}; allowed: HOST:PORT of the head, on a machine that is a node itself, or auto")
    added = _added(ALWAYS if address else ALWAYS | OWN | {"RAY_AUTH_TOKEN": secrets.token_hex(32)})
    os.environ |= added
    try:
        _connect(ray, address)
        yield ray
    finally:
        ray.shutdown()
        for name in added:
            os.environ.pop(name, None)


def imported() -> Any:
    try:
        import ray
    except ModuleNotFoundError as error:
        if error.name != "ray":
            raise
        raise SpecError(f"executor: got 'ray', and {INSTALLED}") from None
    return ray


def _connect(ray: Any, address: str) -> None:
    handler = signal.getsignal(signal.SIGTERM)
    own = {} if address else {"num_cpus": paths.cores(), "include_dashboard": False, "_node_ip_address": HERE}
    try:
        ray.init(address=address or "local", log_to_driver=False, logging_level="warning", **own)
    except (RuntimeError, ConnectionError, ValueError) as error:
        raise SpecError(f"executor: got 'ray', and {address or 'a cluster on this machine'} cannot be used: {_in_a_line(error)}") from None
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)  # Ray puts its own in its place


def _added(wanted: dict[str, str]) -> dict[str, str]:
    """Without what the person has set."""
    return {name: value for name, value in wanted.items() if name not in os.environ}


def _in_a_line(error: Exception) -> str:
    return " ".join(str(error).split())
