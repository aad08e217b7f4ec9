"""How teachers are made: supervised, DINO and MAE pretraining as runs, for transformers of any size and, supervised, a convnet.

Point them at any image folder: `python -m vitlib run teachers --overrides '{"data": {"source": "folder/NAME", ...}}'`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar, Self

from pydantic import AfterValidator, Field, model_validator

from vitlib.inputs.foreign.demands import TrainsOn
from vitlib.inputs.models import Positive, ResNet, Vit, check_tiling
from vitlib.inputs.sources import Data
from vitlib.recipe import NonNegative, Recipe, Share, WholeBatches
from vitlib.spec import Demand, Part, RunSpec

Fraction = Annotated[float, Field(gt=0, le=1)]
Temperature = Annotated[float, Field(gt=0)]


class Tracking(Part):
    """How a self-supervised model is followed while it learns: k-NN on so many evenly spaced images, every `recipe.eval_every` epochs."""

    bank: Positive = 5000
    queries: Positive = 2000


class MultiCrop(Part):
    """Sizes in pixels, and shares of the image's area, of DINO's two global views and its local ones; `jitter` scales colour changes."""

    global_size: Positive
    local_size: Positive
    global_scale: tuple[Fraction, Fraction] = (0.4, 1.0)
    local_scale: tuple[Fraction, Fraction] = (0.05, 0.4)
    local_views: Positive = 8
    jitter: NonNegative = 1.0


def _plain(model: Vit) -> Vit:
    if model.distilled:
        raise ValueError("distilled=True has a second prefix token; allowed: a plain Vit")
    return model


PlainVit = Annotated[Vit, AfterValidator(_plain)]


class SelfSupervised(Part):
    """What DINO and MAE have in common: a recipe without labels, and how progress is followed."""

    recipe: Recipe
    tracking: Tracking = Tracking()

    @model_validator(mode="after")
    def _without_labels(self) -> Self:
        self.recipe.require_unset("mixup", "cutmix", "label_smoothing", why="there are no labels to mix or smooth")
        return self


class DinoMethod(SelfSupervised):
    """DINO's knobs.

    Args:
        hidden, bottleneck, prototypes: widths of the projection head.
        teacher_temp: temperature after `temp_warmup` (share of training), from `teacher_temp_start`.
        ema: momentum of the teacher at the start, growing to 1 along a cosine.
        frozen: share of training during which the head's last layer stands still.
    """

    recipe: WholeBatches  # the centre moves once a batch
    views: MultiCrop
    hidden: Positive = 2048
    bottleneck: Positive = 256
    prototypes: Positive = 65536
    student_temp: Temperature = 0.1
    teacher_temp: Temperature = 0.04
    teacher_temp_start: Temperature = 0.04
    temp_warmup: Share = 0.1
    ema: Share = 0.996
    center_momentum: Share = 0.9
    frozen: Share = 0.01


class MaeMethod(SelfSupervised):
    """MAE's knobs; `scale` is the area of the random resized crop."""

    mask_ratio: Annotated[float, Field(gt=0, lt=1)] = 0.75
    decoder_dim: Positive = 512
    decoder_depth: Positive = 8
    decoder_heads: Positive = 16
    scale: tuple[Fraction, Fraction] = (0.2, 1.0)

    @model_validator(mode="after")
    def _decoder(self) -> Self:
        if self.decoder_dim % 4:
            raise ValueError(f"decoder_dim={self.decoder_dim}; allowed: multiples of 4, for sines and cosines")
        if self.decoder_dim % self.decoder_heads:
            raise ValueError(f"decoder_heads={self.decoder_heads} does not divide decoder_dim={self.decoder_dim}; choose a divisor")
        return self


class SupervisedTeacher(RunSpec):
    """A model trained on labels."""

    divisible: ClassVar[bool] = True

    data: Data
    model: Vit | ResNet
    recipe: Recipe
    seed: int

    @model_validator(mode="after")
    def _tiled(self) -> Self:
        check_tiling(self.model, self.data.image_size)
        return self

    def demands(self) -> Iterator[Demand]:
        yield TrainsOn(self.data, self.recipe.batch_size)


class DinoTeacher(RunSpec):
    """A transformer pretrained by DINO; its weights are those of the EMA teacher, the better of the two.

    Version 1 solarised before the other changes of colour.
    """

    version: ClassVar[int] = 2

    data: Data
    model: PlainVit
    method: DinoMethod
    seed: int

    @model_validator(mode="after")
    def _tiled(self) -> Self:
        for size in (self.data.image_size, self.method.views.global_size, self.method.views.local_size):
            check_tiling(self.model, size)
        return self

    def demands(self) -> Iterator[Demand]:
        yield TrainsOn(self.data, self.method.recipe.batch_size)


class MaeTeacher(RunSpec):
    """A transformer pretrained by MAE; its weights are those of the encoder."""

    divisible: ClassVar[bool] = True

    data: Data
    model: PlainVit
    method: MaeMethod
    seed: int

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        check_tiling(self.model, self.data.image_size)
        if self.model.embed_dim % 4:
            raise ValueError(f"model.embed_dim={self.model.embed_dim}; allowed: multiples of 4, for sines and cosines")
        return self

    def demands(self) -> Iterator[Demand]:
        yield TrainsOn(self.data, self.method.recipe.batch_size)


Pretrained = SupervisedTeacher | DinoTeacher | MaeTeacher
