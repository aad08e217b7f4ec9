"""By locks or by leases: as a person says, as the store has it, else as the disk is."""

import errno
import fcntl

import pytest

from tests.runs.support import SPEC
from tests.support import Number
from vitlib.runs.claims import kinds
from vitlib.runs.claims.kinds import BY_LEASE, SETTING, by_lease
from vitlib.runs.execute import execute
from vitlib.runs.manifest import StoreError
from vitlib.spec import SpecError


@pytest.fixture(autouse=True)
def unprobed(monkeypatch):
    kinds._locks_reach_all_hosts.cache_clear()
    monkeypatch.delenv(SETTING, raising=False)
    yield
    kinds._locks_reach_all_hosts.cache_clear()


@pytest.fixture
def mounted(monkeypatch, tmp_path, store):
    """Pretends how the store's disk is mounted."""

    def pretend(kind, options):
        place = str(store.root).replace(" ", "\\040")
        lines = ["/dev/sda / ext4 rw,relatime 0 0", f"server:/home {place} {kind} {options} 0 0", f"none {place}-2 tmpfs rw,nolock 0 0"]
        (tmp_path / "mounts").write_text("\n".join(lines) + "\n")
        monkeypatch.setattr(kinds, "MOUNTS", tmp_path / "mounts")

    return pretend


def test_a_disk_of_this_machine_goes_by_locks_and_nothing_is_written_down(store):
    assert not by_lease(store.root)
    assert list(store.root.iterdir()) == []


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_disk_that_refuses_locks_goes_by_leases_from_then_on(store, place, monkeypatch, number):
    def refused(*arguments):
        raise OSError(number, "no locks")

    with monkeypatch.context() as patch:
        patch.setattr(fcntl, "flock", refused)
        with store.claim(SPEC.id) as mine:
            assert mine and mine.token
    assert (store.root / BY_LEASE).exists() and by_lease(store.root)
    execute([Number(value=1)], place)


@pytest.mark.parametrize(
    ("kind", "options", "leases"),
    [
        ("nfs4", "rw,vers=4.2,hard,proto=tcp,local_lock=none,addr=10.0.0.1", False),
        ("nfs", "rw,vers=3,nolock,local_lock=all", True),
        ("nfs", "rw,vers=3,local_lock=flock", True),
        ("nfs", "rw,vers=3,local_lock=posix", False),
        ("lustre", "rw,flock,lazystatfs", False),
        ("lustre", "rw,localflock,lazystatfs", True),
        ("gpfs", "rw,relatime", False),
        ("beegfs", "rw,relatime,cfgFile=/etc/beegfs/beegfs-client.conf", True),
        ("fuse.sshfs", "rw,nosuid", True),
    ],
)
def test_how_a_disk_is_mounted_says_whether_its_locks_reach_other_hosts(store, mounted, kind, options, leases):
    mounted(kind, options)
    assert by_lease(store.root) is leases


def test_a_setting_wins_over_what_the_disk_says(store, mounted, monkeypatch):
    mounted("beegfs", "rw")
    monkeypatch.setenv(SETTING, "flock")
    assert not by_lease(store.root)
    mounted("ext4", "rw")
    monkeypatch.setenv(SETTING, "lease")
    assert by_lease(store.root)
    monkeypatch.delenv(SETTING)
    assert by_lease(store.root), "other processes follow"


def test_locks_are_refused_in_a_store_that_goes_by_leases(store, monkeypatch):
    (store.root / BY_LEASE).touch()
    monkeypatch.setenv(SETTING, "flock")
    with pytest.raises(StoreError, match=r"VITLIB_CLAIMS: got 'flock' for .*, whose runs are claimed by leases; allowed: auto, lease"):
        by_lease(store.root)


def test_a_setting_that_is_none_is_refused(store, monkeypatch):
    monkeypatch.setenv(SETTING, "leases")
    with pytest.raises(SpecError, match="VITLIB_CLAIMS: got 'leases'"), store.claim(SPEC.id):
        pass
