"""Everything of vitlib that writes to a disk, each by name: how it is prepared, done, and what must hold afterwards, on a whole disk."""

import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure
from PIL import Image

from tests.faults.damage.support import SPECS, Stop, place_in, train
from tests.support import assert_same_result
from vitlib.report import figures, tables
from vitlib.runs import archive
from vitlib.runs.claims.asking import asking
from vitlib.runs.claims.kinds import BY_LEASE
from vitlib.runs.clock.budget import REACHED, note
from vitlib.runs.execute import execute
from vitlib.runs.plan import Place
from vitlib.runs.store import Store
from vitlib.studies.costs.speed import machine
from vitlib.studies.costs.speed.rates import SHIPPED
from vitlib.studies.fsck.findings import findings
from vitlib.studies.fsck.repair import repair
from vitlib.studies.headless import receipts

RATES = next(iter(SHIPPED.values()))


@dataclass(frozen=True)
class Operation:
    """`prepare(folder)`, with room; `act(folder)`, which the disk may refuse at any point; `whole(folder)` asserts, after it was done.

    `soft`: it does without what it cannot write, and says so.
    """

    prepare: Callable[[Path], object]
    act: Callable[[Path], object]
    whole: Callable[[Path], object]
    soft: bool = False


OPERATIONS: dict[str, Operation] = {}


def place_of(folder: Path) -> Place:
    """The results on the disk, and the data beside it."""
    return replace(place_in(folder.parents[1]), results_dir=folder / "results")


def results(folder: Path) -> Store:
    return Store(folder / "results", writable=False)


def compute(folder: Path, specs=SPECS[:1], **how) -> None:
    execute(specs, place_of(folder), **how)


def stored(*specs):
    def whole(folder: Path) -> None:
        assert all(results(folder).read(spec.id).metrics["value"] == (spec.value if hasattr(spec, "value") else 1) for spec in specs)

    return whole


def damaged(folder: Path) -> None:
    compute(folder)
    (folder / "results" / SPECS[0].id / "arrays.npz").write_bytes(b"")


def to_import(folder: Path) -> None:
    other = place_in(folder / "other")
    execute(SPECS, other)
    archive.export(Store(other.results_dir), [spec.id for spec in SPECS], folder / "runs.tar.xz")
    Store(folder / "results")


def imported(folder: Path) -> None:
    for spec in SPECS:
        assert_same_result(results(folder).read(spec.id), Store(folder / "other/results").read(spec.id))


def mended(folder: Path) -> None:
    assert not [finding for finding in findings(results(folder)) if finding.kind == "damaged"]


def mend(folder: Path) -> None:
    store = Store(folder / "results")
    list(repair(store, findings(store), [folder / "runs.tar.xz"]))


def to_mend(folder: Path) -> None:
    damaged(folder)
    other = place_in(folder / "other")
    execute(SPECS[:1], other)
    archive.export(Store(other.results_dir), [SPECS[0].id], folder / "runs.tar.xz")


def exported(name: str):
    def whole(folder: Path) -> None:
        assert archive.read(folder / "results" / name).keys() == {spec.id for spec in SPECS}

    return whole


def begun(folder: Path) -> None:
    shutil.rmtree(folder / "results", ignore_errors=True)
    try:
        train(folder / "results" / ".scratch" / "run-0", stop_at=3)
    except Stop:
        return
    raise AssertionError("it ended")


def checkpointed(folder: Path) -> None:
    weights, steps = train(folder / "results" / ".scratch" / "run-0", stop_at=None)
    assert steps <= 10 - 2
    assert all((weights[name] == array).all() for name, array in train(None)[0].items())


def go_on(folder: Path) -> None:
    with suppress(Stop):
        train(folder / "results" / ".scratch" / "run-0", stop_at=4)


def table(number: float) -> pd.DataFrame:
    return pd.DataFrame({"name": [f"run {place}" for place in range(200)], "value": [number] * 200})


