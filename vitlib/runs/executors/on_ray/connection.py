"""The way to a Ray cluster: the one that RAY_ADDRESS names, or one on this machine for as long as it is needed."""

from __future__ import annotations

import os
import secrets
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vitlib import paths
from vitlib.messages import brief
from vitlib.spec import SpecError

INSTALLED = "the package ray is not installed here; in the checkout, python -m pip install -e '.[ray]' installs it"
ENVIRONMENT = {  # read when Ray is imported, and by what it starts
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",  # under `uv run`, it would build an environment for each worker
    "RAY_USAGE_STATS_ENABLED": "0",
}


@contextmanager
def connected() -> Iterator[Any]:
    """The module `ray`, connected; what it started is ended on leaving. A connection that is there already is used, and stays.

    Raises:
        SpecError: if ray is not installed, or the cluster does not answer or has another version of it.
    """
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    ray = imported()
    if ray.is_initialized():
        yield ray
        return
    address = os.environ.get("RAY_ADDRESS", "")
    if address.startswith("ray://"):
        raise SpecError(f"RAY_ADDRESS: got {brief(address)}; allowed: HOST:PORT of the head, on a machine that is a node itself, or auto")
    try:
        _connect(ray, address)
        yield ray
    finally:
        ray.shutdown()


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
    own = {} if address else {"num_cpus": paths.cores(), "include_dashboard": False}
    if own:
        _leave_token()  # Ray asks for one on a cluster that it starts for a single program
    try:
        ray.init(address=address or "local", log_to_driver=False, logging_level="error", **own)
    except Exception as error:  # Ray raises no other class for a node that does not start in time
        cluster, reason = address or "a cluster on this machine", " ".join(str(error).split())
        raise SpecError(f"executor: got 'ray', and {cluster} cannot be used: {reason}") from None
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)  # Ray puts its own in its place


def _leave_token() -> None:
    """Make the token that clusters of this person ask for, where Ray looks for it, readable for nobody else."""
    if {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & os.environ.keys() or os.environ.get("RAY_AUTH_MODE", "token") != "token":
        return
    path = Path.home() / ".ray" / "auth_token"
    path.parent.mkdir(exist_ok=True)
    try:
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_hex(32))
    except FileExistsError:
        path.chmod(0o600)


def told(error: BaseException) -> str:
    """What went wrong in a line: of a task's own exception, what it raised."""
    inner = getattr(error, "cause", None)
    cause = inner if isinstance(inner, BaseException) else error
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()] or [""]
    return f"{type(cause).__name__}: {lines[0]}"
