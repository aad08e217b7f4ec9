"""One training loop: optimiser, schedule, precision, moving average, mid-run checkpoint, history.

The caller brings the model, the batches and a loss; `train` brings the rest. Every step draws from a seed of its own
(see inputs/data.py), so a checkpoint holds no random state and a killed run ends in the same numbers. A training that runs out of memory
goes on in halves of its batches, once: see step/memory.py.
"""

from __future__ import annotations

import hashlib
import io
import shutil
import time
from collections.abc import Callable, Hashable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import torch
from timm.data.mixup import Mixup, mixup_target
from timm.loss import SoftTargetCrossEntropy
from timm.utils import ModelEmaV3
from torch import Tensor, nn

from vitlib import distributed, durable
from vitlib.computing import Context, OutOfTimeError
from vitlib.inputs.data import Batches
from vitlib.recipe import Recipe
from vitlib.training.cost import share_of_peak
from vitlib.training.optimizer import Rates, make_optimizer, restore
from vitlib.training.step.batchnorm import synchronise
from vitlib.training.step.graphs import graphs_of
from vitlib.training.step.memory import Halving
from vitlib.training.step.steps import step_of
from vitlib.training.step.update import Loss, Update, mean_over_images

Evaluate = Callable[[nn.Module], dict[str, float]]
Targets = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
AroundStep = Callable[[float], AbstractContextManager[Hashable]]


class DivergedError(RuntimeError):
    """The loss is no longer finite; the message names the epoch, the step and what to lower."""


@dataclass
class Trained:
    """The model's history (one row an epoch), its moving average if kept, and what the hardware did.

    `epoch_seconds` and the images/s in `measured` leave evaluations out. After an interruption `epoch_seconds` are those since, the
    times in `measured` those of all sessions.
    """

    history: pd.DataFrame
    ema: nn.Module | None
    measured: dict[str, float | str]
    epoch_seconds: list[float]

    @property
    def metrics(self) -> dict[str, float]:
        """What `evaluate` gave after the last epoch."""
        return self.history.iloc[-1].drop(["epoch", "lr", "loss"]).to_dict()


