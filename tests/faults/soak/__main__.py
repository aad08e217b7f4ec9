"""Four drivers on one store in trouble, for hours: nothing lost, nothing wrong, memory and file handles flat.

    python -m tests.faults.soak [--hours 2] [--seed 0] [--folder FOLDER]

Each round's runs are computed by drivers that look at every number (`rounds`), while drivers are killed and files damaged (`trouble`).
A run may be computed once, once more for each time that it or a parent was harmed, and once more for each driver that was killed at it:
what goes beyond is lost. The first driver is never killed; its memory and file handles are compared between the first tenth and the last.
A table, also in docs/reliability.md.
"""

import argparse
import sys
import tempfile
import time
from collections import Counter
from multiprocessing import get_context
from pathlib import Path
from statistics import median

from tests.faults import counted
from tests.faults.soak.rounds import done_by, drive, specs_of
from tests.faults.soak.trouble import KEPT, Trouble
from vitlib.runs.plan import Place

DRIVERS = 4
CHAINED = ("During handling of the above exception", "The above exception was the direct cause")
PER_ROUND = 5.0  # seconds, and until the first driver has seen every number of it
BETWEEN = (0.05, 0.8)  # seconds between two troubles


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hours", type=float, default=2.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", default="", help="keeps store and logs in a new folder; default: removed afterwards")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="soak-", ignore_cleanup_errors=True) as folder:
        lines, whole = soak(Path(options.folder or folder), options.hours * 3600, options.seed)
    print("\n".join(lines))
    counted.keep("soak", "\n".join(lines))
    return int(not whole)


def soak(folder: Path, seconds: float, seed: int) -> tuple[list[str], bool]:
    """A table, and whether nothing was lost or wrong."""
    place = Place(folder / "results", folder / "data", device="cpu")
    place.data_dir.mkdir(parents=True)
    context = get_context("forkserver")
    context.set_forkserver_preload(["tests.faults.soak.rounds", "torch"])
    enter(place, 0)
    start = lambda which: started(context, place, which)  # noqa: E731
    drivers = [start(which) for which in range(DRIVERS)]
    trouble, began, lost, number = Trouble(place, drivers, start, seed), time.monotonic(), Counter(), 0
    while time.monotonic() - began < seconds:
        until = time.monotonic() + PER_ROUND
        while time.monotonic() < until or done_by(place.data_dir, "driver-0") < number:
            time.sleep(trouble.draws.uniform(*BETWEEN))
            trouble.happen()
        number += 1
        enter(place, number)
        if number > KEPT + 1:
            lost += computed_in_vain(place, number - KEPT - 2, trouble)
        print(f"\r{number} rounds, {sum(lost.values())} lost, {errors(place)} errors", end="", file=sys.stderr, flush=True)
    (place.data_dir / "round").unlink()
    for driver in drivers:
        driver.join(60)
    return report(place, trouble, lost, time.monotonic() - began)


def started(context, place: Place, which: int):
    driver = context.Process(target=drive, args=(place, f"driver-{which}"), daemon=True)
    driver.start()
    return driver


def enter(place: Place, number: int) -> None:
    half = place.data_dir / "round.new"
    half.write_text(str(number))
    half.rename(place.data_dir / "round")


def computed_in_vain(place: Place, number: int, trouble: Trouble) -> Counter[str]:
    """Computations of a round that is over which neither harm nor a kill explains; its log is removed."""
    log = place.data_dir / f"computed-{number}"
    lines = [line.split() for line in log.read_text().splitlines()]
    last = {process: run_id for process, run_id in lines}
    excused = Counter(run_id for process, run_id in last.items() if int(process) in trouble.killed)
    times, lost = Counter(run_id for _, run_id in lines), Counter()
    specs = specs_of(number)
    for spec in specs:
        harmed = sum(trouble.harmed[run.id] for run in (spec, *spec.parents()))  # a run whose parent is gone begins anew
        beyond = times[spec.id] - 1 - harmed - excused[spec.id]
        lost["computed in vain"] += max(0, beyond)
        lost["never computed"] += times[spec.id] == 0
        if beyond > 0 or not times[spec.id]:
            said = f"{spec.id}: computed {times[spec.id]} times, harmed {harmed}, its driver killed {excused[spec.id]}"
            print(f"\nround {number}, {said}", file=sys.stderr, flush=True)
    for spec in specs:
        trouble.harmed.pop(spec.id, None)
    trouble.did["computations"] += len(lines)
    log.unlink()
    return lost


def errors(place: Place) -> int:
    """An error that was met while another was handled counts with it."""
    log = place.data_dir / "errors"
    text = log.read_text() if log.exists() else ""
    return text.count("Traceback") - sum(map(text.count, CHAINED))


def report(place: Place, trouble: Trouble, lost: Counter[str], seconds: float) -> tuple[list[str], bool]:
    looks = [line.split() for line in (place.data_dir / "drivers").read_text().splitlines()]
    wrong, failed = sum(int(look[2]) for look in looks), errors(place)
    if failed:
        print((place.data_dir / "errors").read_text()[:20000], file=sys.stderr)
    first = [look for look in looks if look[0] == "driver-0"]
    tenth = max(1, len(first) // 10)
    early, late = first[:tenth], first[-tenth:]
    rows = {"hours": f"{seconds / 3600:.2f}"} | {kind: f"{count:,}" for kind, count in sorted(trouble.did.items())}
    rows |= {"times that all numbers of a round were looked at": f"{len(looks):,}", "numbers wrong": wrong, "errors of drivers": failed}
    rows |= {"lost: stored and computed again without need": lost["computed in vain"] + lost["never computed"]}
    for column, name in ((3, "MiB of the first driver, first and last tenth"), (4, "its file handles, first and last tenth")):
        rows[name] = " and ".join(f"{median(float(look[column]) for look in part):.0f}" for part in (early, late))
    lines = ["| | |", "|:--|--:|", *(f"| {name} | {value} |" for name, value in rows.items())]
    return lines, not (wrong or failed or lost.total())


if __name__ == "__main__":
    sys.exit(main())
