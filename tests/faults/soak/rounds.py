"""What is computed in a soak: round after round, two dozen runs of some milliseconds, by drivers that check every number they are given."""

import os
import time
import traceback
from pathlib import Path

from tests.support import all_of_a_number, assert_same_result
from vitlib.computing import Context, Result, computes
from vitlib.runs.execute import execute
from vitlib.runs.plan import Place
from vitlib.spec import RunSpec

NUMBERS, TOTALS = 24, 8
PER_ROUND = 1000  # the values of a round's numbers lie below this times the next round
COMPUTING = 0.05  # seconds that a run takes at least: long enough to be killed in
RESTING = 0.2  # seconds between two looks


class Soaked(RunSpec):
    """A number with one of everything that a run can leave behind."""

    value: int


class SoakedTotal(RunSpec):
    """The sum of two of them."""

    left: Soaked
    right: Soaked


@computes(Soaked)
def compute_soaked(spec: Soaked, context: Context) -> Result:
    begun(spec, context, spec.value)
    return expected(spec)


@computes(SoakedTotal)
def compute_soaked_total(spec: SoakedTotal, context: Context) -> Result:
    begun(spec, context, spec.left.value)
    return Result({"value": sum(context.parent(parent).metrics["value"] for parent in (spec.left, spec.right))})


def begun(spec: RunSpec, context: Context, value: int) -> None:
    """One line for each computation: who, and what."""
    with (context.data_dir / f"computed-{value // PER_ROUND}").open("a") as log:
        log.write(f"{os.getpid()} {spec.id}\n")
    time.sleep(COMPUTING)


def specs_of(number: int) -> list[RunSpec]:
    """The runs of a round, parents first."""
    numbers = [Soaked(value=number * PER_ROUND + each) for each in range(NUMBERS)]
    return numbers + [SoakedTotal(left=numbers[each], right=numbers[-1 - each]) for each in range(TOTALS)]


def expected(spec: RunSpec) -> Result:
    """By arithmetic alone, without a store."""
    if isinstance(spec, SoakedTotal):
        return Result({"value": spec.left.value + spec.right.value})
    return all_of_a_number(spec.value)


def drive(place: Place, name: str) -> None:
    """Compute the round that a file names, look at every number, and again, until the file is gone."""
    while (number := round_now(place.data_dir)) is not None:
        try:
            wrong = looked_at(specs_of(number), place)
        except Exception:
            with (place.data_dir / "errors").open("a") as log:
                log.write(f"{name}, round {number}\n{traceback.format_exc()}\n")
            continue
        (place.data_dir / f"done-{name}").write_text(str(number))
        with (place.data_dir / "drivers").open("a") as log:
            log.write(f"{name} {number} {wrong} {resident():.2f} {len(os.listdir('/proc/self/fd'))}\n")
        time.sleep(RESTING)


def looked_at(specs: list[RunSpec], place: Place) -> int:
    """How many results are not what arithmetic gives."""
    found, wrong = execute(specs, place), 0
    for spec in specs:
        try:
            assert_same_result(found[spec.id], expected(spec))
        except AssertionError:
            wrong += 1
    return wrong


def round_now(data_dir: Path) -> int | None:
    try:
        return int((data_dir / "round").read_text())
    except FileNotFoundError:
        return None


def done_by(data_dir: Path, name: str) -> int:
    """The last round of which a driver has seen every number."""
    done = data_dir / f"done-{name}"
    return int(done.read_text() or -1) if done.exists() else -1


def resident() -> float:
    """MiB in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