@mean_over_images
def cross_entropy(model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy with dense targets (B, C), which already hold label smoothing and mixing; mean over the batch."""
    return SoftTargetCrossEntropy()(model(images).float(), targets)


def train(
    model: nn.Module,
    batches: Batches,
    loss: Loss,
    recipe: Recipe,
    *,
    num_classes: int | None,
    context: Context,
    evaluate: Evaluate = lambda model: {},
    around_step: AroundStep = lambda progress: nullcontext(),
) -> Trained:
    """Train `model` in place; the one training of its run, whose checkpoint stays in `context.scratch` until the result is stored.

    Args:
        loss: `loss(model, images, targets)` -> scalar; images (B, C, H, W), targets (B, num_classes) rows summing to 1. On a GPU steps
            are replayed from a record, and numbers of Python that `loss` reads beside its arguments with them: what of these changes from
            step to step is part of the step's kind, or stands in a tensor.
        num_classes: None hands the loss the labels (B,) as they are.
        evaluate: metrics of the model for the history, every `recipe.eval_every` epochs and after the last.
        around_step: entered before each step's loss and left after its update, with the share of training done before it; what it
            gives is the step's kind.

    Raises:
        SpecError: for a recipe with `sync_batchnorm` and a model without batch norm.
        DivergedError: as soon as a non-finite loss is seen (checked every 50 steps and at each epoch's end).
        NoMemoryError: where memory runs out, and halves of the batch do not fit either or are another update.
        OutOfTimeError: at `context.deadline`, the checkpoint written.
    """
    if recipe.sync_batchnorm:
        synchronise(model, context.device)
    graphs = graphs_of(context.device)
    state = _State.start(model, recipe, batches.steps, context, recorded=graphs is not None)
    forward = torch.compile(model) if recipe.compile else model
    update = Update(model, forward, loss, recipe, state.optimizer, state.ema, recipe.accumulate)
    step = Halving(update, lambda update: step_of(update, graphs, context), state)
    mix, epoch_seconds, seen = target_maker(recipe, num_classes), [], 0

    def rest_of_epoch() -> None:
        nonlocal seen
        for images, labels in batches.epoch(state.epoch, state.step):
            images, targets = mix(images, labels)
            with around_step(state.updates / (recipe.epochs * batches.steps)) as kind:
                state.after_step(step(images, targets, state.updates + 1, kind))
            seen += len(images) * distributed.processes()
            context.tick(state.epoch, recipe.epochs, len(images))
            state.checkpoint_if_due(context, recipe.epochs)

    while state.epoch < recipe.epochs:
        set_mode(model, recipe)
        began, seen = time.perf_counter(), 0
        step.through(rest_of_epoch)
        state.refuse_divergence()  # waits for the device
        epoch_seconds.append(time.perf_counter() - began)
        state.spent.count(epoch_seconds[-1], seen)
        state.close_epoch(evaluate, recipe)
        state.checkpoint_if_due(context, recipe.epochs)
    measured = {
        "training_seconds": state.spent.seconds,
        "images_per_second": state.spent.images / max(state.spent.stepping, 1e-9),
        "peak_bytes": peak_bytes(context.device),
        **step.measured,
    }
    if context.device.startswith("cuda") and "flops_per_image" in measured:
        measured |= share_of_peak(measured["flops_per_image"] * measured["images_per_second"], recipe.precision, context.device)
    return Trained(pd.DataFrame(state.rows), state.ema.module if state.ema else None, measured, epoch_seconds)


def set_mode(model: nn.Module, recipe: Recipe) -> None:
    """Ready to train; in mode 'eval' the parts alone are in eval mode: timm's distilled models give both heads only in train mode."""
    model.train()
    if recipe.mode == "eval":
        for part in model.children():
            part.eval()


def target_maker(recipe: Recipe, num_classes: int | None) -> Targets:
    """Labels (B,) to dense targets (B, num_classes): timm's mixup/cutmix where the recipe mixes, smoothing in both cases.

    Without classes the labels stay as they are.
    """
    if num_classes is None:
        return lambda images, labels: (images, labels)
    if recipe.mixup or recipe.cutmix:
        return Mixup(
            mixup_alpha=recipe.mixup,
            cutmix_alpha=recipe.cutmix,
            prob=recipe.mix_probability,
            label_smoothing=recipe.label_smoothing,
            num_classes=num_classes,
        )
    return lambda images, labels: (images, mixup_target(labels, num_classes, smoothing=recipe.label_smoothing))


@dataclass
class _Spent:
    """Time and images over all sessions of a training; of a broken epoch, those of the session that ended it."""

    before: float = 0.0
    stepping: float = 0.0
    images: int = 0
    began: float = field(default_factory=time.perf_counter)

    @property
    def seconds(self) -> float:
        return self.before + time.perf_counter() - self.began

    def count(self, seconds: float, images: int) -> None:
        self.stepping, self.images = self.stepping + seconds, self.images + images


@dataclass
class _State:
    """Everything that moves while training: what a checkpoint saves."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    rates: Rates
    ema: ModelEmaV3 | None
    steps: int
    file: Path | None
    epoch: int = 0
    step: int = 0
    halved: str = ""
    loss_sum: Tensor | float = 0.0
    rows: list[dict[str, float]] = field(default_factory=list)
    saved: float = field(default_factory=time.monotonic)
    spent: _Spent = field(default_factory=_Spent)

    @classmethod
    def start(cls, model: nn.Module, recipe: Recipe, steps: int, context: Context, *, recorded: bool) -> _State:
        """A fresh state, or the one that an interrupted run left."""
        model.to(context.device)
        if context.device.startswith("cuda"):
            torch.cuda.reset_peak_memory_stats(context.device)
        if recipe.channels_last:
            model.to(memory_format=torch.channels_last)
        optimizer = make_optimizer(model, recipe, recorded=recorded)
        rates = Rates(optimizer, recipe, steps, recorded=recorded)
        ema = ModelEmaV3(model, decay=recipe.ema_decay) if recipe.ema_decay else None
        file = context.scratch / "checkpoint.pt" if context.scratch else None
        state = cls(model, optimizer, rates, ema, steps, file)
        state.resume(context.device)
        distributed.start_alike(model, state.updates)
        state.rates.set(state.updates)
        return state

    @property
    def updates(self) -> int:
        return self.epoch * self.steps + self.step

    def after_step(self, loss: Tensor) -> None:
        self.loss_sum = self.loss_sum + loss
        self.step += 1
        self.rates.set(self.updates)
        if self.updates % 50 == 0:
            self.refuse_divergence()

    def close_epoch(self, evaluate: Evaluate, recipe: Recipe) -> None:
        row = {"epoch": self.epoch + 1, "lr": self.rates.lr, "loss": float(self.loss_sum) / self.steps}
        last = self.epoch + 1 == recipe.epochs
        if last or (self.epoch + 1) % recipe.eval_every == 0:
            self.model.eval()
            row |= evaluate(self.model)
        self.rows.append(row)
        self.epoch, self.step, self.loss_sum = self.epoch + 1, 0, 0.0

    def refuse_divergence(self) -> None:
        if not torch.isfinite(torch.as_tensor(self.loss_sum)):
            raise DivergedError(
                f"loss: not finite in epoch {self.epoch + 1}, by step {self.step} of {self.steps}; "
                "lower recipe.lr, raise recipe.warmup_epochs, or set recipe.clip_grad"
            )

    def checkpoint_if_due(self, context: Context, epochs: int) -> None:
        """By the clock, and at the deadline, where a training ends that is not over and has a place for its checkpoint."""
        now = time.monotonic()
        late = now >= context.deadline
        if self.file and distributed.leads() and (late or now - self.saved >= context.checkpoint_every):
            self.save()
        if self.file and late and self.epoch < epochs:
            raise OutOfTimeError(self.updates / (epochs * self.steps))

    def save(self) -> None:
        """Write the checkpoint beside the old one and rename: a kill leaves one or the other, whole."""
        self.refuse_divergence()
        content = {
            "run": self.file.parent.name,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "ema": self.ema.state_dict() if self.ema else {},
            "position": [self.epoch, self.step],
            "halved": self.halved,
            "loss_sum": torch.as_tensor(self.loss_sum),
            "rows": self.rows,
            "spent": [self.spent.seconds, self.spent.stepping, self.spent.images],
        }
        buffer = io.BytesIO()
        torch.save(content, buffer)
        payload = buffer.getvalue()
        self.file.parent.mkdir(parents=True, exist_ok=True)
        partial = self.file.with_suffix(".partial")
        durable.write(partial, hashlib.sha256(payload).digest() + payload)
        partial.replace(self.file)
        for folder in list(self.file.parents)[:3]:  # down from the results
            durable.sync(folder)
        self.saved = time.monotonic()

    def resume(self, device: str) -> None:
        """Continue from the checkpoint if there is a whole one; a damaged one, or another run's, is as good as none."""
        if self.file and self.file.is_dir():
            shutil.rmtree(self.file, ignore_errors=True)
        if self.file is None or not self.file.is_file():
            return
        raw = self.file.read_bytes()
        if hashlib.sha256(raw[32:]).digest() != raw[:32]:
            return
        content = torch.load(io.BytesIO(raw[32:]), map_location=device, weights_only=True)
        if content.get("run", self.file.parent.name) != self.file.parent.name:
            return
        self.model.load_state_dict(content["model"])
        restore(self.optimizer, content["optimizer"])
        if self.ema:
            self.ema.load_state_dict(content["ema"])
        self.epoch, self.step = content["position"]
        self.halved = content.get("halved", "")
        self.loss_sum, self.rows = content["loss_sum"], content["rows"]
        self.spent = _Spent(*content.get("spent", ()))


def peak_bytes(device: str) -> int:
    """Peak device memory, or this process's peak resident memory on a CPU."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated(device)
    status = Path("/proc/self/status")  # getrusage may hold the peak of the parent
    if status.exists():
        return 1024 * int(status.read_text().partition("VmHWM:")[2].split()[0])
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
