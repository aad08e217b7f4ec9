"""A job script: what Slurm is asked for, what the drivers are told, and below that slurm/drivers.sh as it stands."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

from vitlib import paths
from vitlib.runs.manifest import StoreError
from vitlib.spec import SpecError
from vitlib.studies.slurm.limits import limit_of
from vitlib.studies.slurm.sizes import Size

TEMPLATE = "slurm/drivers.sh"  # of the checkout
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,63}")
_PLACE = re.compile(r"/[A-Za-z0-9_./+@,=:~-]*")


def script(size: Size, arguments: list[str], names: dict[str, str], out: Path) -> str:
    """The text of a job script.

    Args:
        arguments: behind `python -m vitlib run`; anything, it is quoted.
        names: of options of sbatch, such as partition and account; empty ones are left out.
        out: where the script will lie; logs go beside it.

    Raises:
        SpecError: for a name, or a place of logs, that a comment which sbatch reads cannot hold; StoreError without a checkout.
    """
    for option, name in names.items():
        require_name(option, name)
    logs = require_place(out.with_suffix(""))
    asked = [
        f"--job-name=vitlib-{arguments[0]}",
        f"--array=0-{size.tasks - 1}",
        f"--nodes=1 --ntasks=1 --cpus-per-task={size.cpus}",
        f"--mem={size.memory}M",
        *([f"--gpus-per-node={size.gpus}"] if size.gpus else []),
        f"--time={limit_of(size.limit)}",
        f"--signal=B:USR1@{size.warning}",
        "--requeue --open-mode=append",
        f"--output={logs}-%A_%a.log",
        *(f"--{option}={name}" for option, name in names.items() if name),
    ]
    head = [f"# {size.runs} runs are missing; written by `python -m vitlib slurm`, which `docs/cluster.md` of the checkout tells of."]
    here, python = shlex.quote(str(paths.root())), shlex.quote(sys.executable)
    told = ["", f"cd {here} || exit 2", f"PYTHON={python}", f"set -- {shlex.join(arguments)}", ""]
    return "\n".join(["#!/bin/bash", *head, *(f"#SBATCH {line}" for line in asked), *told]) + _body()


def require_name(option: str, name: str) -> None:
    """Refuse a name that is not one word or several with commas between: sbatch reads options in a comment, where nothing can be quoted."""
    if name and not all(_NAME.fullmatch(part) for part in name.split(",")):
        raise SpecError(f"{option}: got {name[:60]!r}; allowed: names of letters, digits and _.+-, with commas between")


def require_place(place: Path) -> Path:
    if not _PLACE.fullmatch(str(place)):
        raise SpecError(f"out: got {str(place)[:120]!r}; allowed: a place without blanks, of letters, digits and _./+@,=:~-")
    return place


def _body() -> str:
    """What follows the options of sbatch."""
    template = paths.root() / TEMPLATE
    if not template.is_file():
        raise StoreError(f"{template}: is missing; work in a checkout of the project")
    return "\n" + template.read_text(encoding="utf-8").rpartition("#SBATCH")[2].partition("\n")[2].lstrip("\n")
