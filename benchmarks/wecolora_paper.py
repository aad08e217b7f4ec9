"""Does WeCoLoRA's `paper` profile run, how fast, and in how much memory? Two steps of each phase on ViT-B/16 at 224 px.

The teacher's weights are random and the images noise, one for each of 1,000 classes: neither changes what a step costs. All else is
the profile's own, but for the batch size. Images/s are those of a phase's second step, loading included.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from vitlib.computing import Context
from vitlib.grid.entries import merged, read_entry
from vitlib.inputs.data import StreamedBatches, training_batches
from vitlib.inputs.models import Vit
from vitlib.methods.adapters.weight_copy import weight_copy
from vitlib.papers.wecolora.compute import students as compute
from vitlib.papers.wecolora.specs import Distilled, Downstream, Settings, run_accuracy
from vitlib.runs.provenance import device_name
from vitlib.runs.workers.one import one_thread
from vitlib.teachers.teacher import Teacher, Untrained
from vitlib.training.loop import cross_entropy, peak_bytes, train
from vitlib.training.probe import linear_probe

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
BATCH = {"cpu": 8, "cuda": 128}[DEVICE]
CLASSES = 1000
VIT_B = Vit(embed_dim=768, depth=12, num_heads=12, patch_size=16)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, one_thread(DEVICE):
        make_images(Path(folder, "imagenet", "train"))
        settings = paper_settings()
        spec = run_accuracy(settings, lora_init="svd", schedule="staged", reduction=2, seed=0, dataset="imagenet")
        context = Context(DEVICE, Path(folder), None, parent=lambda run: None)
        rows = [*distillation(spec.student, context), *downstream(spec, context)]
    found = {"device": device_name(DEVICE), "torch": torch.__version__, "batch": BATCH, "rows": rows}
    Path(__file__).with_suffix(f".{DEVICE}.json").write_text(json.dumps(found, indent=1) + "\n")


def paper_settings() -> Settings:
    """The profile's, but for a teacher of random weights, the batch, and one epoch a phase."""
    entry = read_entry("wecolora")
    settings = Settings.parse(merged(entry["base"], entry["profile"]["paper"] | {"teacher": {"origin": {"shipped": "supervised"}}}))
    origin = Untrained(model=VIT_B, image_size=224, mean=settings.data.mean, std=settings.data.std)
    recipe = settings.recipe.changed(epochs=6, batch_size=BATCH, warmup_epochs=1)
    return settings.changed(teacher=Teacher(origin=origin), recipe=recipe)


def distillation(spec: Distilled, context: Context) -> list[dict]:
    """One row a phase: the stages k = 1..5, then the whole student."""
    watch = Watch()
    student, teacher, group_list = compute.adapted_student(spec, context)
    compute.training_batches = lambda *args, **options: two_steps(training_batches(*args, **options))
    _, schedule = compute.train_adapters(spec, student, teacher, group_list, replace(context, tick=watch.tick))
    return [watch.row(f"distillation, {phase.name}", epoch) for epoch, phase in enumerate(schedule)]


def downstream(spec: Downstream, context: Context) -> list[dict]:
    """Features for the probe, the probe on as many of them as there are classes, and fine-tuning."""
    student = weight_copy(compute.frozen_teacher(spec.teacher, 224, context), 2)
    images, watch = torch.randn(BATCH, 3, 224, 224, device=DEVICE), Watch()
    for _ in range(2):
        with torch.inference_mode():
            student(images)
        watch.tick(0, 1, BATCH)
    bank, labels = torch.randn(CLASSES, VIT_B.embed_dim), np.arange(CLASSES)
    probe = spec.recipe.changed(epochs=2, warmup_epochs=0, eval_every=1)
    linear_probe(bank, labels, bank, probe, seed=0, context=replace(context, tick=lambda epoch, *rest: watch.tick(1, *rest)))
    student.reset_classifier(CLASSES)
    student.requires_grad_(True).to(DEVICE)
    recipe = spec.student.recipe.changed(epochs=1, warmup_epochs=0)
    where = {"seed": 0, "device": DEVICE, "data_dir": context.data_dir}
    batches = two_steps(training_batches(spec.student.data, recipe, **where))
    train(
        student,
        batches,
        cross_entropy,
        recipe,
        num_classes=CLASSES,
        context=replace(context, tick=lambda epoch, *rest: watch.tick(2, *rest)),
    )
    return [watch.row(name, epoch) for epoch, name in enumerate(("features for the probe", "linear probe", "fine-tuning"))]


@dataclass
class Watch:
    """When each step ended, and the peak of memory in it, by epoch."""

    steps: dict[int, list[tuple[float, int, int]]] = field(default_factory=dict)

    def tick(self, epoch: int, epochs: int, images: int) -> None:
        if DEVICE == "cuda":
            torch.cuda.synchronize()
        self.steps.setdefault(epoch, []).append((time.perf_counter(), images, peak_bytes(DEVICE)))
        forget_peak()

    def row(self, name: str, epoch: int) -> dict:
        (begun, _, _), (ended, images, peak), *_ = self.steps[epoch]
        found = {"phase": name, "images/s": round(images / (ended - begun), 2), "peak GiB": round(peak / 2**30, 2)}
        print(found, flush=True)
        return found


def forget_peak() -> None:
    if DEVICE == "cuda":
        torch.cuda.reset_peak_memory_stats()
    else:
        Path("/proc/self/clear_refs").write_text("5")


def two_steps(batches: StreamedBatches) -> StreamedBatches:
    batches.steps = 2
    return batches


def make_images(root: Path) -> None:
    generator = np.random.default_rng(0)
    for label in range(CLASSES):
        folder = root / f"n{label:08d}"
        folder.mkdir(parents=True)
        Image.fromarray(generator.integers(0, 256, (256, 256, 3), dtype=np.uint8)).save(folder / "0.jpg")


if __name__ == "__main__":
    sys.exit(main())
