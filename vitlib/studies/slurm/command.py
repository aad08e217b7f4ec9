"""python -m vitlib slurm DOCUMENT --profile P --array N: a job script for the runs that are missing, and with --submit into the queue."""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vitlib import paths
from vitlib.grid.entries import merged
from vitlib.runs.manifest import StoreError
from vitlib.runs.store import require_writable
from vitlib.spec import SpecError
from vitlib.studies.costs.speed.machine import known
from vitlib.studies.costs.speed.rates import SHIPPED, Rates
from vitlib.studies.costs.table import in_words, states, to_compute
from vitlib.studies.slurm.limits import limit_of, seconds_in
from vitlib.studies.slurm.script import require_name, require_place, script
from vitlib.studies.slurm.sizes import Size, sized
from vitlib.training.work.registry import Sets


def add_to(commands: Any, study: argparse.ArgumentParser, load: Callable[[argparse.Namespace], Any]) -> None:
    """Add the command to those of `python -m vitlib`; `study` has the options that name a study, and `load` finds it."""
    parser = commands.add_parser("slurm", help=slurm.__doc__.splitlines()[0], parents=[study])
    parser.add_argument("--array", type=int, required=True, help="jobs that share the runs; no more are asked for than runs are missing")
    parser.add_argument("--gpus", type=int, default=0, help="of each job, which computes several runs at once on one; default: none")
    parser.add_argument("--time", default="", help="limit of a job, such as 2:00:00, after which it goes on from there; default: by plan")
    for option in ("partition", "account", "qos"):
        parser.add_argument(f"--{option}", default="", help="as sbatch takes it")
    parser.add_argument("--out", default="", help="the script; default: build/slurm/DOCUMENT-PROFILE.sh of the checkout; logs go beside it")
    parser.add_argument("--submit", action="store_true", help="call sbatch")
    parser.set_defaults(act=lambda options: slurm(options, load))


def slurm(options: argparse.Namespace, load: Callable[[argparse.Namespace], Any]) -> int:
    """A job script for Slurm: an array of drivers on one store, sized by what is missing; --submit puts it into the queue."""
    names = {name: getattr(options, name) for name in ("partition", "account", "qos")}
    for option, name in names.items():
        require_name(option, name)
    limit = seconds_in(options.time) if options.time else None
    if options.submit and not shutil.which("sbatch"):
        raise SpecError("submit: there is no sbatch here; allowed: on a host that belongs to a Slurm cluster, or without --submit")
    study = load(options)
    out = require_place(_out(options))
    missing = list(to_compute(study, states(study)).values())
    if not missing:
        print("no run is missing: nothing is written")
        return 0
    size = sized(missing, Sets(study.place.data_dir), _rates(study, options.gpus), options.array, options.gpus, limit)
    text = script(size, _arguments(study, options), names, out)
    require_writable("out", out.parent, "choose a folder you may write to")
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(text, encoding="utf-8")
    print(f"{out}: {_told(size)}")
    print(_submitted(out) if options.submit else f"sbatch {out}")
    return 0


def _out(options: argparse.Namespace) -> Path:
    default = paths.root() / "build" / "slurm" / f"{options.document}-{options.profile}.sh"
    return paths.from_shell(options.out) if options.out else default


def _rates(study: Any, gpus: int) -> Rates:
    """Of the device that jobs are given: this machine, if it was measured and has no other task, else a shipped one."""
    return SHIPPED["h100"] if gpus else known("cpu", study.place.results_dir) or SHIPPED["cpu-2-cores"]


def _arguments(study: Any, options: argparse.Namespace) -> list[str]:
    """Of `python -m vitlib run`, the same from whatever folder."""
    place, overrides = study.place, merged(options.settings, options.overrides)
    places = ["--results-dir", str(place.results_dir), "--data-dir", str(place.data_dir)]
    changed = ["--overrides", json.dumps(overrides)] if overrides else []
    how = ["--executor", "local", "--device", options.device] if options.gpus else ["--executor", "inline", "--device", "cpu"]
    return [study.paper, "--profile", study.profile, *places, *changed, *how]


def _told(size: Size) -> str:
    jobs = f"{size.tasks} job{'s' * (size.tasks != 1)} for {size.runs} run{'s' * (size.runs != 1)}"
    gpus = f"{size.gpus} GPU{'s' * (size.gpus != 1)}, " if size.gpus else ""
    each = f"{gpus}{size.cpus} core{'s' * (size.cpus != 1)}, {size.memory} MiB, {limit_of(size.limit)}"
    return f"{jobs}, each {each}; one after the other the runs take about {in_words(size.estimated)}"


def _submitted(out: Path) -> str:
    done = subprocess.run(["sbatch", "--parsable", str(out)], capture_output=True, text=True, timeout=300)
    if done.returncode:
        raise StoreError(f"submit: sbatch refused {out}: {done.stderr.strip()}")
    job = done.stdout.strip().partition(";")[0]
    return f"submitted as {job}: squeue -j {job} shows it, scancel {job} ends it, python -m vitlib status shows what is stored"
