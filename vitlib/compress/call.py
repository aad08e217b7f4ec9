"""One call: its keywords sorted out, its photos and its place found, its runs checked and computed, or read where they are stored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from vitlib import paths
from vitlib.compress.back.result import Compressed
from vitlib.compress.given.models import require_weights, teacher_of
from vitlib.compress.given.options import Options, sorted_out
from vitlib.compress.given.photos import placed, require_classes
from vitlib.grid.cells import titled
from vitlib.inputs.sources import Data, check, fingerprint, training_count
from vitlib.papers.comparison.left.measured import measurements
from vitlib.runs.execute import execute
from vitlib.runs.plan import Executor, Mode, Place
from vitlib.runs.reading.damage import computed_again, otherwise
from vitlib.runs.reading.stored import Stored
from vitlib.runs.store import Store
from vitlib.spec import RunSpec, families
from vitlib.teachers.teacher import Teacher

TEACHERS = ("teacher", "cl", "mim")  # fields of runs
INPUTS = ".inputs"  # below the results: links to photos and files of weights
LARGEST = 2**32  # bytes of decoded images that are held; larger sets are streamed


@dataclass(frozen=True)
class Call:
    """What is known before a method's runs are described.

    Attributes:
        knobs: of the recipe, as given; `own` are the method's own keywords.
        place: whose data folder is the one of links.
    """

    options: Options
    knobs: dict[str, Any]
    own: dict[str, Any]
    place: Place
    photos: Any

    @classmethod
    def of(cls, door: str, photos: Any, keywords: dict[str, Any], own: frozenset[str]) -> Call:
        """Raises SpecError for a keyword that nobody knows."""
        fingerprint.cache_clear()
        options, knobs, methods = sorted_out(door, keywords, own)
        results = paths.results_dir(options.results_dir)
        return cls(options, knobs, methods, Place(results, results / INPUTS, options.device), photos)

    def teacher(self, model: Any) -> Teacher:
        return teacher_of(model, self.place.data_dir, self.options)

    def data(self, image_size: int) -> tuple[Data, str]:
        """The photos at a size, with their fingerprint and the normalisation that was asked for, and where its test photos come from.

        Raises:
            DataError: for photos that are not there, cannot be read, or are all of one class.
        """
        size, inputs = self.options.image_size or image_size, self.place.data_dir
        own = {"test_share": self.options.test_share, "seed": self.options.split_seed}
        source, where = placed(self.photos, inputs, Path(paths.data_dir(self.options.data_dir)), **own)
        data = Data.made(source=source, image_size=size, mean=self.options.mean, std=self.options.std)
        require_classes(data, inputs)
        check(data, inputs)
        if source.startswith("folder/") and 3 * size**2 * training_count(data, inputs) > LARGEST:
            data = data.changed(resident=False)
        return data.pinned(inputs), where

    def images(self, data: Data) -> int:
        """Training photos."""
        return training_count(data, self.place.data_dir)

    def stored(self, runs: list[RunSpec], titles: Mapping[str, str]) -> dict[str, Stored]:
        """See `computed`."""
        return computed(runs, self.place, self.options.executor, "read-only" if self.options.read_only else "cached", titles)

    def compressed(self, runs: dict[str, RunSpec], notes: list[str]) -> Compressed:
        """The rows, computed and measured."""
        specs = [*runs.values(), *(spec for run in runs.values() for spec in measurements(run).values())]
        return Compressed(runs, self.stored(specs, in_words(runs)), self.place, tuple(notes))


def in_words(rows: dict[str, RunSpec]) -> dict[str, str]:
    """Titles by id of the rows' runs, of what is measured of them, and of what they start from."""
    measured = ((f"{name}, {what}", spec) for name, run in rows.items() for what, spec in measurements(run).items())
    return titled([*rows.items(), *measured])


def computed(
    runs: list[RunSpec],
    place: Place,
    executor: Executor = "inline",
    mode: Mode = "cached",
    titles: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, Stored]:
    """The runs, computed where they are missing: a killed call goes on, and a second one reads them.

    Raises:
        SpecError: for a model or photos that a run cannot be computed with, before anything is.
    """
    family = families(runs)
    for demand in dict.fromkeys(demand for member in family.values() for demand in member.demands()):
        demand.check(place.data_dir)
    if mode != "force":
        found = execute(runs, place, mode="read-only")
        if mode == "read-only":
            return found
        if all(run.id in found for run in runs):
            store, by_id = Store(place.results_dir, writable=False), {run.id: run for run in runs}
            return otherwise(found, computed_again(store, by_id, lambda run: computed([run], place, executor, mode, titles)[run.id]))
    for value in dict.fromkeys(getattr(run, name) for run in family.values() for name in type(run).model_fields if name in TEACHERS):
        if isinstance(value, Teacher):
            require_weights(value)
    return execute(runs, place, executor=executor, mode="force" if mode == "force" else "retry", titles=titles)
