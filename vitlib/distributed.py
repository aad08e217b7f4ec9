"""One run over several processes that torchrun started: each trains on its part of every batch, and gradients are averaged.

The first process leads: it alone reads plans and writes results, and calls the others to the runs whose class is `divisible`.
Batches of an evaluation are taken in turns, so that each image is looked at once. Batch norm takes the statistics of a process's own
part, and the leader's are kept, unless the recipe says `sync_batchnorm`. Imports torch only where there are several processes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import reduce
from typing import TYPE_CHECKING, Any

from vitlib.dumped import dump, rebuild
from vitlib.spec import RunSpec, SpecError

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.distributed import ProcessGroup

PATIENCE = timedelta(days=7)  # while the leader computes what cannot be divided
SILENCE = timedelta(minutes=30)  # within a run: after that a host is given up whose connections were not closed, as without power
_ROOM: dict[int, Tensor] = {}  # of one exchange, by its size
_dividing = False
_calling: ProcessGroup | None = None  # over which the leader calls, and the others wait


class LostError(ConnectionError):
    """Another process of the run is gone, or its host. It says nothing against the run, which goes on from its checkpoint."""


def launched() -> int:
    """How many processes torchrun started; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", 1))


def leads() -> bool:
    return int(os.environ.get("RANK", 0)) == 0


def on_this_host() -> int:
    """How many of them torchrun started on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", launched()))


def device(wanted: str, count: int) -> str:
    """This process's own of `count` GPUs, or the CPU if that is wanted or all there is.

    Raises:
        SpecError: if there are fewer GPUs than processes on this machine, or none where one is wanted.
    """
    if wanted == "cpu" or (wanted == "auto" and not count):
        return "cpu"
    here = on_this_host()
    if count < here:
        raise SpecError(f"device: got {wanted!r} in {here} processes that torchrun started, and torch sees {count} GPUs here; allowed: cpu")
    return f"cuda:{os.environ['LOCAL_RANK']}"


def processes() -> int:
    """How many share the run at hand."""
    return launched() if _dividing else 1


def share() -> tuple[int, ...]:
    """This process's part in a seed: its rank among several, nothing alone."""
    return (int(os.environ["RANK"]),) if _dividing else ()


def part(batch: Any) -> Any:
    """This process's part of a batch's indices."""
    return batch[share()[0] :: processes()] if _dividing else batch


def require_equal_parts(batch_size: int, accumulate: int, mixing: bool) -> None:
    """Refuse a batch that the processes cannot share equally; timm mixes pairs of images.

    Raises:
        SpecError: naming the smallest number that the batch must be a multiple of.
    """
    least = processes() * accumulate * (2 if mixing else 1)
    if _dividing and batch_size % least:
        raise SpecError(f"recipe.batch_size={batch_size} in {processes()} processes; allowed: a multiple of {least}")


def average(given: Iterable[Tensor]) -> None:
    """Replace each tensor by its mean over the processes, in one exchange; one process does not even ask for them."""
    if not _dividing:
        return
    import torch

    tensors = list(given)
    flat = torch.cat([tensor.flatten() for tensor in tensors], out=_room_for(tensors))
    add_up(flat)
    flat /= processes()
    for tensor, mean in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
        tensor.copy_(mean.view_as(tensor))


def _room_for(tensors: list[Tensor]) -> Tensor:
    """The memory of the last exchange, if as much goes into it: to ask for it anew took longer than the exchange."""
    import torch

    count, dtype = sum(tensor.numel() for tensor in tensors), reduce(torch.promote_types, (tensor.dtype for tensor in tensors))
    kept = _ROOM.get(count)
    if kept is None or (kept.dtype, kept.device) != (dtype, tensors[0].device):
        _ROOM.clear()
        _ROOM[count] = tensors[0].new_empty(count, dtype=dtype)
    return _ROOM[count]


def add_up(tensor: Tensor) -> None:
    """Replace a tensor by its sum over the processes."""
    import torch

    with _exchange():
        torch.distributed.all_reduce(tensor)


def start_alike(model: nn.Module, updates: int) -> None:
    """Give every process the first one's parameters and buffers.

    Raises:
        SpecError: if the processes go on from checkpoints of a different number of updates.
    """
    if not _dividing:
        return
    found = _gathered(updates)
    if len({*found}) > 1:
        raise SpecError(f"results_dir: processes found checkpoints after {found} updates; allowed: one folder that all hosts share")
    same_as_the_leader(model.state_dict().values())


def same_as_the_leader(tensors: Iterable[Tensor]) -> None:
    """Replace tensors by the first process's."""
    if not _dividing:
        return
    import torch

    with _exchange():
        for tensor in tensors:
            torch.distributed.broadcast(tensor, src=0)


def turn() -> tuple[int, int]:
    """Of things that processes take in turns: the first that is this one's, and how many to go on by."""
    return (share()[0], processes()) if _dividing else (0, 1)


def in_turn(own: list[Any]) -> list[Any]:
    """What all processes made of things that they took in turns, in the order of the things."""
    if not _dividing:
        return own
    every = _gathered(own)
    return [every[place % len(every)][place // len(every)] for place in range(sum(map(len, every)))]


@contextmanager
def team(device: str) -> Iterator[None]:
    """Processes that torchrun started know each other within; leaving it as leader sends the others home."""
    global _calling
    import torch

    if device.startswith("cuda"):
        torch.cuda.set_device(device)
    backend = "cpu:gloo,cuda:nccl" if device.startswith("cuda") else "gloo"
    with _exchange():
        torch.distributed.init_process_group(backend, timeout=SILENCE)
        _calling = torch.distributed.new_group(backend="gloo", timeout=PATIENCE)
    try:
        yield
        if leads():
            _call(None)
    finally:
        torch.distributed.destroy_process_group()


def _gathered(value: Any) -> list[Any]:
    """Every process's value."""
    import torch

    found = [None] * processes()
    with _exchange():
        torch.distributed.all_gather_object(found, value)
    return found


@contextmanager
def _exchange() -> Iterator[None]:
    """Torch's errors, by which a process hears that another has ended, in words."""
    try:
        yield
    except RuntimeError as error:
        why = str(error).partition("\n")[0]
        raise LostError(
            f"another process of this run has ended, or its host cannot be reached ({why}); what is stored is kept, "
            "and so is the run's last checkpoint: the same command goes on from there"
        ) from error


@contextmanager
def divided(spec: RunSpec) -> Iterator[None]:
    """As leader: call the others to this run, if it can be divided."""
    if launched() == 1 or not spec.divisible:
        yield
        return
    _call(dump(spec))
    with _division():
        yield


def follow(compute: Callable[[RunSpec], Any]) -> None:
    """As one of the others: compute the same runs until the leader sends home; what they give is the leader's to keep."""
    while (called := _call(None)) is not None:
        with _division():
            compute(rebuild(called))


@contextmanager
def _division() -> Iterator[None]:
    global _dividing
    _dividing = True
    try:
        yield
    finally:
        _dividing = False
        _ROOM.clear()


def _call(dumped: dict[str, Any] | None) -> dict[str, Any] | None:
    """What the leader says."""
    import torch

    message = [dumped]
    with _exchange():
        torch.distributed.broadcast_object_list(message, src=0, group=_calling, device=torch.device("cpu"))
    return message[0]
