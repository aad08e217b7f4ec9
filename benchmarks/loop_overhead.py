"""How much slower is vitlib's training loop than a bare PyTorch loop over the same model and device-resident images?

Both take the same steps: images indexed from one uint8 tensor and normalised, dense targets, cross-entropy, backward,
fused AdamW, the learning rate set after each update. What the bare loop does not have is what vitlib adds to a step:
a seed of its own, a tick, the loss history, the checks for divergence and for a due checkpoint.
"""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import _paired
import torch
from timm.data.mixup import mixup_target
from timm.loss import SoftTargetCrossEntropy
from timm.optim import create_optimizer_v2
from timm.scheduler import CosineLRScheduler
from torch import nn

from vitlib.computing import Context
from vitlib.inputs.data import ResidentBatches, Training
from vitlib.inputs.models import Vit, build
from vitlib.inputs.sources import Data
from vitlib.recipe import Recipe
from vitlib.runs.provenance import device_name
from vitlib.training.loop import cross_entropy, train

TARGET = 1.05
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
CLOCK = "wall" if DEVICE == "cuda" else "cpu"  # judged by: one thread on a CPU that others use too


@dataclass(frozen=True)
class Case:
    """A model, its images (random; speed does not depend on them) and how long it is trained."""

    vit: Vit
    data: Data
    images: int
    recipe: Recipe
    pairs: int

    def fresh_model(self) -> nn.Module:
        torch.manual_seed(0)
        return build(self.vit, image_size=self.data.image_size, channels=self.data.channels, num_classes=10).to(DEVICE)

    def resident(self) -> tuple[torch.Tensor, torch.Tensor]:
        generator = torch.Generator().manual_seed(0)
        shape = (self.images, self.data.channels, self.data.image_size, self.data.image_size)
        images = torch.randint(256, shape, generator=generator, dtype=torch.uint8)
        return images.to(DEVICE), torch.randint(10, (self.images,), generator=generator).to(DEVICE)


CASES = {
    "micro (quick profile's DeiT-B, 8 px, batch 32)": Case(
        Vit(embed_dim=48, depth=2, num_heads=4, patch_size=2, init="xavier"),
        Data(source="digits", image_size=8, mean=(0.304,), std=(0.375,)),
        images=1024,
        recipe=Recipe(epochs=2, batch_size=32, lr=1e-3, warmup_epochs=1, label_smoothing=0.1),
        pairs=41,
    ),
    "larger (width 192, depth 4, 32 px, batch 64)": Case(
        Vit(embed_dim=192, depth=4, num_heads=3, patch_size=4, init="xavier"),
        Data(source="digits", image_size=32, mean=(0.491, 0.482, 0.447), std=(0.247, 0.243, 0.262)),
        images=128,
        recipe=Recipe(epochs=1, batch_size=64, lr=1e-3, label_smoothing=0.1),
        pairs=21,
    ),
}


def trained_by_vitlib(case: Case, model: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> nn.Module:
    training = Training(case.recipe.augment, seed=0)
    batches = ResidentBatches(images, labels, case.data, case.recipe.batch_size, training)
    context = Context(DEVICE, Path(), None, parent=lambda spec: None)
    train(model, batches, cross_entropy, case.recipe, num_classes=10, context=context)
    return model


def trained_by_a_bare_loop(case: Case, model: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> nn.Module:
    recipe, batch = case.recipe, case.recipe.batch_size
    steps = len(images) // batch
    mean, std = (torch.tensor(v, device=DEVICE).view(1, -1, 1, 1) for v in (case.data.mean, case.data.std))
    optimizer = create_optimizer_v2(
        model, opt="adamw", lr=recipe.lr, weight_decay=recipe.weight_decay, momentum=recipe.momentum, fused=True
    )
    scheduler = CosineLRScheduler(
        optimizer, t_initial=recipe.epochs * steps, lr_min=recipe.min_lr, warmup_t=round(recipe.warmup_epochs * steps),
        warmup_lr_init=recipe.warmup_lr, t_in_epochs=False,
    )  # fmt: skip
    criterion = SoftTargetCrossEntropy()
    model.train()
    for epoch in range(recipe.epochs):
        order = torch.from_numpy(Training(recipe.augment, seed=0).order(len(images), epoch)).to(DEVICE)
        for step in range(steps):
            index = order[step * batch : (step + 1) * batch]
            inputs = (images[index].float().div_(255) - mean) / std
            targets = mixup_target(labels[index], 10, smoothing=recipe.label_smoothing)
            loss = criterion(model(inputs).float(), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step_update(epoch * steps + step + 1)
    loss.item()  # waits for the GPU, as reading the loss for the history does
    return model


WAYS = {"vitlib": trained_by_vitlib, "bare": trained_by_a_bare_loop}


def compare(name: str) -> dict:
    case = CASES[name]
    model, (images, labels) = case.fresh_model(), case.resident()
    require_same_weights(*(way(case, copy.deepcopy(model), images, labels) for way in WAYS.values()))

    def once(way: Callable) -> Callable[[], None]:
        return lambda: way(case, copy.deepcopy(model), images, labels)

    result = _paired.ratios(once(trained_by_vitlib), once(trained_by_a_bare_loop), case.pairs)
    steps = case.recipe.epochs * (case.images // case.recipe.batch_size)
    memory = {f"peak_mib_{way}": peak_mib_of_a_fresh_process(name, way) for way in WAYS}
    return {"case": name, "steps": steps, **result, **memory}


def require_same_weights(ours: nn.Module, bare: nn.Module) -> None:
    """The two loops are comparable only if they train the same network."""
    for one, other in zip(ours.parameters(), bare.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


def peak_mib_of_a_fresh_process(name: str, way: str) -> float:
    ran = subprocess.run([sys.executable, __file__, name, way], check=True, capture_output=True, text=True)
    return json.loads(ran.stdout)


def peak_mib(name: str, way: str) -> float:
    case = CASES[name]
    WAYS[way](case, case.fresh_model(), *case.resident())
    if DEVICE == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    # not getrusage: its maximum also covers the parent, up to the moment it started this process
    status = Path("/proc/self/status").read_text(encoding="utf-8").split()
    return int(status[status.index("VmHWM:") + 1]) / 2**10


def main() -> None:
    torch.set_num_threads(1)  # as vitlib computes a run on a CPU
    about = _paired.machine(device_name(DEVICE), "torch", "timm", "numpy")
    print(", ".join(f"{key} {value}" for key, value in about.items()), "| one thread" * (DEVICE == "cpu"))
    results = [compare(name) for name in CASES]
    for result in results:
        ours, bare = (1000 * result[CLOCK][f"seconds_{way}_median"] / result["steps"] for way in ("ours", "bare"))
        met = "met" if result[CLOCK]["ratio_median"] <= TARGET else "MISSED"
        print(f"{result['case']}, {result['steps']} steps")
        for clock in _paired.CLOCKS:
            print(f"  vitlib / bare: {_paired.described(result, clock)}")
        print(f"  ms a step: vitlib {ours:.3f}, bare {bare:.3f} ({CLOCK} time)")
        print(f"  peak MiB: vitlib {result['peak_mib_vitlib']:.0f}, bare {result['peak_mib_bare']:.0f}")
        print(f"  target: at most {TARGET}; {met} by the median of {CLOCK} time")
    _paired.write(__file__, {"question": __doc__.splitlines()[0], "target": TARGET, "machine": about, "cases": results})


if __name__ == "__main__":
    if sys.argv[1:]:
        torch.set_num_threads(1)
        print(json.dumps(peak_mib(*sys.argv[1:])))
    else:
        main()
