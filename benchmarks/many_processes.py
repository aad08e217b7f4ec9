"""Averaging gradients in one exchange after the backward pass, as vitlib does it, or by torch's DistributedDataParallel?

Two processes on CPUs over gloo take the same training steps in three ways, in turn: `one exchange` after backward; `DDP`, which
exchanges buckets of 25 MB while backward goes on; and `none`, which exchanges nothing. What an exchange takes by itself is measured too:
the hidden share says how much of it a way does not add to a step.
"""

from __future__ import annotations

import os
import socket
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import _paired
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from vitlib import distributed
from vitlib.inputs.models import ResNet, Vit, build, parameter_count

PROCESSES = 2
WARM_UP = 3


@dataclass(frozen=True)
class Case:
    """A model, its images (random), the batch of one process and how many steps of each way are timed."""

    model: Vit | ResNet
    image_size: int
    batch: int
    steps: int

    def fresh(self) -> nn.Module:
        torch.manual_seed(0)
        return build(self.model, image_size=self.image_size, channels=3, num_classes=10)

    def images(self) -> Tensor:
        return torch.randn(self.batch, 3, self.image_size, self.image_size)


CASES = {
    "ViT, width 192, depth 4, 32 px": Case(Vit(embed_dim=192, depth=4, num_heads=3, patch_size=4, init="xavier"), 32, 8, 16),
    "ResNet, width 32, 4 blocks, 32 px": Case(ResNet(width=32, blocks=(1, 1, 1, 1)), 32, 8, 16),
    "ViT, width 768, depth 6, 16 patches": Case(Vit(embed_dim=768, depth=6, num_heads=12, patch_size=8, init="xavier"), 32, 2, 16),
}


def ways(case: Case) -> dict[str, Callable[[], None]]:
    """A step of each way on a model of its own: forward, backward, gradients averaged; no update, so that all see the same."""
    images, labels = case.images(), torch.randint(10, (case.batch,))
    plain, wrapped = case.fresh(), DistributedDataParallel(case.fresh())
    flat = torch.zeros(parameter_count(plain))

    def backward(model: nn.Module) -> None:
        model.zero_grad()
        F.cross_entropy(model(images), labels).backward()

    def one_exchange() -> None:
        backward(plain)
        distributed.average([parameter.grad for parameter in plain.parameters()])

    steps = {"none": lambda: backward(plain), "one exchange": one_exchange, "DDP": lambda: backward(wrapped)}
    one_exchange()
    backward(wrapped)
    for mine, theirs in zip(plain.parameters(), wrapped.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-4, atol=1e-6)
    return steps | {"an exchange alone": lambda: distributed.add_up(flat)}


def seconds_of(case: Case) -> dict[str, list[float]]:
    """Seconds of the slower process, step by step, the ways in turn."""
    every, found = ways(case), {}
    for number in range(WARM_UP + case.steps):
        order = list(every) if number % 2 else list(reversed(every))
        for name in order:
            torch.distributed.barrier()
            began = time.perf_counter()
            every[name]()
            took = torch.tensor([time.perf_counter() - began])
            torch.distributed.all_reduce(took, op=torch.distributed.ReduceOp.MAX)
            if number >= WARM_UP:
                found.setdefault(name, []).append(took.item())
    return found


def measure(rank: int, port: int, name: str, told) -> None:
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(PROCESSES), "GLOO_SOCKET_IFNAME": "lo"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo")
    with distributed._division():
        found = seconds_of(CASES[name])
    if rank == 0:
        told.put(found)
    torch.distributed.destroy_process_group()


def compared(name: str) -> dict:
    context = torch.multiprocessing.get_context("spawn")
    told, port = context.SimpleQueue(), _free_port()
    processes = [context.Process(target=measure, args=(rank, port, name, told)) for rank in range(PROCESSES)]
    for process in processes:
        process.start()
    found = told.get()
    for process in processes:
        process.join()
    median = {way: statistics.median(seconds) for way, seconds in found.items()}
    pairs = [mine / theirs for mine, theirs in zip(found["one exchange"], found["DDP"], strict=True)]
    hidden = {way: 1 - _longer(found, way) / median["an exchange alone"] for way in ("one exchange", "DDP")}
    case = CASES[name]
    return {
        "case": name,
        "parameters": parameter_count(case.fresh()),
        "batch of a process": case.batch,
        "n": case.steps,
        "seconds": {way: _spread(seconds) for way, seconds in found.items()},
        "one exchange / DDP": _spread(pairs),
        "share of the exchange that is hidden": hidden,
    }


def _longer(found: dict[str, list[float]], way: str) -> float:
    """Seconds that a step takes longer than one without exchange, the median over rounds."""
    return statistics.median(mine - bare for mine, bare in zip(found[way], found["none"], strict=True))


def _spread(values: list[float]) -> dict[str, float]:
    first, median, third = statistics.quantiles(values, n=4, method="inclusive")
    return {"median": median, "quartile_1": first, "quartile_3": third, "min": min(values), "max": max(values)}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def main() -> None:
    about = _paired.machine("cpu", "torch", "timm")
    print(", ".join(f"{key} {value}" for key, value in about.items()), f"| {PROCESSES} processes, one thread each, gloo")
    results = [compared(name) for name in CASES]
    for result in results:
        print(f"{result['case']}, {result['parameters']:,} parameters, {result['batch of a process']} images a process, n {result['n']}")
        for way, spread in result["seconds"].items():
            quartiles = f"{1000 * spread['quartile_1']:.1f} .. {1000 * spread['quartile_3']:.1f}"
            print(f"  {way}: median {1000 * spread['median']:.1f} ms, quartiles {quartiles}")
        ratio = result["one exchange / DDP"]
        print(f"  one exchange / DDP: median {ratio['median']:.3f}, quartiles {ratio['quartile_1']:.3f} .. {ratio['quartile_3']:.3f}")
        hidden = result["share of the exchange that is hidden"]
        print(f"  of an exchange hidden: {', '.join(f'{way} {share:.0%}' for way, share in hidden.items())}")
    _paired.write(__file__, {"question": __doc__.splitlines()[0], "machine": about, "cases": results})


if __name__ == "__main__":
    main()