def shown(number: float):
    def whole(folder: Path) -> None:
        assert pd.read_csv(folder / "results" / "out" / "table_1.csv")["value"].tolist() == [number] * 200

    return whole


def save_table(folder: Path, number: float = 2.0) -> None:
    tables.save(table(number), folder / "results" / "out" / "table_1", "A caption.")


def save_figure(folder: Path, number: float = 2.0) -> None:
    figure = Figure(figsize=(2, 2))
    figure.subplots().plot([0, 1], [0, number])
    figures.save(figure, folder / "results" / "out" / "figure_1", "A stamp.")


def pictured(folder: Path) -> None:
    out = folder / "results" / "out"
    with Image.open(out / "figure_1.png") as picture:
        picture.load()
    assert (out / "figure_1.pdf").read_bytes().rstrip().endswith(b"%%EOF") and len(pd.read_csv(out / "figure_1.csv")) == 0


def failing(folder: Path) -> None:
    place = place_of(folder)
    (place.data_dir / f"break-{SPECS[0].id}").touch()
    try:
        execute(SPECS[:1], place, mode="retry")
    finally:
        (place.data_dir / f"break-{SPECS[0].id}").unlink()


def receipt(folder: Path, seconds: float = 2.0) -> None:
    (folder / "results").mkdir(exist_ok=True)
    receipts.write(folder / "results", receipts.Receipt("deit.ipynb", "done", seconds, "abc", "0" * 64))


def received(folder: Path) -> None:
    assert receipts.read(folder / "results")["seconds"] == 2.0


def noted(folder: Path) -> None:
    store = Store(folder / "results")
    with asking(store, ["a", "b"]):
        note(store, "run-0", REACHED, 0.5)


def keep(folder: Path) -> None:
    machine._keep(machine._machine("cpu"), RATES, folder / "results")


def kept(folder: Path) -> None:
    assert machine.known("cpu", folder / "results") == RATES


def by_lease(folder: Path) -> None:
    Store(folder / "results")
    (folder / "results" / BY_LEASE).touch()


OPERATIONS |= {
    "a run computed": Operation(lambda folder: Store(folder / "results"), compute, stored(*SPECS[:1])),
    "a run computed under a lease": Operation(by_lease, compute, stored(*SPECS[:1])),
    "a run and its parents": Operation(compute, lambda folder: compute(folder, SPECS), stored(*SPECS)),
    "a run forced again": Operation(compute, lambda folder: compute(folder, mode="force"), stored(*SPECS[:1])),
    "a damaged run computed again": Operation(damaged, lambda folder: compute(folder, mode="retry"), stored(*SPECS[:1])),
    "a damaged run taken from an archive": Operation(to_mend, mend, mended),
    "a run that fails": Operation(
        lambda folder: Store(folder / "results"), failing, lambda folder: compute(folder, mode="retry"), soft=True
    ),
    "a checkpoint": Operation(begun, go_on, checkpointed),
    "a plain archive": Operation(lambda folder: compute(folder, SPECS), lambda folder: export(folder, "runs.tar"), exported("runs.tar")),
    "an archive in xz": Operation(
        lambda folder: compute(folder, SPECS), lambda folder: export(folder, "runs.tar.xz"), exported("runs.tar.xz")
    ),
    "an import": Operation(to_import, lambda folder: archive.import_(Store(folder / "results"), folder / "runs.tar.xz"), imported),
    "a table": Operation(lambda folder: save_table(folder, 1.0), save_table, shown(2.0)),
    "a figure": Operation(lambda folder: save_figure(folder, 1.0), save_figure, pictured),
    "a receipt": Operation(lambda folder: receipt(folder, 1.0), receipt, received),
    "notes": Operation(lambda folder: Store(folder / "results"), noted, lambda folder: None),
    "rates": Operation(lambda folder: Store(folder / "results"), keep, kept, soft=True),
}


def export(folder: Path, name: str) -> None:
    archive.export(Store(folder / "results", writable=False), [spec.id for spec in SPECS], folder / "results" / name)
