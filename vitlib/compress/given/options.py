"""Every keyword of a call: where and from what, how to train, and what the method itself has; an unknown one names the nearest."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from vitlib.messages import brief, nearest
from vitlib.recipe import MOST, Augment, Recipe
from vitlib.runs.plan import Executor
from vitlib.spec import Part, SpecError

KNOBS = frozenset(Recipe.model_fields)


class Options(Part):
    """What every door takes beside its method's own keywords.

    Args:
        architecture: of a checkpoint file: timm's name of the model whose weights it holds.
        key: where a file holds several networks, the one to take ('model_ema').
        pretrained: of a timm name: released weights; False begins from a network as it is drawn.
        image_size: pixels; None is the model's own size.
        mean, std: that the model was trained with, by channel; None is what timm says of it.
        test_share: of each class of a folder that is not split; `split_seed` says which.
        seed: of whatever is drawn: classifier, order, augmentation.
        read_only: compute nothing; what is not stored is missing from the summary.
        results_dir, data_dir: see `vitlib.paths`.
    """

    architecture: str = ""
    key: str = ""
    pretrained: bool = True
    image_size: Annotated[int, Field(ge=4, le=1024)] | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[Annotated[float, Field(gt=0)], ...] | None = None
    test_share: Annotated[float, Field(gt=0, lt=1)] = 0.2
    split_seed: Annotated[int, Field(ge=0, le=MOST)] = 0
    seed: Annotated[int, Field(ge=0, le=MOST)] = 0
    device: str = "auto"
    executor: Executor = "inline"
    read_only: bool = False
    results_dir: str = ""
    data_dir: str = ""


def sorted_out(door: str, keywords: dict[str, Any], own: frozenset[str]) -> tuple[Options, dict[str, Any], dict[str, Any]]:
    """Options, knobs of the recipe, and the method's own keywords.

    Raises:
        SpecError: for a keyword that none of them has, naming the nearest; for a bad value of an option.
    """
    allowed = {*Options.model_fields, *KNOBS, *own}
    if unknown := [name for name in keywords if name not in allowed]:
        raise SpecError(f"{door}: unknown keyword {unknown[0]!r}{nearest(unknown[0], sorted(allowed))}")
    for name in ("finetune", "augment"):
        if not isinstance(keywords.get(name, {}), dict | Augment):
            raise SpecError(f"{name}: got {brief(keywords[name])}; allowed: a table, as {name}={{...}}")
    if unknown := [name for name in keywords.get("finetune", {}) if name not in KNOBS]:
        raise SpecError(f"{door}: finetune has an unknown keyword {unknown[0]!r}{nearest(unknown[0], sorted(KNOBS))}")
    plain = {name: _plain(value) for name, value in keywords.items()}
    options = Options.made(**{name: value for name, value in plain.items() if name in Options.model_fields})
    methods = {name: value for name, value in plain.items() if name in own}
    return options, {name: value for name, value in plain.items() if name in KNOBS - own}, methods


def _plain(value: Any) -> Any:
    """Paths as text, lists as tuples: what fields hold."""
    if hasattr(value, "__fspath__"):
        return str(value)
    return tuple(value) if isinstance(value, list) else value
