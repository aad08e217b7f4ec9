"""Who holds a claim, for a person who looks into its file."""

from __future__ import annotations

import json
import os
import socket
import time


def holder(**more: str) -> bytes:
    """Host, process and time of the claim, as a JSON line."""
    about = {"host": socket.gethostname(), "process": os.getpid(), "since": time.strftime("%Y-%m-%dT%H:%M:%S%z")}
    return f"{json.dumps(about | more)}\n".encode()
