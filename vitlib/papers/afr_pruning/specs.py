"""AFR pruning: its settings, its runs, and which run fills which point of a table's grid."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from vitlib.grid.stand_ins import require_stand_ins
from vitlib.inputs.foreign.demands import TrainsOn, Uses
from vitlib.inputs.models import Positive
from vitlib.inputs.sources import Data
from vitlib.methods import needs
from vitlib.recipe import Recipe, Seeds
from vitlib.spec import Demand, Part
from vitlib.teachers.runs import OnTeacher
from vitlib.teachers.teacher import Teacher

CRITERIA = ("snip", "refer", "afr", "magnitude", "random")
Criterion = Literal["snip", "refer", "afr", "magnitude", "random"]
Scope = Literal["global", "layer"]
Sparsity = Annotated[float, Field(ge=0, lt=1)]


class Pruning(Part):
    """How weights are scored and chosen; the document is silent on most of it.

    Args:
        per_class, at_least, at_most: N, the number of pruning samples, is per_class x classes, clipped; balanced over classes.
        sample_seed: of the drawing of these samples, with the run's own seed: each seed has samples, and so a mask, of its own.
        layers: whose outputs ReFer's feature matrices are: the blocks', or those of every qkv, proj, fc1 and fc2 (48 in ViT-B).
        rows: of a feature matrix: a class token each image, the mean patch, every token, or a matrix for each image.
        center: take the mean over rows from the features first.
        standardised: over all weights together, or matrix by matrix.
        scale: what is standardised: scores ('z', the document's), their ranks, or their logarithms.
        threshold: one for all weights, one a matrix, or the two largest of every four neighbours in a row (sparsity 0.5).
        include_patch_embed: score and prune the patch embedding's kernel too.
    """

    per_class: Positive = 10
    at_least: Positive = 100
    at_most: Positive = 768
    sample_seed: Annotated[int, Field(ge=0)] = 0
    layers: Literal["blocks", "linears"] = "blocks"
    rows: Literal["class", "patch_mean", "tokens", "images"] = "class"
    center: bool = False
    standardised: Scope = "global"
    scale: Literal["z", "rank", "log"] = "z"
    threshold: Literal["global", "layer", "2:4"] = "global"
    include_patch_embed: bool = False

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.at_most < self.at_least:
            raise ValueError(f"at_most={self.at_most} is less than at_least={self.at_least}; allowed: at least that")
        return self

    def samples(self, classes: int) -> int:
        return min(max(self.per_class * classes, self.at_least), self.at_most)

    def require_sparsities(self, **sparsities: Sequence[float]) -> None:
        """Refuse sparsities, given by the names of their fields, that two of every four cannot have.

        Raises:
            ValueError: naming the first such field, its value and what is allowed.
        """
        odd = [f"{name}={value}" for name, values in sparsities.items() for value in values if value not in (0.0, 0.5)]
        if self.threshold == "2:4" and odd:
            raise ValueError(f"{odd[0]} with pruning.threshold='2:4'; allowed: 0.5, and 0 for the dense model")


class Pruned(OnTeacher):
    """A teacher pruned once and fine-tuned, its pruned weights staying zero. Sparsity 0 is the dense model.

    The spectra that it stores are of the blocks' outputs, not centred, whatever ReFer's settings are; their rows are those of the settings.
    The spread is measured on the pruning samples and, held out, on as many test images, which no mask was scored on.
    `keep_weights` stores the model and its masks, to be taken away.
    """

    version: ClassVar[int] = 3

    recipe: Recipe
    seed: int
    criterion: Criterion
    sparsity: Sparsity
    pruning: Pruning
    keep_weights: bool = False

    @model_validator(mode="after")
    def _sparsity_fits(self) -> Self:
        self.pruning.require_sparsities(sparsity=[self.sparsity])
        return self

    def demands(self) -> Iterator[Demand]:
        yield _prunes(self)
        yield TrainsOn(self.data, self.recipe.batch_size)


class Diagnosis(OnTeacher):
    """Scores of every criterion side by side: densities by matrix over sparsities, rank correlations, tails."""

    version: ClassVar[int] = 2

    seed: int
    pruning: Pruning
    sparsities: Annotated[tuple[Sparsity, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _sparsities_fit(self) -> Self:
        self.pruning.require_sparsities(sparsities=self.sparsities)
        return self

    def demands(self) -> Iterator[Demand]:
        yield _prunes(self)


def _prunes(run: Pruned | Diagnosis) -> Uses:
    rows = [needs.CLASS_ROWS] if run.pruning.rows == "class" else []
    layers = [needs.LINEAR_ROWS] if run.pruning.layers == "linears" else []
    return run.uses(needs.PRUNING, *rows, *layers)


class Settings(Part):
    """What the entry, a profile and a notebook's overrides may set.

    Args:
        generic, fine: data sets of Tables 2 and 1; `stands_for` names the document's set whose place each takes.
        curve: sparsities at which densities are looked at.
    """

    teachers: Annotated[dict[str, Teacher], Field(min_length=1)]
    generic: Annotated[dict[str, Data], Field(min_length=1)]
    fine: Annotated[dict[str, Data], Field(min_length=1)]
    stands_for: dict[str, str]
    seeds: Seeds
    sparsities: Annotated[tuple[Sparsity, ...], Field(min_length=1)]
    fine_sparsity: Sparsity
    recipe: Recipe
    fine_recipe: Recipe
    pruning: Pruning
    curve: Annotated[tuple[Sparsity, ...], Field(min_length=2)]

    @model_validator(mode="after")
    def _sets_have_names_of_their_own(self) -> Self:
        if both := set(self.generic) & set(self.fine):
            raise ValueError(f"generic and fine share {', '.join(sorted(both))}; allowed: a name for each set")
        require_stand_ins(self.stands_for, generic=self.generic, fine=self.fine)
        return self

    @model_validator(mode="after")
    def _sparsities_fit(self) -> Self:
        self.pruning.require_sparsities(sparsities=self.sparsities, fine_sparsity=[self.fine_sparsity], curve=self.curve)
        return self

    @property
    def data(self) -> Data:
        return next(iter(self.generic.values()))

    @property
    def sets(self) -> dict[str, Data]:
        return {**self.generic, **self.fine}

    @property
    def first_teacher(self) -> list[str]:
        return list(self.teachers)[:1]

    @property
    def first_generic(self) -> list[str]:
        return list(self.generic)[:1]


def run_generic(settings: Settings, *, criterion: Criterion, teacher: str, sparsity: float, dataset: str, seed: int) -> Pruned:
    """Table 2."""
    return _pruned(settings, criterion, teacher, sparsity, dataset, seed)


def run_fine(settings: Settings, *, criterion: Criterion, teacher: str, dataset: str, seed: int) -> Pruned:
    """Table 1."""
    return _pruned(settings, criterion, teacher, settings.fine_sparsity, dataset, seed)


def run_dense(settings: Settings, *, teacher: str, dataset: str, seed: int) -> Pruned:
    """The same fine-tuning without pruning."""
    return _pruned(settings, "magnitude", teacher, 0.0, dataset, seed)


def run_diagnosis(settings: Settings, *, teacher: str, dataset: str) -> Diagnosis:
    return Diagnosis(
        teacher=settings.teachers[teacher],
        data=_data(settings, teacher, dataset),
        seed=settings.seeds[0],
        pruning=settings.pruning,
        sparsities=settings.curve,
    )


def _pruned(settings: Settings, criterion: Criterion, teacher: str, sparsity: float, dataset: str, seed: int) -> Pruned:
    return Pruned(
        teacher=settings.teachers[teacher],
        data=_data(settings, teacher, dataset),
        recipe=settings.recipe if dataset in settings.generic else settings.fine_recipe,
        seed=seed,
        criterion=criterion,
        sparsity=sparsity,
        pruning=settings.pruning,
        keep_weights=criterion == "afr" and seed == settings.seeds[0],
    )


def _data(settings: Settings, teacher: str, dataset: str) -> Data:
    """The set with the teacher's own normalisation, which differs between released models."""
    return settings.teachers[teacher].normalised(settings.sets[dataset])
