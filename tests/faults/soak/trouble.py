"""What happens to the store and to its drivers meanwhile, one thing at a time, drawn at random."""

import os
import random
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from tests.faults.soak.rounds import round_now, specs_of
from vitlib.runs import archive
from vitlib.runs.manifest import StoreError
from vitlib.runs.plan import Place
from vitlib.runs.store import Store
from vitlib.studies.fsck.findings import findings
from vitlib.studies.fsck.repair import repair
from vitlib.studies.sweeping.removal import leftovers, remove_leftovers, remove_runs

KEPT = 3  # rounds whose runs are asked for; older ones are swept away


class Trouble:
    """Draws and does.

    Attributes:
        did: how often each kind was done.
        harmed: how often each run was damaged, taken or swept away, by its id: so often a driver that is late may compute it again.
        killed: processes that were killed.
    """

    def __init__(self, place: Place, drivers: list, start: Callable, seed: int):
        self.place, self.drivers, self.start = place, drivers, start
        self.store = Store(place.results_dir)
        self.draws = random.Random(seed)
        self.did: Counter[str] = Counter()
        self.harmed: Counter[str] = Counter()
        self.killed: set[int] = set()
        self.archives = place.data_dir.parent / "archives"

    def happen(self) -> None:
        kinds = {
            self.kill: 6,
            self.suspend: 1,
            self.damage: 6,
            self.lose: 2,
            self.sweep: 2,
            self.export: 1,
            self.bring_back: 1,
            self.repair: 1,
        }
        kind = self.draws.choices(list(kinds), list(kinds.values()))[0]
        with suppress(FileNotFoundError, NotADirectoryError):  # drivers take the same files away
            kind()

    def kill(self) -> None:
        """Any driver but the first, at any moment; another takes its place."""
        which = self.draws.randrange(1, len(self.drivers))
        victim = self.drivers[which]
        victim.kill()
        victim.join()
        self.killed.add(victim.pid)
        self.drivers[which] = self.start(which)
        self.did["drivers killed"] += 1

    def suspend(self) -> None:
        victim = self.draws.choice(self.drivers)
        os.kill(victim.pid, signal.SIGSTOP)
        time.sleep(self.draws.uniform(0, 0.5))
        os.kill(victim.pid, signal.SIGCONT)
        self.did["drivers suspended"] += 1

    def damage(self) -> None:
        """A file of a stored run changes: a byte, its end, all of it."""
        folder = self._a_run()
        file = self.draws.choice(sorted(folder.iterdir()))
        content = file.read_bytes()
        harm = self.draws.choice([_flipped, _cut, _zeros, _empty])
        self.harmed[folder.name] += 1
        file.write_bytes(harm(content, self.draws))
        self.did["files damaged"] += 1

    def lose(self) -> None:
        """Somebody removes a file or a whole run by hand."""
        folder = self._a_run()
        self.harmed[folder.name] += 1
        if self.draws.random() < 0.5:
            self.draws.choice(sorted(folder.iterdir())).unlink()
        else:
            shutil.rmtree(folder)
        self.did["runs and files removed by hand"] += 1

    def sweep(self) -> None:
        """As `gc` does: runs of rounds that nobody asks for any more, and what older ones left."""
        asked = {spec.id for number in self._asked() for spec in specs_of(number)}
        gone = remove_runs(self.store, [run_id for run_id in self.store.ids() if run_id not in asked])
        self.harmed.update(gone)
        remove_leftovers(self.store, list(leftovers(self.store, asked, older_than=30.0)))
        self.did["sweeps"] += 1
        self.did["runs swept away"] += len(gone)

    def export(self) -> None:
        """What is whole among the runs of a round; a damaged run refuses the whole archive."""
        self.archives.mkdir(exist_ok=True)
        number = self.draws.choice(self._asked())
        wanted = [spec.id for spec in specs_of(number) if spec.id in self.store]
        with suppress(StoreError, KeyError):
            archive.export(self.store, wanted, self.archives / f"{number}.tar")
            self.did["archives written"] += 1

    def bring_back(self) -> None:
        there = sorted(self.archives.glob("*.tar"))
        if not there:
            return
        chosen = self.draws.choice(there)
        if int(chosen.stem) in self._asked():
            self.did["runs brought back by archives"] += len(archive.import_(self.store, chosen))
        else:
            chosen.unlink()

    def repair(self) -> None:
        for _ in repair(self.store, list(findings(self.store)), sorted(self.archives.glob("*.tar"))):
            pass
        self.did["repairs by fsck"] += 1

    def _asked(self) -> list[int]:
        now = round_now(self.place.data_dir)
        return list(range(max(0, now - KEPT + 1), now + 1))

    def _a_run(self) -> Path:
        ids = [spec.id for number in self._asked() for spec in specs_of(number)]
        return self.store.root / self.draws.choice(ids)


def _flipped(content: bytes, draws: random.Random) -> bytes:
    where = draws.randrange(len(content) or 1)
    return content[:where] + bytes([content[where] ^ draws.randrange(1, 256)]) + content[where + 1 :] if content else b"?"


def _cut(content: bytes, draws: random.Random) -> bytes:
    return content[: draws.randrange(len(content) or 1)]


def _zeros(content: bytes, draws: random.Random) -> bytes:
    return bytes(len(content))


def _empty(content: bytes, draws: random.Random) -> bytes:
    return b""
