"""Which claims a store goes by: locks of the file system, or leases where locks do not reach from host to host.

$VITLIB_CLAIMS says it: `flock`, `lease`, or `auto`, the default, which tries a lock and reads how the disk is mounted. A store that leases
were taken in once says so in a file, for processes on other hosts: all that share a store go by the same.
"""

from __future__ import annotations

import errno
import fcntl
import os
import tempfile
from contextlib import AbstractContextManager
from functools import lru_cache
from pathlib import Path
from typing import Literal, get_args

from vitlib.runs.claims.leases import Lease, leased
from vitlib.runs.claims.locks import locked
from vitlib.runs.manifest import StoreError
from vitlib.spec import require

SETTING = "VITLIB_CLAIMS"
Setting = Literal["auto", "flock", "lease"]
CLAIMS = ".claims"  # below the results: a file for each run that is being computed, and for each driver at work
ASKED = ".asked"  # beside it: what those drivers ask for
BY_LEASE = ".claims-by-lease"
MOUNTS = Path("/proc/self/mounts")
WITHOUT_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}
OF_ONE_HOST = {"nolock", "local_lock=flock", "local_lock=all", "localflock"}  # how NFS and Lustre are mounted whose locks stay on a host
OF_ONE_HOST_TYPES = {"beegfs", "fuse.sshfs"}


def claimed(root: Path, run_id: str) -> AbstractContextManager[Lease | bool]:
    """Try to claim a run in the store below `root`: truthy while this process holds it.

    Raises:
        SpecError: for a setting that is none; StoreError where it contradicts what the store goes by, or its disk bears neither.
    """
    path = root / CLAIMS / run_id
    path.parent.mkdir(parents=True, exist_ok=True)
    return leased(path) if by_lease(root) else locked(path)


def by_lease(root: Path) -> bool:
    """Whether a store goes by leases; from the first time on that is written down."""
    setting = os.environ.get(SETTING) or "auto"
    require(SETTING, setting, get_args(Setting))
    if (root / BY_LEASE).exists():
        if setting == "flock":
            raise StoreError(f"{SETTING}: got 'flock' for {root}, whose runs are claimed by leases; allowed: auto, lease")
        return True
    if setting == "flock" or (setting == "auto" and _locks_reach_all_hosts(root)):
        return False
    (root / BY_LEASE).touch()
    return True


@lru_cache(maxsize=64)
def _locks_reach_all_hosts(folder: Path) -> bool:
    kind, options = _mount_of(folder.resolve())
    return _can_lock(folder) and kind not in OF_ONE_HOST_TYPES and OF_ONE_HOST.isdisjoint(options)


def _can_lock(folder: Path) -> bool:
    with tempfile.TemporaryFile(dir=folder) as probe:
        try:
            fcntl.flock(probe, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in WITHOUT_LOCKS:
                raise
            return False
    return True


def _mount_of(folder: Path) -> tuple[str, set[str]]:
    """Type and options of the file system that a folder is on; nothing where the system does not tell."""
    mounts = [line.split() for line in MOUNTS.read_text().splitlines()] if MOUNTS.exists() else []
    over = [(place, kind, options) for _, place, kind, options, *_ in mounts if folder.is_relative_to(_unescaped(place))]
    _, kind, options = max(over, key=lambda mount: len(mount[0]), default=("", "", ""))
    return kind, set(options.split(","))


def _unescaped(place: str) -> str:
    """Blanks in it are written as octal numbers."""
    return place.encode().decode("unicode_escape").encode("latin-1").decode(errors="replace")
