"""Which images runs and settings are about, how they are normalised, and how a stamp says so."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from typing import Any

from vitlib.inputs.models import Timm
from vitlib.inputs.sources import Data
from vitlib.spec import Part, RunSpec, families
from vitlib.teachers.teacher import Teacher

MANY = 3  # sets that a stamp names; of more it says the number
Images = tuple[str, int]  # source and size in pixels


def images_of(specs: Iterable[RunSpec]) -> set[Images]:
    """The sets of some runs; of a run without one of its own, its parents'."""
    return {(data.source, data.image_size) for spec in specs for data in _data_of(spec)}


def normalised_otherwise(specs: Iterable[RunSpec]) -> bool:
    """Whether some model sees images by a mean and standard deviation that its own were not normalised with: the data's word goes."""
    runs = families(specs).values()
    pairs = ((teacher, data) for run in runs for teacher in _teachers_of(run) for data in _data_of(run))
    return any(data.mean is not None and data != _by_its_own(teacher, data) for teacher, data in pairs)


def are_among(settings: Part, others: Part) -> bool:
    """Whether the others have every set of the settings: the same images, as many, as large.

    Where the files lie (`folder/cifar10` or `torch/cifar10`) does not count, nor how images are held and normalised.
    """
    return _sets(settings) <= _sets(others)


def may_be_among(settings: Part, fields: Any) -> bool:
    """Whether settings read from these fields might have every set: all are named there. Reading them may import much."""
    return {name for name, *_ in _sets(settings)} <= _named(fields)


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


def _named(fields: Any) -> set[str]:
    if isinstance(fields, dict):
        own = {fields["source"].rpartition("/")[2]} if isinstance(fields.get("source"), str) else set()
        return own.union(*map(_named, fields.values()))
    return set().union(*map(_named, fields)) if isinstance(fields, list) else set()


def _sets(value: Any) -> set[tuple[Any, ...]]:
    """What is compared of the data anywhere in settings; those that a teacher was pretrained on are its own."""
    if isinstance(value, Data):
        return {(value.source.rpartition("/")[2], value.image_size, value.fraction, value.per_class, value.shift)}
    if isinstance(value, RunSpec):
        return set()
    if isinstance(value, Part):
        value = [getattr(value, name) for name in type(value).model_fields]
    if isinstance(value, dict):
        value = list(value.values())
    return set(chain.from_iterable(map(_sets, value))) if isinstance(value, list | tuple) else set()
