"""Which outputs of a released classifier are the data's classes: never others without a word.

`columns_of` says or refuses it, `keep_columns` leaves these outputs alone, `Knows` is the demand of a run. timm and torch are imported
where they are needed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from vitlib.inputs.foreign.demands import is_here
from vitlib.inputs.models import classifiers, released
from vitlib.inputs.sources import Data, class_names
from vitlib.spec import SpecError

if TYPE_CHECKING:
    from torch import nn

Columns = Literal["all", "wnid"] | Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)]
WNID = re.compile(r"n\d{8}")
CURES = "'wnid' for class folders named by WordNet ids, the index of each class among the outputs, or a trained classifier"


def columns_of(name: str, columns: Columns, classes: list[str]) -> list[int]:
    """Places of the classes among the outputs of a released model.

    Args:
        columns: 'all' if the outputs are the classes, one by one; 'wnid' if the classes are named by WordNet ids; or the places.

    Raises:
        SpecError: if the outputs are not as many, are in another order, or lack a class.
    """
    outputs = released(name)["num_classes"]
    if columns == "wnid":
        return _by_wnid(name, classes)
    if columns == "all":
        return _every_one(name, outputs, classes)
    if len(columns) != len(classes) or len(set(columns)) < len(columns) or max(columns) >= outputs:
        allowed = f"for each of the data's {len(classes)} classes another one of the {outputs} outputs of {name}"
        raise SpecError(f"got {list(columns)[:20]}; allowed: {allowed}")
    return list(columns)


def keep_columns(module: nn.Module, columns: list[int]) -> nn.Module:
    """Leave a module these outputs, in this order; in place."""
    from torch import nn

    for layer in classifiers(module):
        layer.weight = nn.Parameter(layer.weight.detach()[columns])
        layer.bias = None if layer.bias is None else nn.Parameter(layer.bias.detach()[columns])
        layer.out_features = len(columns)
    module.num_classes = len(columns)
    return module


@dataclass(frozen=True)
class Knows:
    """A released model is asked about the data's classes."""

    field: str
    name: str
    columns: Columns
    data: Data

    def check(self, data_dir: Path) -> None:
        """Refuse data of other classes, where they are here.

        Raises:
            SpecError: naming both, and how the study can say which outputs are meant.
        """
        if not is_here(self.data, data_dir):
            return
        try:
            columns_of(self.name, self.columns, class_names(self.data, data_dir))
        except SpecError as error:
            raise SpecError(f"{self.field}: {error}") from None


def _every_one(name: str, outputs: int, classes: list[str]) -> list[int]:
    if len(classes) != outputs:
        raise SpecError(f"got 'all' for {name}, which tells {outputs} classes apart, not the data's {len(classes)}; allowed: {CURES}")
    if all(WNID.fullmatch(folder) for folder in classes) and _by_wnid(name, classes) != list(range(outputs)):
        raise SpecError(f"got 'all' for {name}, whose outputs are in another order than the data's classes; allowed: {CURES}")
    return list(range(outputs))


def _by_wnid(name: str, classes: list[str]) -> list[int]:
    import timm
    from timm.data import ImageNetInfo, infer_imagenet_subset

    subset = infer_imagenet_subset(timm.get_pretrained_cfg(name))
    if subset is None:
        raise SpecError(f"outputs of {name} are no classes of ImageNet; allowed: the index of each class, or a trained classifier")
    place = {label: index for index, label in enumerate(ImageNetInfo(subset).label_names())}
    if unknown := [folder for folder in classes if folder not in place]:
        raise SpecError(f"{', '.join(unknown[:5])} are no classes of {name} ({subset}); allowed: folders named by its WordNet ids")
    return [place[folder] for folder in classes]
