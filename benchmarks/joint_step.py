"""What do the teachers' frozen blocks save a joint step? Time and memory of one, with and without gradient memory in blocks 1-11.

Two ViT-B/16 teachers and a ViT-Ti student of random weights, noise at 224 px; forward, backward and optimiser. `frozen` is the step as
vitlib takes it; in `kept` the frozen blocks want gradients, which are computed and not applied. Each variant has a process of its own:
seconds of single steps after a warm-up, median and range, on a CPU those of one thread without waiting for what other processes take;
bytes saved for the backward pass, each storage counted once and parameters left out; and the peak of memory, resident on a CPU.
`python benchmarks/joint_step.py N` takes N steps instead of 3.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import torch
from torch import Tensor, nn

from vitlib.inputs.models import Vit, build
from vitlib.papers.dual_ssl_kd.compute import adapt
from vitlib.papers.dual_ssl_kd.joint import TwoTeachers, loss_terms
from vitlib.runs.provenance import device_name
from vitlib.runs.workers.one import one_thread
from vitlib.training.loop import peak_bytes

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
BATCH = {"cpu": 8, "cuda": 128}[DEVICE]
CLASSES = 1000
VIT_B = Vit(embed_dim=768, depth=12, num_heads=12, patch_size=16)
VIT_TI = Vit(embed_dim=192, depth=12, num_heads=3, patch_size=16)
WEIGHTS = SimpleNamespace(lambda_1=0.5, lambda_2=0.0, output_weight=1.0, attention_weight=1.0)
VARIANTS = {"frozen": False, "kept": True}


def main(steps: int = 3) -> None:
    rows = {variant: in_a_process_of_its_own(variant, steps) for variant in VARIANTS}
    ratios = {
        name: round(rows["kept"][name] / rows["frozen"][name], 2) for name in rows["frozen"] if not isinstance(rows["frozen"][name], list)
    }
    found = {"device": device_name(DEVICE), "torch": torch.__version__, "batch": BATCH, "steps": steps, **rows, "kept / frozen": ratios}
    print(json.dumps(found, indent=1))
    Path(__file__).with_suffix(f".{DEVICE}.json").write_text(json.dumps(found, indent=1) + "\n")


def in_a_process_of_its_own(variant: str, steps: int) -> dict:
    ran = subprocess.run([sys.executable, __file__, str(steps), variant], check=True, capture_output=True, text=True)
    return json.loads(ran.stdout)


def measured(variant: str, steps: int) -> dict:
    model = networks()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3, fused=True)
    if VARIANTS[variant]:
        model.requires_grad_(True)
    images = torch.randn(BATCH, 3, 224, 224, device=DEVICE)
    targets = nn.functional.one_hot(torch.arange(BATCH, device=DEVICE), CLASSES).float()
    saved = bytes_saved(model, images, targets)
    model.zero_grad()
    seconds = [timed_step(model, optimizer, images, targets) for _ in range(1 + steps)][1:]
    return {
        "s a step": round(statistics.median(seconds), 3),
        "range": [round(min(seconds), 3), round(max(seconds), 3)],
        "saved for backward, GiB": round(saved / 2**30, 3),
        "peak GiB": round(peak_bytes(DEVICE) / 2**30, 2),
    }


def networks() -> TwoTeachers:
    torch.manual_seed(0)
    student, cl, mim = (build(vit, image_size=224, channels=3, num_classes=CLASSES).to(DEVICE) for vit in (VIT_TI, VIT_B, VIT_B))
    for network in (student, cl, mim):
        nn.init.trunc_normal_(network.head.weight, std=0.02)
    for teacher in (cl, mim):
        adapt(teacher, "partial1")
    return TwoTeachers(student, cl, mim).train()


def timed_step(model: nn.Module, optimizer: torch.optim.Optimizer, images: Tensor, targets: Tensor) -> float:
    begun = clock()
    loss_terms(model(images), targets, WEIGHTS).total.backward()
    optimizer.step()
    model.zero_grad()
    return clock() - begun


def bytes_saved(model: nn.Module, images: Tensor, targets: Tensor) -> int:
    """Of one forward pass; views of one storage count once."""
    known = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    storages: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        total = loss_terms(model(images), targets, WEIGHTS).total
    assert total.requires_grad  # the graph lives until here, so no storage is counted and used again
    return sum(storages.values())


def clock() -> float:
    if DEVICE == "cuda":
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()


if __name__ == "__main__":
    if len(sys.argv) == 3:
        with one_thread(DEVICE):
            print(json.dumps(measured(sys.argv[2], int(sys.argv[1]))))
    else:
        main(*map(int, sys.argv[1:]))
