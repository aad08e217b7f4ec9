"""What must hold of models and data before a run is computed: said by its spec, checked when the study is loaded.

A demand is a frozen value with `check(data_dir)`, so that equal demands of many runs are checked once. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from vitlib.inputs.foreign.architecture import Architecture, architecture
from vitlib.inputs.models import Model, Timm
from vitlib.inputs.pictures import AbsentError, DataError
from vitlib.inputs.sources import Data, class_names, fingerprint, require_batch, training_count
from vitlib.spec import SpecError


@dataclass(frozen=True)
class Need:
    """Something that a method needs of a model: in words, as 'no WHAT', and whether an architecture has it."""

    what: str
    met: Callable[[Architecture], bool]


@dataclass(frozen=True)
class Needs:
    """What a method needs; `otherwise` says what can be done with a model that lacks it."""

    method: str
    all: tuple[Need, ...]
    otherwise: str = "another model"


@dataclass(frozen=True)
class Uses:
    """A run computes with a model, by methods with needs of their own.

    Args:
        field: of the run, for the message.
    """

    field: str
    model: Model
    image_size: int
    channels: int
    needs: tuple[Needs, ...] = ()
    drop_path: float = 0.0

    def check(self, data_dir: Path) -> None:
        """Refuse a model that cannot be built for these images, or lacks what a method needs.

        Raises:
            SpecError: naming the field, the model, what it lacks and which method needs it.
        """
        try:
            found = architecture(self.model, self.image_size, self.channels, self.drop_path)
        except SpecError as error:
            raise SpecError(f"{self.field}: {error}") from None
        for needs in self.needs:
            if missing := [need.what for need in needs.all if not need.met(found)]:
                name = self.model.name if isinstance(self.model, Timm) else repr(self.model)
                raise SpecError(
                    f"{self.field}: got {name} ({found.kind}), which has no {' and no '.join(missing)}; "
                    f"{needs.method} needs it; allowed: {needs.otherwise}"
                )


@dataclass(frozen=True)
class TrainsOn:
    """A run trains on batches of the training images, but for a share of them."""

    data: Data
    batch_size: int
    held_out: float = 0.0

    def check(self, data_dir: Path) -> None:
        """Refuse a batch larger than the set, where the set is here.

        Raises:
            DataError: naming both numbers.
        """
        if not is_here(self.data, data_dir):
            return
        require_batch(self.batch_size, training_count(self.data, data_dir, self.held_out), self.data.source)


@dataclass(frozen=True)
class Tells:
    """A run's classifier tells so many classes apart."""

    field: str
    classes: int
    data: Data

    def check(self, data_dir: Path) -> None:
        """Refuse another number of classes than that of the data, where these are here.

        Raises:
            DataError: naming both numbers.
        """
        if is_here(self.data, data_dir) and (count := len(class_names(self.data, data_dir))) != self.classes:
            raise DataError(f"{self.field}: got {self.classes}, but {self.data.source} has {count} classes; allowed: {count}")


@dataclass(frozen=True)
class SameClasses:
    """A second test set has the classes of the first, whose labels they share."""

    data: Data
    other: Data

    def check(self, data_dir: Path) -> None:
        """Refuse other names, but for folders that are numbered (as ImageNet-V2's), which must be as many.

        Raises:
            DataError: naming both sets.
        """
        if not (is_here(self.data, data_dir) and is_here(self.other, data_dir)):
            return
        names, others = class_names(self.data, data_dir), class_names(self.other, data_dir)
        numbered = others == [str(number) for number in range(len(names))]
        if names != others and not numbered:
            odd = ", ".join(sorted({*names} ^ {*others})[:5]) or f"{len(others)} instead of {len(names)}"
            which = f"classes of {self.other.source} are not those of {self.data.source} ({odd})"
            raise DataError(f"second_test: {which}; allowed: the same, or second_test = null")


def is_here(data: Data, data_dir: Path) -> bool:
    """Whether the images lie on this machine; one that only shows stored results may do without.

    Raises:
        DataError: for images that are here and cannot be read.
    """
    try:
        return bool(fingerprint(data.source, data_dir))
    except AbsentError:
        return False
