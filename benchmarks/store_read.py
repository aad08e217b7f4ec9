"""How long does it take to read and verify 100 small runs, compared with reading the same bytes plainly?

Between the two lies reading and hashing them, which no verified store can do without. All from the page cache.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable
from pathlib import Path

import _paired
import numpy as np
import pandas as pd

from vitlib.computing import Result
from vitlib.runs.provenance import facts
from vitlib.runs.store import Store
from vitlib.spec import RunSpec

RUNS, PAIRS = 100, 25


class Small(RunSpec):
    """As large as a student of the quick profile: a history of 12 epochs, predictions, 60,000 weights."""

    seed: int


def filled(root: Path) -> Store:
    store, generator = Store(root), np.random.default_rng(0)
    provenance = facts("vitlib.papers.deit.specs", "cpu")
    for seed in range(RUNS):
        history = pd.DataFrame({"epoch": range(12), "lr": generator.random(12), "loss": generator.random(12)})
        arrays = {f"predictions {name}": generator.integers(10, size=360).astype(np.int32) for name in "abcd"}
        weights = {f"block.{block}": generator.normal(size=(100, 60)).astype(np.float32) for block in range(10)}
        store.put(Small(seed=seed), Result({"top1": 97.5, "top5": 99.9}, history, arrays, weights), provenance)
    return store


def read_by_the_store(store: Store) -> None:
    for run_id in store.ids():
        store.read(run_id)


def read_plainly(store: Store) -> None:
    for path in store.root.glob("*/*"):
        path.read_bytes()


def read_and_hashed(store: Store) -> None:
    for path in store.root.glob("*/*"):
        hashlib.sha256(path.read_bytes()).digest()


def main() -> None:
    about = _paired.machine("CPU", "numpy", "pandas", "safetensors")
    print(", ".join(f"{key} {value}" for key, value in about.items()))
    with tempfile.TemporaryDirectory() as folder:
        store = filled(Path(folder))
        size = sum(path.stat().st_size for path in store.root.glob("*/*"))

        def compare(ours: Callable[[Store], None], bare: Callable[[Store], None]) -> dict:
            return _paired.ratios(lambda: ours(store), lambda: bare(store), PAIRS)

        whole, hashing = compare(read_by_the_store, read_plainly), compare(read_and_hashed, read_plainly)
    print(f"{RUNS} runs, {size / 2**20:.1f} MiB")
    print(f"  read and verified / read plainly: {_paired.described(whole, 'wall')}")
    print(f"  read and hashed / read plainly:   {_paired.described(hashing, 'wall')}")
    store_ms, plain_ms = (1000 * whole["wall"][f"seconds_{way}_median"] / RUNS for way in ("ours", "bare"))
    print(f"  ms a run: store {store_ms:.2f}, plainly {plain_ms:.2f}")
    content = {"question": __doc__.splitlines()[0], "machine": about, "runs": RUNS, "bytes": size}
    _paired.write(__file__, content | {"read_and_verified": whole, "read_and_hashed": hashing})


if __name__ == "__main__":
    main()
