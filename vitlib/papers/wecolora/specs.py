"""WeCoLoRA: its settings, its runs, and which run fills which point of a table's grid."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from vitlib.inputs.foreign.demands import TrainsOn, Uses
from vitlib.inputs.models import Positive
from vitlib.inputs.sources import Data
from vitlib.methods import needs
from vitlib.recipe import Recipe, Seeds
from vitlib.spec import Demand, Part, RunSpec
from vitlib.teachers.runs import OnTeacher
from vitlib.teachers.teacher import Teacher

Start = Literal["zero_b", "random", "svd", "svd_shift"]
STEP_0 = ("zero_b", "svd", "svd_shift")  # starts whose step-0 loss is followed over ranks


def _stages(run: Distilled | StageTimes) -> needs.StagesFit:
    sizes = {"image_size": run.data.image_size, "channels": run.data.channels}
    return needs.StagesFit(run.teacher.model, **sizes, reduction=run.reduction, staged_epochs=run.staged_epochs, epochs=run.recipe.epochs)


class Copied(OnTeacher):
    """Weight copy alone: every `reduction`-th block of the teacher, nothing trained."""

    reduction: Annotated[int, Field(ge=1)]

    def demands(self) -> Iterator[Demand]:
        yield self.uses(needs.WEIGHT_COPY)


class Distilled(OnTeacher):
    """A weight-copied student whose adapters learn the teacher's features (equation 1), at once or in stages.

    Args:
        rank: of every adapter.
        lora_init: 'zero_b' (WeCoLoRA's: A random, B zero), 'random' (both), 'svd' (equations 2 and 3) or 'svd_shift' (the same,
            W shifted back).
        staged_epochs: epochs of each stage; stage k trains and runs blocks 1..k only. 0 is plain distillation.
        stage_targets: features compared within a stage: of all its blocks, or of its deepest alone.
        final_targets: features compared once all blocks train: the last pair, or all pairs.
        cached: keep the teacher's features of every image instead of computing them anew in each epoch; only without augmentation.
    """

    divisible: ClassVar[bool] = True

    recipe: Recipe
    seed: int
    reduction: Annotated[int, Field(ge=1)]
    rank: Positive
    lora_init: Start
    staged_epochs: Annotated[int, Field(ge=0)] = 0
    stage_targets: Literal["active", "deepest"] = "active"
    final_targets: Literal["last", "all"] = "last"
    cached: bool = False

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        augmented = self.recipe.augment != type(self.recipe.augment)() or not self.data.resident
        if self.cached and augmented:
            raise ValueError("cached=True with augmented or streamed images, whose features are new each time; allowed: False")
        self.recipe.require_unset("mixup", "cutmix", "label_smoothing", why="features are taught, not labels")
        self.recipe.require_unset("ema_decay", "drop_path", why="the student is the trained one, all of whose active blocks run")
        return self

    def demands(self) -> Iterator[Demand]:
        yield self.uses(needs.ADAPTERS)
        yield _stages(self)
        yield TrainsOn(self.data, self.recipe.batch_size)


class Downstream(OnTeacher):
    """Accuracy of a backbone on a labelled set: a linear probe of what its classifier would read, or fine-tuning of all weights.

    `student` None is the teacher itself. `keep_weights` stores a fine-tuned model, to be taken away.
    """

    version: ClassVar[int] = 2

    student: Copied | Distilled | None
    recipe: Recipe
    seed: int
    protocol: Literal["probe", "finetune"] = "probe"
    keep_weights: bool = False

    @model_validator(mode="after")
    def _nothing_ignored(self) -> Self:
        if self.keep_weights and self.protocol == "probe":
            raise ValueError("keep_weights=True with protocol='probe', whose backbone stays as it was; allowed: with protocol='finetune'")
        self.recipe.require_unset("ema_decay", "drop_path", why="the trained weights are evaluated, and all blocks run")
        if self.protocol == "probe":
            self.recipe.require_unset("augment", "repeats", why="features are computed once")
        return self

    def demands(self) -> Iterator[Demand]:
        yield self.uses()
        yield TrainsOn(self.data, self.recipe.batch_size)


class Spectra(OnTeacher):
    """Singular values of every matrix of every dropped block, and the step-0 loss of each start at several ranks."""

    reduction: Annotated[int, Field(ge=1)]
    ranks: Annotated[tuple[Positive, ...], Field(min_length=1)]
    images: Positive
    seed: int = 0

    def demands(self) -> Iterator[Demand]:
        yield self.uses(needs.ADAPTERS)


class Costs(RunSpec):
    """Parameters and multiply-accumulates by count and by formula, of teacher, merged student and adapters; images/s of the first two."""

    version: ClassVar[int] = 2
    timed: ClassVar[bool] = True

    teacher: Teacher
    image_size: int
    reduction: Annotated[int, Field(ge=1)]
    rank: Positive
    batch_size: Positive

    def demands(self) -> Iterator[Demand]:
        yield Uses("teacher", self.teacher.model, self.image_size, self.teacher.channels, (needs.ADAPTERS,))


class StageTimes(OnTeacher):
    """Training time plain and staged, with and without cached teacher features, in alternation in one process."""

    version: ClassVar[int] = 2
    timed: ClassVar[bool] = True

    recipe: Recipe
    reduction: Annotated[int, Field(ge=1)]
    rank: Positive
    staged_epochs: Positive
    repeats: Positive

    def demands(self) -> Iterator[Demand]:
        yield self.uses(needs.ADAPTERS)
        yield _stages(self)
        yield TrainsOn(self.data, self.recipe.batch_size)


class Settings(Part):
    """What the entry, a profile and a notebook's overrides may set.

    Args:
        shares: of the training images, that students are distilled on beside those that `data` says.
    """

    teacher: Teacher
    data: Data
    downstream: Annotated[dict[str, Data], Field(min_length=1)]
    seeds: Seeds
    reductions: Annotated[tuple[Annotated[int, Field(ge=2)], ...], Field(min_length=1)]
    shares: tuple[Annotated[float, Field(gt=0, le=1)], ...] = ()
    rank: Positive
    ranks: Annotated[tuple[Positive, ...], Field(min_length=1)]
    recipe: Recipe
    staged_epochs: Positive
    stage_targets: Literal["active", "deepest"]
    final_targets: Literal["last", "all"]
    cached: bool
    probe: Recipe
    protocol: Literal["probe", "finetune"]
    looked_at: Positive
    throughput_batch: Positive
    timing_data: Data | None = None  # None: `data`
    timing_repeats: Positive

    @property
    def seen(self) -> Data:
        """The images as teacher and student see them."""
        return self.teacher.normalised(self.data)

    def share_seen(self, share: float | None) -> Data:
        """The same of another share of the training images."""
        return self.seen if share is None else self.seen.changed(fraction=share, per_class=None)

    @property
    def sets(self) -> list[str]:
        return list(self.downstream)

    @property
    def first_set(self) -> list[str]:
        return self.sets[:1]

    @property
    def first_reduction(self) -> list[int]:
        return [self.reductions[0]]

    @property
    def other_reductions(self) -> list[int]:
        return list(self.reductions[1:])

    @property
    def first_seed(self) -> list[int]:
        return [self.seeds[0]]


def run_distilled(
    settings: Settings, *, lora_init: Start, schedule: str, reduction: int, seed: int, rank: int | None = None, share: float | None = None
) -> Distilled:
    """A student; schedules: plain, staged."""
    return Distilled(
        teacher=settings.teacher,
        data=settings.share_seen(share),
        recipe=settings.recipe,
        seed=seed,
        reduction=reduction,
        rank=rank or settings.rank,
        lora_init=lora_init,
        staged_epochs=settings.staged_epochs if schedule == "staged" else 0,
        stage_targets=settings.stage_targets,
        final_targets=settings.final_targets,
        cached=settings.cached,
    )


def run_accuracy(
    settings: Settings, *, dataset: str, seed: int, lora_init: Start, schedule: str, reduction: int, **changed: float
) -> Downstream:
    """Table 1: a distilled student on one of the downstream sets; `changed`: its rank, or its share of the training images."""
    student = run_distilled(settings, lora_init=lora_init, schedule=schedule, reduction=reduction, seed=seed, **changed)
    return _downstream(settings, student, seed, dataset)


def run_reference(settings: Settings, *, row: str, reduction: int, seed: int, dataset: str) -> Downstream:
    """Table 1: the teacher itself, or weight copy alone."""
    student = Copied(teacher=settings.teacher, data=settings.seen, reduction=reduction) if row == "weight copy" else None
    return _downstream(settings, student, seed, dataset)


def run_spectra(settings: Settings, *, reduction: int) -> Spectra:
    return Spectra(teacher=settings.teacher, data=settings.seen, reduction=reduction, ranks=settings.ranks, images=settings.looked_at)


def run_costs(settings: Settings, *, reduction: int) -> Costs:
    return Costs(
        teacher=settings.teacher,
        image_size=settings.data.image_size,
        reduction=reduction,
        rank=settings.rank,
        batch_size=settings.throughput_batch,
    )


def run_times(settings: Settings, *, reduction: int) -> StageTimes:
    return StageTimes(
        teacher=settings.teacher,
        data=settings.teacher.normalised(settings.timing_data or settings.data),
        recipe=settings.recipe,
        reduction=reduction,
        rank=settings.rank,
        staged_epochs=settings.staged_epochs,
        repeats=settings.timing_repeats,
    )


def _downstream(settings: Settings, student: Copied | Distilled | None, seed: int, dataset: str) -> Downstream:
    return Downstream(
        teacher=settings.teacher,
        student=student,
        data=settings.teacher.normalised(settings.downstream[dataset]),
        recipe=settings.probe,
        seed=seed,
        protocol=settings.protocol,
    )
