"""How do commands grow with the store, 10 to 100,000 runs: seconds and MiB of `status`, `plan`, `render` and `gc`?

Each command in a process of its own, from its start to its end, with its largest resident memory; the store holds the runs of one study, so
that each is asked for. Beside the commands the steps that they are made of, in one process. Files come from the page cache, as they do soon
after a store was written. By the clock and on the processor: on a quiet machine both are alike, and the second is drawn. Targets: `status`
of 10,000 runs below 2 s, of 100,000 below 20 s.

    python benchmarks/store_growth.py [--sizes 10 100 1000] [--folder FOLDER] [--draw]

Writes store_growth.json and, from it, store_growth.png; stores are made below FOLDER (about 3 GB at 100,000 runs) and removed afterwards.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import _paired
import _stores

SIZES = (10, 100, 1_000, 10_000, 100_000)
REPEATS = {10: 3, 100: 3, 1_000: 3}  # of a command; once where a store is larger
COMMANDS = {
    "status": ["status", "STUDY"],
    "status --verify": ["status", "STUDY", "--verify"],
    "plan": ["plan", "STUDY", "--device", "cpu-2-cores"],
    "render": ["render", "STUDY"],
    "gc": ["gc", "--results-dir", "RESULTS", "--figures-dir", "FIGURES"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="*", default=SIZES)
    parser.add_argument("--commands", nargs="*", default=list(COMMANDS))
    parser.add_argument("--folder", type=Path, default=None)
    parser.add_argument("--draw", action="store_true", help="only draw what was measured")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    options = parser.parse_args()
    if not options.draw:
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            measured = [measure(size, Path(folder), options.commands) for size in options.sizes]
        about = _paired.machine("CPU", "numpy", "pandas", "pydantic") | {"document": _stores.DOCUMENT, "profile": _stores.PROFILE}
        content = {"question": __doc__.splitlines()[0], "machine": about, "sizes": measured}
        options.out.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    draw(json.loads(options.out.read_text(encoding="utf-8")), options.out.with_suffix(""))


def measure(runs: int, folder: Path, commands: list[str]) -> dict:
    small = _computed(folder / "template")
    seeds = _stores.seeds_for(runs, folder / "none")
    began = time.perf_counter()
    _stores.grow(_stores.study(seeds, folder / "store"), small, runs)
    made = time.perf_counter() - began
    size = sum(
        os.stat(f"{place}/{name}").st_blocks * 512
        for place, _, names in os.walk(folder / "store")
        for name in names
        if name != _stores.WEIGHTS
    )
    found = {"runs": runs, "seeds": seeds, "MiB on disk": round(size / 2**20, 1), "seconds to make": round(made, 1), "commands": {}}
    (folder / "settings.toml").write_text(f"seeds = {_stores.overrides(seeds)['seeds']}\n", encoding="utf-8")
    for name in commands:
        found["commands"][name] = repeated(REPEATS.get(runs, 1), [sys.executable, "-m", "vitlib", *_arguments(COMMANDS[name], folder)])
        print(runs, name, found["commands"][name], flush=True)
    steps = subprocess.run([sys.executable, "-c", STEPS, str(folder), str(seeds)], capture_output=True, text=True, check=True)
    found["steps"] = json.loads(steps.stdout)
    print(runs, found["steps"], flush=True)
    shutil.rmtree(folder / "store")
    return found


def _size(store: Path) -> int:
    """Bytes on disk, but for the weights, which are links."""
    own = ((place, name) for place, _, names in os.walk(store) for name in names if name != _stores.WEIGHTS)
    return sum(os.stat(f"{place}/{name}").st_blocks * 512 for place, name in own)


def repeated(times: int, command: list[str]) -> dict:
    """Medians of the seconds from a command's start to its end, by the clock and on the processor, and its largest resident MiB."""
    taken = [_one(command) for _ in range(times)]
    clock, processor = (round(statistics.median(row[place] for row in taken), 2) for place in (0, 1))
    return {"n": times, "seconds": clock, "CPU seconds": processor, "MiB": round(max(row[2] for row in taken))}


