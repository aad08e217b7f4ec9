"""The training recipe: every knob of the loop, as fields. Imports no torch."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from vitlib.spec import Part

Share = Annotated[float, Field(ge=0, lt=1)]
NonNegative = Annotated[float, Field(ge=0)]
MOST = 1_000_000_000  # of a seed (numpy takes 32 bits, and a run's own seeds are made from it), and of anything that is counted
Count = Annotated[int, Field(ge=1, le=MOST)]


def _distinct(values: tuple[int, ...]) -> tuple[int, ...]:
    if len(set(values)) < len(values):
        raise ValueError("allowed: each seed once, or one run counts as several")
    return values


Seeds = Annotated[tuple[Annotated[int, Field(ge=0, le=MOST)], ...], Field(min_length=1), AfterValidator(_distinct)]


class Augment(Part):
    """Per-sample augmentation of resident batches; `randaugment` is timm's policy string for streamed ones.

    Args:
        crop: pixels of zero padding for random crops.
        crop_area: smallest share of the area that a random resized crop keeps; 1 is off.
        flip: probability of a horizontal flip.
        cutout: side in pixels of a square set to the mean; 0 is off.
        erasing: probability of replacing a random rectangle by noise.
    """

    crop: Annotated[int, Field(ge=0)] = 0
    crop_area: Annotated[float, Field(gt=0, le=1)] = 1.0
    flip: Annotated[float, Field(ge=0, le=1)] = 0.0
    cutout: Annotated[int, Field(ge=0)] = 0
    erasing: Annotated[float, Field(ge=0, le=1)] = 0.0
    randaugment: str = ""

    @model_validator(mode="after")
    def _one_crop(self) -> Self:
        if self.crop and self.crop_area < 1:
            raise ValueError(f"crop={self.crop} and crop_area={self.crop_area} exclude each other; give one")
        return self


class Recipe(Part):
    """How to train.

    Args:
        lr: peak learning rate at `batch_size` (scale it by the document's rule where it is stated).
        warmup_epochs: linear warm-up from `warmup_lr`; then cosine to `min_lr`, stepped per update.
        cosine_from: where the cosine begins: with the training (timm, DeiT; the peak is not quite reached) or after the warm-up (MAE,
            DINO).
        momentum: of sgd (Nesterov's form), of momentum (the plain form), and of lars, which scales the steps of matrices alone.
        beta2: of adamw.
        mixup, cutmix: Beta parameters of timm's batch-mode mixing; 0 switches one off.
        ema_decay: None keeps no moving average of the weights.
        layer_decay: a block's rate is this share of the next one's, the classifier's the whole (timm: the final norm goes with the last
            block); None is one rate for all.
        clip_grad: largest gradient norm, or None.
        clip: of what clip_grad limits the norm: all gradients together, or each parameter's by itself (DINO).
        mode: of the model while it trains; 'eval' leaves drop path, dropout and batch statistics off (DeiT's fine-tuning).
        sync_batchnorm: where several processes share a run, batch norm takes the statistics of what all of them compute and not of each
            one's part: the numbers of one process.
        accumulate: equal parts of a batch that go through the model one after the other, for batches larger than the memory.
        repeats: views of an image in an epoch (repeated augmentation; an epoch then holds 1/repeats of the images).
        eval_every: epochs between the evaluations that history records.
    """

    epochs: Count
    batch_size: Annotated[int, Field(ge=2, le=MOST)]
    lr: Annotated[float, Field(gt=0)]
    optimizer: Literal["adamw", "sgd", "momentum", "lars"] = "adamw"
    weight_decay: NonNegative = 0.05
    momentum: Annotated[float, Field(gt=0, lt=1)] = 0.9
    beta2: Share = 0.999
    warmup_epochs: NonNegative = 0.0
    warmup_lr: NonNegative = 1e-6
    min_lr: NonNegative = 1e-5
    cosine_from: Literal["start", "warmup"] = "start"
    label_smoothing: Share = 0.0
    mixup: NonNegative = 0.0
    cutmix: NonNegative = 0.0
    mix_probability: Annotated[float, Field(ge=0, le=1)] = 1.0
    drop_path: Share = 0.0
    ema_decay: Share | None = None
    layer_decay: Annotated[float, Field(gt=0, le=1)] | None = None
    clip_grad: Annotated[float, Field(gt=0)] | None = None
    clip: Literal["global", "parameter"] = "global"
    mode: Literal["train", "eval"] = "train"
    sync_batchnorm: bool = False
    accumulate: Annotated[int, Field(ge=1)] = 1
    precision: Literal["fp32", "bf16"] = "fp32"
    compile: bool = False
    channels_last: bool = False
    augment: Augment = Augment()
    repeats: Annotated[int, Field(ge=1)] = 1
    eval_every: Count = 1

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.warmup_epochs > self.epochs:
            raise ValueError(f"warmup_epochs={self.warmup_epochs} is more than epochs={self.epochs}; allowed: at most that")
        if self.batch_size % self.accumulate:
            raise ValueError(f"accumulate={self.accumulate} does not divide batch_size={self.batch_size}; allowed: a divisor")
        if (self.mixup or self.cutmix) and self.batch_size // self.accumulate % 2:
            raise ValueError(f"batch_size={self.batch_size} is odd; mixup and cutmix pair the images of a batch, so it must be even")
        if self.layer_decay is not None and self.optimizer == "lars":
            raise ValueError(f"layer_decay={self.layer_decay} with optimizer='lars', which has groups of its own; allowed: None")
        if self.clip != "global" and self.clip_grad is None:
            raise ValueError(f"clip={self.clip!r} with clip_grad=None, so that nothing is clipped; allowed: with a clip_grad")
        if self.mode == "eval" and self.drop_path:
            raise ValueError(f"drop_path={self.drop_path} with mode='eval', which leaves it off; allowed: 0.0")
        if self.mode == "eval" and self.sync_batchnorm:
            raise ValueError("sync_batchnorm=True with mode='eval', which leaves batch statistics off; allowed: False")
        return self

    @property
    def plain_images(self) -> bool:
        """Whether an image looks the same whenever it is trained on: neither augmented nor mixed."""
        return self.augment == Augment() and not self.mixup and not self.cutmix

    def require_unset(self, *names: str, why: str) -> None:
        """Refuse fields that the run would ignore.

        Raises:
            ValueError: if one of them is not at its default.
        """
        for name in names:
            default = type(self).model_fields[name].default
            if getattr(self, name) != default:
                raise ValueError(f"recipe.{name}={getattr(self, name)}; allowed: {default}, {why}")


def _whole(recipe: Recipe) -> Recipe:
    recipe.require_unset("accumulate", why="because the loss is taken over the whole batch")
    return recipe


WholeBatches = Annotated[Recipe, AfterValidator(_whole)]  # for a loss that is no mean over images
