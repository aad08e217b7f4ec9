"""Which images runs are about, how they are normalised, and how a stamp says so."""

from __future__ import annotations

from collections.abc import Iterable

from vitlib.inputs.models import Timm
from vitlib.inputs.sources import Data
from vitlib.spec import RunSpec
from vitlib.teachers.teacher import Teacher

MANY = 3  # sets that a stamp names; of more it says the number
Images = tuple[str, int]  # source and size in pixels


def images_of(specs: Iterable[RunSpec]) -> set[Images]:
    """The sets of some runs; of a run without one of its own, its parents'."""
    return {(data.source, data.image_size) for spec in specs for data in _data_of(spec)}


def normalised_otherwise(specs: Iterable[RunSpec]) -> bool:
    """Whether some model sees images by a mean and standard deviation that its own were not normalised with: the data's word goes."""
    runs = {run.id: run for spec in specs for run in spec.family()}
    pairs = ((teacher, data) for run in runs.values() for teacher in _teachers_of(run) for data in _data_of(run))
    return any(data.mean is not None and data != _by_its_own(teacher, data) for teacher, data in pairs)


def in_words(images: set[Images]) -> str:
    """For instance `digits, 8 and 12 px`."""
    sizes: dict[str, set[int]] = {}
    for source, pixels in sorted(images):
        sizes.setdefault(source, set()).add(pixels)
    if len(sizes) > MANY:
        sizes = {f"{len(sizes)} image sets": {pixels for _, pixels in images}}
    return "; ".join(f"{source[:40]}, {' and '.join(map(str, sorted(pixels)))} px" for source, pixels in sizes.items())


def _by_its_own(teacher: Teacher, data: Data) -> Data:
    return teacher.normalised(data.changed(mean=None, std=None))


def _teachers_of(spec: RunSpec) -> list[Teacher]:
    values = [getattr(spec, name) for name in type(spec).model_fields]
    released = [Teacher(origin=value) for value in values if isinstance(value, Timm) and value.pretrained]
    return released + [value for value in values if isinstance(value, Teacher)]


def _data_of(spec: RunSpec) -> list[Data]:
    values = [getattr(spec, name) for name in type(spec).model_fields]
    own = [value for value in values if isinstance(value, Data)]
    return own or next((found for parent in spec.parents() if (found := _data_of(parent))), [])
