"""What is checked before any run starts: its data, its teachers' weights, its device."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path

from vitlib.inputs.sets.watched import watched_split
from vitlib.inputs.sources import Data, check, compare, fingerprint, left_out
from vitlib.runs.plan import Executor, Place
from vitlib.spec import RunSpec, SpecError
from vitlib.teachers.teacher import Teacher

RECORDED = ".data"  # below the results: what large sets of files were when results on them began
log = logging.getLogger("vitlib")


def preflight(specs: Iterable[RunSpec], data_dir: Path, recorded: Path | None = None) -> None:
    """Refuse data and teachers' weights that are missing or damaged before any run starts; of a `second_test`, only the test split.

    One warning tells which files of image folders are not read. `recorded` is the folder of what large sets were before.
    """
    fingerprint.cache_clear()
    fields = [(name, getattr(spec, name)) for spec in specs for name in type(spec).model_fields]
    named = dict.fromkeys((name, value) for name, value in fields if isinstance(value, Data))
    for name, data in named:
        watched = {watched_split(data, data_dir)} - {"test"}
        check(data, data_dir, splits=("test",) if name == "second_test" else ("train", *watched, "test"))
    sources = dict.fromkeys(data.source for _, data in named)
    if recorded:
        compare(sources, data_dir, recorded)
    if lines := left_out(sources, data_dir):
        log.warning("%s", "\n".join(lines))
    for teacher in dict.fromkeys(value for _, value in fields if isinstance(value, Teacher)):
        teacher.check(data_dir)


def verify_data(specs: Iterable[RunSpec], place: Place) -> None:
    """Read all bytes of the runs' data; refuse what was replaced since results began, take files written since as they are."""
    runs = {member.id: member for spec in specs for member in spec.family()}.values()
    values = [getattr(run, name) for run in runs for name in type(run).model_fields]
    compare({value.source for value in values if isinstance(value, Data)}, place.data_dir, place.results_dir / RECORDED, verify=True)


def require_device(device: str, executor: Executor) -> None:
    """Refuse a GPU that is not there, or one by number where each worker sees its own alone."""
    if not device.startswith("cuda"):
        return
    if executor == "local" and device != "cuda":
        raise SpecError(f"device: got {device!r} with executor='local', one worker a GPU; allowed: auto, cuda, or executor='inline'")
    import torch

    if int(device.partition(":")[2] or 0) >= torch.cuda.device_count():
        raise SpecError(f"device: got {device!r}, and torch sees {torch.cuda.device_count()} GPUs here; allowed: auto, cpu")
