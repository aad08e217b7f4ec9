"""Whether a study is measured on the document's own images: only then does a difference from the published numbers mean something."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any

from vitlib.inputs.sources import Data
from vitlib.papers.entries import merged
from vitlib.papers.grid import with_teachers
from vitlib.spec import Part, RunSpec

if TYPE_CHECKING:
    from vitlib.runs.study import Results


def shares_data(results: Results) -> bool:
    """Whether every set of the settings is one of profile `paper`, which describes the document: the same images, as many, as large.

    Where the files lie (`folder/cifar10` or `torch/cifar10`) does not count, nor how images are held and normalised.
    """
    entry, settings = results.study.entry, results.study.settings
    documents_own = type(settings).parse(with_teachers(merged(entry["base"], entry["profile"]["paper"])))
    return _sets(settings) <= _sets(documents_own)


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
