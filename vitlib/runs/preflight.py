"""What is checked before any run starts: its data, its teachers' weights, its device."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable
from pathlib import Path

from vitlib.inputs.pictures import AbsentError
from vitlib.inputs.sets.watched import watched_split
from vitlib.inputs.sources import Data, check, compare, fingerprint, left_out
from vitlib.runs.plan import Place
from vitlib.runs.store import Store
from vitlib.spec import RunSpec, SpecError
from vitlib.teachers.teacher import Teacher

RECORDED = ".data"  # below the results: what large sets of files were when results on them began
log = logging.getLogger("vitlib")


def preflight(specs: Iterable[RunSpec], data_dir: Path, recorded: Path | None = None) -> None:
    """Refuse data and teachers' weights that are missing or damaged before any run starts; of a `second_test`, only the test split.

    One warning tells which files of image folders are not read. `recorded` is the folder of what large sets were before.
    """
    fingerprint.cache_clear()
    specs = list(specs)
    named = dict.fromkeys(pair for spec in specs for pair in _data(spec))
    for name, data in named:
        watched = {watched_split(data, data_dir)} - {"test"}
        check(data, data_dir, splits=("test",) if name == "second_test" else ("train", *watched, "test"))
    sources = dict.fromkeys(data.source for _, data in named)
    if recorded:
        compare(sources, data_dir, recorded)
    if lines := left_out(sources, data_dir):
        log.warning("%s", "\n".join(lines))
    values = (getattr(spec, name) for spec in specs for name in type(spec).model_fields)
    for teacher in dict.fromkeys(value for value in values if isinstance(value, Teacher)):
        teacher.check(data_dir)


def absent(sources: Iterable[str], data_dir: Path) -> dict[str, str]:
    """Of some sources those that are not on this machine, each with where it was looked for and how to get it."""
    found = {}
    for source in sources:
        try:
            fingerprint(source, data_dir)
        except AbsentError as error:
            found[source] = str(error)
    return found


def lacking(specs: Iterable[RunSpec], sources: Collection[str], store: Store) -> dict[str, str]:
    """Runs that are not stored and need images of one of the sources, themselves or by a run that they start from: that source by run."""
    found: dict[str, str] = {}

    def visit(spec: RunSpec) -> str:
        if spec.id not in found:
            own = next((data.source for _, data in _data(spec) if data.source in sources), "")
            found[spec.id] = "" if spec.id in store else own or next(filter(None, map(visit, spec.parents())), "")
        return found[spec.id]

    return {spec.id: source for spec in specs if (source := visit(spec))} if sources else {}


def verify_data(specs: Iterable[RunSpec], place: Place) -> None:
    """Read all bytes of the runs' data; refuse what was replaced since results began, take files written since as they are."""
    runs = {member.id: member for spec in specs for member in spec.family()}.values()
    compare({data.source for run in runs for _, data in _data(run)}, place.data_dir, place.results_dir / RECORDED, verify=True)


def require_device(device: str) -> None:
    """Refuse a GPU that is not there."""
    if not device.startswith("cuda"):
        return
    import torch

    if int(device.partition(":")[2] or 0) >= torch.cuda.device_count():
        raise SpecError(f"device: got {device!r}, and torch sees {torch.cuda.device_count()} GPUs here; allowed: auto, cpu")


def _data(spec: RunSpec) -> list[tuple[str, Data]]:
    """The sets among a run's own fields, by field."""
    fields = ((name, getattr(spec, name)) for name in type(spec).model_fields)
    return [(name, value) for name, value in fields if isinstance(value, Data)]
