"""Distillation from two self-supervised teachers: its settings, its runs, and which run fills which point of a table's grid."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from vitlib.grid.stand_ins import require_stand_ins
from vitlib.inputs.foreign.architecture import architecture
from vitlib.inputs.foreign.demands import Needs, TrainsOn, Uses
from vitlib.inputs.models import Model, Positive, Vit
from vitlib.inputs.sources import Data
from vitlib.methods import needs
from vitlib.papers.teachers.measure import AttentionDistances
from vitlib.recipe import NonNegative, Recipe, Seeds, WholeBatches
from vitlib.spec import Demand, Part, RunSpec
from vitlib.teachers.runs import OnTeacher
from vitlib.teachers.teacher import Teacher

Protocol = Literal["finetune", "linear", "partial1"]
# What a teacher's classifier reads: the model's own pooling, or, through its own norms, the class token or the patch tokens' mean.
Readout = Literal["own", "class", "mean"]
Weight = Annotated[float, Field(ge=0, le=1)]
Scale = Annotated[float, Field(gt=0)]


class Readouts(Part):
    """What the classifier of each teacher reads."""

    cl: Readout = "own"
    mim: Readout = "own"


class AttentionTerm(Part):
    """Which maps of the teachers teach attention (equations 2 and 3).

    Args:
        blocks: counted from the end, 1 is the last; student and teachers are paired from there, and the term is the mean over the blocks.
            The teachers' blocks before the last are frozen, so that their maps stay those of pretraining.
        heads: 'batch' takes each teacher's surest head of a block in every batch anew; 'fixed' chooses it once, before training, which
            may go stale in the last block, because that one trains.
        calibration_images: number of training images, evenly spaced and not augmented, that a fixed choice is made on.
        tokens: queries and keys of a map: 'all', or 'patches', with the rows normalised over the patches.
    """

    blocks: Annotated[tuple[Positive, ...], Field(min_length=1)] = (1,)
    heads: Literal["batch", "fixed"] = "batch"
    calibration_images: Positive = 256
    tokens: Literal["all", "patches"] = "all"

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if any(one >= other for one, other in pairwise(self.blocks)):
            raise ValueError(f"blocks={list(self.blocks)}; allowed: increasing numbers, each block once")
        default = type(self).model_fields["calibration_images"].default
        if self.heads == "batch" and self.calibration_images != default:
            raise ValueError(f"calibration_images={self.calibration_images} with heads='batch', which needs none; allowed: {default}")
        return self

    @property
    def where(self) -> str:
        """The blocks in words."""
        return {(1,): "the last block"}.get(self.blocks, f"each of the blocks {', '.join(map(str, self.blocks))} from the end")


class Tuned(OnTeacher):
    """A teacher adapted to labels: all weights, the classifier alone, or the last block, final norm and classifier (Partial-1).

    Args:
        readout: what the classifier reads.
    """

    version: ClassVar[int] = 4

    recipe: Recipe
    seed: int
    protocol: Protocol
    readout: Readout = "own"

    @model_validator(mode="after")
    def _frozen_blocks_run_whole(self) -> Self:
        if self.protocol != "finetune":
            self.recipe.require_unset("drop_path", why="frozen blocks run whole")
        return self

    @property
    def model(self) -> Model:
        """The architecture."""
        return self.teacher.model

    def demands(self) -> Iterator[Demand]:
        trained = {"finetune": (), "linear": (needs.LINEAR,), "partial1": (needs.LAST_BLOCKS,)}[self.protocol]
        yield self.uses(*trained, *needs.READOUTS[self.readout])
        yield TrainsOn(self.data, self.recipe.batch_size)


class Taught(RunSpec):
    """A student from scratch with frozen, fine-tuned teachers: cross-entropy and the mean of KL(teacher || student); none: the baseline.

    `keep_weights` stores the student, to be taken away.
    """

    version: ClassVar[int] = 3

    student: Vit
    data: Data
    recipe: Recipe
    seed: int
    teachers: tuple[Tuned, ...] = ()
    keep_weights: bool = False

    def demands(self) -> Iterator[Demand]:
        yield _uses(self, "student", self.student)
        yield TrainsOn(self.data, self.recipe.batch_size)


class Joint(RunSpec):
    """Student and both teachers' last blocks and classifiers trained at once (equation 4).

    Args:
        cl, mim: the contrastive and the masked-image teacher.
        lambda_1: share of the contrastive teacher in the output term (equation 1).
        lambda_2: its share in the attention term (equation 3).
        output_weight, attention_weight: of the two terms; the document's are 1.
        attention: which maps of the teachers are taught.
        readout: what the teachers' classifiers read.
        output_ramp_epochs: epochs over which the output term's weight grows linearly from 0; 0 is none, the document's.
        teacher_lr_scale: multiplies the learning rate of what is trained of the teachers, at every step.
        keep_weights: store the student, to be taken away.
    """

    version: ClassVar[int] = 5

    student: Vit
    cl: Teacher
    mim: Teacher
    data: Data
    recipe: WholeBatches  # the heads are chosen over it
    seed: int
    lambda_1: Weight
    lambda_2: Weight
    output_weight: NonNegative = 1.0
    attention_weight: NonNegative = 1.0
    attention: AttentionTerm = AttentionTerm()
    readout: Readouts = Readouts()
    output_ramp_epochs: NonNegative = 0.0
    teacher_lr_scale: Scale = 1.0
    keep_weights: bool = False

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        self.recipe.require_unset("layer_decay", why="each of the three networks has one rate")
        if self.output_ramp_epochs and not self.output_weight:
            raise ValueError(f"output_ramp_epochs={self.output_ramp_epochs} with output_weight=0.0, so that nothing grows; allowed: 0.0")
        _require_reach(self)
        return self

    def demands(self) -> Iterator[Demand]:
        yield _uses(self, "student", self.student, needs.ATTENTION_TERM, needs.TWO_HEADS)
        student = architecture(self.student, self.data.image_size, self.data.channels)
        maps = needs.maps_like(student, self.attention.tokens == "patches", self.attention.blocks[-1])
        for name in ("cl", "mim"):
            readout = needs.READOUTS[getattr(self.readout, name)]
            yield _uses(self, name, getattr(self, name).model, needs.ATTENTION_TERM, needs.LAST_BLOCKS, *readout, maps)
        yield TrainsOn(self.data, self.recipe.batch_size)


class AttentionMaps(OnTeacher):
    """Attention of every block and head of a teacher on some evenly spaced test images."""

    images: Positive

    def demands(self) -> Iterator[Demand]:
        yield self.uses(needs.ATTENTION_MAPS)


def _uses(run: Taught | Joint, field: str, model: Model, *all_needs: Needs) -> Uses:
    return Uses(field, model, run.data.image_size, run.data.channels, all_needs)


class Settings(Part):
    """What the entry, a profile and a notebook's overrides may set.

    Args:
        references: further models of Figure 1.
        downstream: the sets of Figure 3; `stands_for` names the document's set whose place each takes.
        downstream_recipe, downstream_finetune: of its students and of their teachers, where small sets take more epochs; None: the same.
        distance_data: the images of Figure 1.
        attention, readout, output_ramp_epochs, teacher_lr_scale: of the joint training, see `Joint`; `readout` also of Table 1.
    """

    cl: Teacher
    mim: Teacher
    references: dict[str, Teacher]
    student: Vit
    data: Data
    downstream: dict[str, Data]
    stands_for: dict[str, str]
    distance_data: Data
    seeds: Seeds
    lambda_1: Weight
    lambda_2: Weight
    recipe: Recipe
    finetune: Recipe
    linear: Recipe
    partial1: Recipe
    downstream_recipe: Recipe | None = None
    downstream_finetune: Recipe | None = None
    looked_at: Positive
    shown: Positive
    attention: AttentionTerm = AttentionTerm()
    readout: Readouts = Readouts()
    output_ramp_epochs: NonNegative = 0.0
    teacher_lr_scale: Scale = 1.0

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        _require_reach(self)
        require_stand_ins(self.stands_for, downstream=self.downstream)
        if taken := {*self.teachers, "untrained"} & set(self.references):
            raise ValueError(f"references: {', '.join(sorted(taken))}; allowed: other names, these models are always in Figure 1")
        for where, data in {"data": self.data, **{f"downstream.{name}": data for name, data in self.downstream.items()}}.items():
            (mean, std), theirs = (teacher.normalised(data).normalisation for teacher in (self.cl, self.mim))
            if (mean, std) != theirs:
                raise ValueError(
                    f"mim: pretrained with mean {theirs[0]} and std {theirs[1]}, cl with {mean} and {std}; one batch serves all networks, "
                    f"so allowed: the same, or a mean and std of {where}, which then hold for both"
                )
        for recipe in (self.recipe, self.finetune, self.linear, self.partial1, self.downstream_recipe, self.downstream_finetune):
            if recipe:
                recipe.require_unset("ema_decay", why="the trained weights are evaluated")
        return self

    @property
    def teachers(self) -> dict[str, Teacher]:
        return {"cl": self.cl, "mim": self.mim}

    @property
    def models(self) -> dict[str, Teacher]:
        """All of Figure 1: the two teachers, the references, and the first teacher untrained."""
        return {**self.teachers, **self.references, "untrained": self.cl.untrained()}


def _require_reach(spec: Joint | Settings) -> None:
    """Refuse the attention of blocks that a network does not have, and a ramp that is longer than the training."""
    models = {"student": spec.student, "cl": spec.cl.model, "mim": spec.mim.model}
    depth, shallowest = min((model.depth, name) for name, model in models.items() if isinstance(model, Vit))
    if spec.attention.blocks[-1] > depth:
        raise ValueError(f"attention.blocks={list(spec.attention.blocks)}; allowed: at most {depth}, the depth of {shallowest}")
    if spec.output_ramp_epochs > spec.recipe.epochs:
        raise ValueError(f"output_ramp_epochs={spec.output_ramp_epochs}; allowed: at most recipe.epochs={spec.recipe.epochs}")


ABLATIONS = {
    "lambda_1 = 0": {"lambda_1": 0.0},
    "lambda_1 = 1": {"lambda_1": 1.0},
    "lambda_2 = 0.5": {"lambda_2": 0.5},
    "lambda_2 = 1": {"lambda_2": 1.0},
    "no output term": {"output_weight": 0.0, "output_ramp_epochs": 0.0},
    "no attention term": {"attention_weight": 0.0},
}


OURS = ("cl", "mim", "lambda_1", "lambda_2", "attention", "readout", "output_ramp_epochs", "teacher_lr_scale")  # ours alone has these


def run_tuned(settings: Settings, *, protocol: Protocol, teacher: str, seed: int) -> Tuned:
    """Table 1."""
    return _tuned(settings, protocol, teacher, seed, settings.data, getattr(settings, protocol))


def run_student(settings: Settings, *, method: str, seed: int) -> Taught | Joint:
    """Table 2; methods: baseline, kd-cl, kd-mim, two-frozen, ours."""
    return _student(settings, method, seed, settings.data, settings.recipe, settings.finetune)


def run_downstream(settings: Settings, *, method: str, dataset: str, seed: int) -> Taught | Joint:
    """Figure 3."""
    recipe, finetune = settings.downstream_recipe or settings.recipe, settings.downstream_finetune or settings.finetune
    return _student(settings, method, seed, settings.downstream[dataset], recipe, finetune)


def run_ablation(settings: Settings, *, variant: str, seed: int) -> Joint:
    """Ours with one setting changed."""
    return run_student(settings, method="ours", seed=seed).changed(**ABLATIONS[variant])


def run_distances(settings: Settings, *, model: str) -> AttentionDistances:
    """Figure 1."""
    return AttentionDistances(teacher=settings.models[model], data=settings.distance_data, images=settings.looked_at)


def run_maps(settings: Settings, *, model: str) -> AttentionMaps:
    return AttentionMaps(teacher=settings.models[model], data=settings.distance_data, images=settings.shown)


def _tuned(settings: Settings, protocol: Protocol, teacher: str, seed: int, data: Data, recipe: Recipe) -> Tuned:
    origin, readout = settings.teachers[teacher], getattr(settings.readout, teacher)
    return Tuned(teacher=origin, data=origin.normalised(data), recipe=recipe, seed=seed, protocol=protocol, readout=readout)


def _student(settings: Settings, method: str, seed: int, data: Data, recipe: Recipe, finetune: Recipe) -> Taught | Joint:
    common = {"student": settings.student, "data": settings.cl.normalised(data), "recipe": recipe, "seed": seed}
    if method == "ours":
        return Joint(**{name: getattr(settings, name) for name in OURS}, **common)
    names = {"baseline": (), "kd-cl": ("cl",), "kd-mim": ("mim",), "two-frozen": ("cl", "mim")}[method]
    tuned = (_tuned(settings, "finetune", name, seed, data, finetune) for name in names)
    return Taught(teachers=tuple(tuned), **common)
