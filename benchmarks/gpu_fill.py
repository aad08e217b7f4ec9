"""How full do small trainings make a GPU: eager, from a CUDA graph, and K of these at once, beside timm's loop and BYOT's?

ViT-Ti of 12 blocks and patch 4 (AdamW) and ResNet18 (SGD) at 32 px, batch 128, random images that lie on the device. `eager` and `graph`
are vitlib's `train`, the same but for the record; `timm` is a step of timm's train.py (its optimiser, schedule and loss under autocast,
images from the same batches); `BYOT` is the loop of that document's code (SGD in float32, batches sent to the device one by one, the loss
read in each step). Rates leave the first steps out; all ways take turns in one process, K trainings in one each, all of them started at
once. Shares are those of the device's bfloat16 matrix rate, FLOPs by formula. Last, whether `graph` ends in the weights of `eager`.
`--quick`, and a CPU, cut sizes down so that every line is run.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import torch
from timm.loss import SoftTargetCrossEntropy
from timm.optim import create_optimizer_v2
from torch import nn

from vitlib.computing import Context
from vitlib.inputs.data import ResidentBatches, Training
from vitlib.inputs.models import ResNet, Vit, build
from vitlib.inputs.sources import Data
from vitlib.recipe import Augment, Recipe
from vitlib.runs.provenance import device_name
from vitlib.runs.workers.one import one_thread
from vitlib.training.cost import matrix_rate
from vitlib.training.loop import cross_entropy, peak_bytes, target_maker, train
from vitlib.training.optimizer import make_schedule
from vitlib.training.work.layers import backward_flops, forward_flops, network

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
DATA = Data(source="digits", image_size=32, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))  # the images are drawn
CLASSES, EPOCHS, ROUNDS = 10, 4, 2
FULL = {
    "ViT-Ti": (Vit(embed_dim=192, depth=12, num_heads=3, patch_size=4), {"optimizer": "adamw", "lr": 1e-3}),
    "ResNet18": (ResNet(width=64, blocks=(2, 2, 2, 2)), {"optimizer": "sgd", "lr": 0.05, "weight_decay": 5e-4}),
}
QUICK = {
    "ViT-Ti": (Vit(embed_dim=24, depth=2, num_heads=3, patch_size=8), FULL["ViT-Ti"][1]),
    "ResNet18": (ResNet(width=4, blocks=(1, 1, 1, 1)), FULL["ResNet18"][1]),
}


class Size:
    """How much is trained: the first `warm` steps are not timed."""

    def __init__(self, quick: bool):
        self.quick, self.models = quick, QUICK if quick else FULL
        self.batch, self.steps, self.warm = (8, 2, 5) if quick else (128, 60, 40)  # steps of an epoch
        self.processes = (1, 2) if quick else (1, 2, 4, 8)

    @property
    def timed(self) -> int:
        return EPOCHS * self.steps - self.warm


class Timed:
    """A tick: begins after `warm` steps, when `begin` returns, and ends with the last of the training."""

    def __init__(self, size: Size, begin: Callable[[], None] = lambda: None):
        self._size, self._begin, self._steps = size, begin, 0
        self.began = self.ended = 0.0

    def __call__(self, *_: int) -> None:
        self._steps += 1
        if self._steps == self._size.warm:
            synchronise()
            self._begin()
            self.began = time.time()
        if self._steps == EPOCHS * self._size.steps:
            synchronise()
            self.ended = time.time()

    @property
    def rate(self) -> float:
        return self._size.timed * self._size.batch / (self.ended - self.began)


def main(quick: bool) -> None:
    size, began, rows = Size(quick), time.perf_counter(), []
    peak = matrix_rate("bf16", DEVICE)
    print(
        f"{device_name(DEVICE)}, torch {torch.__version__}, {peak / 1e12:.3g} TFLOP/s of bfloat16 products, batch {size.batch}", flush=True
    )
    with ExitStack() as started, one_thread(DEVICE):
        crew = [started.enter_context(Member(quick)) for _ in range(max(size.processes))]
        for name in size.models:
            found, models = alone(name, size)
            rows += show(found + together(name, size, crew), name, size, peak)
            print(f"{name:9} {equality(models)}; {time.perf_counter() - began:.0f} s so far", flush=True)
    if not quick:
        found = {"device": device_name(DEVICE), "torch": torch.__version__, "peak TFLOP/s": round(peak / 1e12, 1), "rows": rows}
        Path(__file__).with_suffix(f".{DEVICE}.json").write_text(json.dumps(found, indent=1) + "\n")


def alone(name: str, size: Size) -> tuple[list[dict], dict[str, list[nn.Module]]]:
    """Each way in turn, round after round; and the models that they end in."""
    rows = {way: {"way": way, "of rounds": [], "MiB": 0.0} for way in WAYS}
    models: dict[str, list[nn.Module]] = {way: [] for way in WAYS}
    for _ in range(ROUNDS):
        for way, run in WAYS.items():
            if DEVICE == "cuda":
                torch.cuda.empty_cache()
                torch.cuda.reset_peak_memory_stats()
            timed = Timed(size)
            model, rows[way]["step"] = run(name, size, timed)
            models[way].append(model.cpu())
            rows[way]["of rounds"].append(timed.rate)
            rows[way]["MiB"] = peak_bytes(DEVICE) / 2**20
    return [row | {"images/s": statistics.median(row["of rounds"])} for row in rows.values()], models


def together(name: str, size: Size, crew: list[Member]) -> list[dict]:
    """As many processes at once, from when the last of them is warm until the last has ended."""
    rows = []
    for count in size.processes:
        team = crew[:count]
        for one in team:
            one.tell(name)
        for one in team:
            one.expect("ready")
        for one in team:
            one.tell("go")
        began, ended, steps = zip(*(json.loads(one.said()) for one in team), strict=True)
        rate = count * size.timed * size.batch / (max(ended) - min(began))
        rows.append({"way": f"graph x {count}", "images/s": rate, "step": "; ".join(dict.fromkeys(steps))})
    return rows


def show(rows: list[dict], name: str, size: Size, peak: float) -> list[dict]:
    """The rows, printed, with the model, their ratio to `eager` and their share of the peak."""
    layers = network(size.models[name][0], DATA.image_size, DATA.channels, CLASSES).layers
    flops = forward_flops(layers) + backward_flops(layers)
    shown = []
    for row in rows:
        rate = row["images/s"]
        row = {"model": name} | row | {"to eager": rate / rows[0]["images/s"], "share of peak": rate * flops / peak}
        spread = f" ({min(row['of rounds']):,.0f} .. {max(row['of rounds']):,.0f})" if "of rounds" in row else ""
        memory = f", {row['MiB']:,.0f} MiB" if "MiB" in row else ""
        print(
            f"{name:9} {row['way']:10} {rate:10,.0f} images/s{spread}, {row['to eager']:.2f} x eager, "
            f"{100 * row['share of peak']:.2f} % of the peak{memory}; {row['step']}",
            flush=True,
        )
        shown.append(row)
    return shown


def equality(models: dict[str, list[nn.Module]]) -> str:
    """Of the weights that trainings of one seed end in."""
    (one, again), (captured, _) = models["eager"], models["graph"]
    return f"eager twice {difference(one, again)}; graph and eager {difference(one, captured)}"


def difference(one: nn.Module, other: nn.Module) -> str:
    pairs = list(zip(one.state_dict().values(), other.state_dict().values(), strict=True))
    if all(torch.equal(mine, theirs) for mine, theirs in pairs):
        return "equal to the bit"
    most = max(float((mine.float() - theirs.float()).abs().max()) for mine, theirs in pairs)
    return f"differ by at most {most:.1e}"


def fresh(name: str, size: Size) -> tuple[nn.Module, ResidentBatches, Recipe]:
    model, changes = size.models[name]
    recipe = Recipe(epochs=EPOCHS, batch_size=size.batch, precision="bf16", eval_every=EPOCHS, **changes)
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (size.steps * size.batch, 3, 32, 32), generator=generator, dtype=torch.uint8)
    labels = torch.randint(CLASSES, (len(images),), generator=generator)
    batches = ResidentBatches(images.to(DEVICE), labels.to(DEVICE), DATA, size.batch, Training(Augment(), seed=0))
    torch.manual_seed(0)
    return build(model, image_size=32, channels=3, num_classes=CLASSES).to(DEVICE), batches, recipe


def by_vitlib(name: str, size: Size, tick: Timed, *, capture: bool) -> tuple[nn.Module, str]:
    model, batches, recipe = fresh(name, size)
    context = Context(DEVICE, Path(), None, parent=lambda run: None, tick=tick, capture=capture)
    trained = train(model, batches, cross_entropy, recipe, num_classes=CLASSES, context=context)
    return model, str(trained.measured["step"])


def by_timm(name: str, size: Size, tick: Timed) -> tuple[nn.Module, str]:
    model, batches, recipe = fresh(name, size)
    optimizer = create_optimizer_v2(model, opt=recipe.optimizer, lr=recipe.lr, weight_decay=recipe.weight_decay, momentum=0.9)
    scheduler, criterion = make_schedule(optimizer, recipe, size.steps), SoftTargetCrossEntropy()
    mix = target_maker(recipe, CLASSES)
    model.train()
    for epoch in range(EPOCHS):
        for step, (images, labels) in enumerate(batches.epoch(epoch), epoch * size.steps + 1):
            images, targets = mix(images, labels)
            with torch.autocast(DEVICE, torch.bfloat16):
                loss = criterion(model(images), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step_update(step)
            tick()
    return model, "eager"


def by_byot(name: str, size: Size, tick: Timed) -> tuple[nn.Module, str]:
    model, batches, _ = fresh(name, size)
    held = [(images.cpu(), labels.cpu()) for images, labels in batches.epoch(0)]
    optimizer, criterion = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=5e-4, momentum=0.9), nn.CrossEntropyLoss()
    total, right = 0.0, 0.0
    model.train()
    for _ in range(EPOCHS):
        for images, labels in held:
            images, labels = images.to(DEVICE), labels.to(DEVICE)
            outputs = model(images)
            loss = criterion(outputs, labels)
            total += loss.item()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            right += float(outputs.argmax(dim=1).eq(labels).sum())
            tick()
    return model, "eager"


WAYS: dict[str, Callable[[str, Size, Timed], tuple[nn.Module, str]]] = {
    "eager": lambda *asked: by_vitlib(*asked, capture=False),
    "graph": lambda *asked: by_vitlib(*asked, capture=True),
    "timm": by_timm,
    "BYOT": by_byot,
}


class Member:
    """A process that trains when it is asked to, and waits for the others when it is warm."""

    def __init__(self, quick: bool):
        command = [sys.executable, __file__, "--member", *["--quick"] * quick]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)

    def __enter__(self) -> Member:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def tell(self, word: str) -> None:
        print(word, file=self._process.stdin)

    def said(self) -> str:
        return self._process.stdout.readline().strip()

    def expect(self, word: str) -> None:
        if (said := self.said()) != word:
            raise RuntimeError(f"a process said {said!r} in place of {word!r}")


def member(quick: bool) -> None:
    size = Size(quick)

    def begin() -> None:
        print("ready", flush=True)
        sys.stdin.readline()

    with one_thread(DEVICE):
        while name := sys.stdin.readline().strip():
            timed = Timed(size, begin)
            _, step = WAYS["graph"](name, size, timed)
            print(json.dumps([timed.began, timed.ended, step]), flush=True)


def synchronise() -> None:
    if DEVICE == "cuda":
        torch.cuda.synchronize()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small models, few steps, two processes")
    parser.add_argument("--member", action="store_true", help="one of K processes, for the script itself")
    options = parser.parse_args()
    quick = options.quick or DEVICE == "cpu"
    (member if options.member else main)(quick)