def _one(command: list[str]) -> tuple[float, float, float]:
    began = time.perf_counter()
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd=Path(__file__).parents[1])
    said = child.stderr.read().decode()
    _, status, used = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(f"{' '.join(command[2:5])}: {said[-2000:]}")
    return time.perf_counter() - began, used.ru_utime + used.ru_stime, used.ru_maxrss / 2**10


def _arguments(command: list[str], folder: Path) -> list[str]:
    places = {"RESULTS": str(folder / "store"), "FIGURES": str(folder / "figures")}
    study = [_stores.DOCUMENT, "--profile", _stores.PROFILE, "--from", str(folder / "settings.toml")]
    study += ["--results-dir", places["RESULTS"], "--figures-dir", places["FIGURES"]]
    return [word for given in command for word in (study if given == "STUDY" else [places.get(given, given)])]


def _computed(folder: Path):
    """The study that lends its files, computed once."""
    if not folder.exists():
        how = ["--profile", _stores.PROFILE, "--executor", "inline", "--device", "cpu", "--results-dir", str(folder)]
        given = ["--overrides", json.dumps(_stores.overrides(2))]
        subprocess.run([sys.executable, "-m", "vitlib", "run", _stores.DOCUMENT, *how, *given], check=True)
    return _stores.study(2, folder)


STEPS = """
import json, resource, sys, time
sys.path.insert(0, "benchmarks")
from pathlib import Path
import _stores
from vitlib.runs.plan import make_plan
from vitlib.runs.preflight import preflight
from vitlib.runs.store import Store
folder, seeds = Path(sys.argv[1]), int(sys.argv[2])
found = {}
def timed(name, act):
    began, busy = time.perf_counter(), time.process_time()
    result = act()
    clock, processor = time.perf_counter() - began, time.process_time() - busy
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found[name] = {"seconds": round(clock, 3), "CPU seconds": round(processor, 3), "MiB so far": round(most / 2**10)}
    return result
study = timed("load_study", lambda: _stores.study(seeds, folder / "store"))
timed("identities", lambda: study.specs)
store = Store(folder / "store")
timed("Store.ids", store.ids)
timed("Store.sweep", store.sweep)
plan = timed("make_plan", lambda: make_plan(study.specs.values(), store, "cached"))
timed("preflight", lambda: preflight(study.specs.values(), study.place.data_dir))
timed("status", study.status)
results = timed("execute read-only", lambda: study.execute(mode="read-only"))
timed("frame", lambda: [results.frame(table) for table in study.entry["grid"]])
timed("history", lambda: results.history("models"))
timed("provenance", results.provenance)
print(json.dumps(found))
"""


def draw(content: dict, path: Path) -> None:
    """Runs against seconds and against MiB, a line for each command."""
    from matplotlib.ticker import LogLocator, NullFormatter, NullLocator

    from vitlib.report import figures
    from vitlib.report.drawing.palette import distinct

    with figures.style():
        figure, ((seconds, memory),) = figures.canvas(1, 2, height=3.1)
        for name, look in distinct(COMMANDS).items():
            rows = [(each["runs"], each["commands"][name]) for each in content["sizes"] if name in each["commands"]]
            for axes, what in ((seconds, "CPU seconds"), (memory, "MiB")):
                axes.plot([runs for runs, _ in rows], [row[what] for _, row in rows], label=name, **look.lines)
        seconds.plot([10_000, 100_000], [2, 20], label="target of status", color=figures.TEACHER, linestyle=":", marker="_", markersize=9)
        for axes, title in ((seconds, "seconds on one core, start of Python included"), (memory, "largest resident memory, MiB")):
            axes.set(xscale="log", yscale="log", xlabel="stored runs", title=title)
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.yaxis.set_minor_locator(NullLocator())
            for axis in (axes.xaxis, axes.yaxis):
                axis.set_major_formatter(lambda value, _: f"{value:,g}" if value < 1 else f"{value:,.0f}")
                axis.set_minor_formatter(NullFormatter())
        figures.legend(seconds, above=True, ncols=6)
        about = content["machine"]
        stamp = f"{about['device']}, {about['cores']} cores · {about['document']}, profile {about['profile']}, synthetic stores"
        figures.save(figure, path, stamp)
    for other in (".pdf", ".csv"):
        path.with_suffix(other).unlink()


if __name__ == "__main__":
    main()
