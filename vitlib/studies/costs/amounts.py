"""What a run asks of a device: FLOPs by kind, activations, kernels, updates; and of a disk and its memory."""

from __future__ import annotations

from dataclasses import astuple, dataclass, replace
from functools import lru_cache

from vitlib.spec import RunSpec
from vitlib.studies.costs import kinds  # noqa: F401  (registers)
from vitlib.training.work.declared import Work
from vitlib.training.work.layers import Chain, backward_flops, forward_flops, gradients
from vitlib.training.work.registry import Sets, work_of
from vitlib.training.work.update import kernels_beside

FLOAT = 4  # bytes
BACKWARD = {"product": 2, "convolution": 1}  # operations for each of the forward pass
BESIDE = 20_000  # bytes of a run without weights, as those of the documents have


@dataclass(frozen=True)
class Amounts:
    """Of one run, or of several added up.

    Args:
        products, convolutions: FLOPs in float32; half: both in bfloat16.
        elements: activations written, forward and backward; one of bfloat16 is half of one.
        heads: of attention, each of each image, forward and backward.
        kernels: operations asked for, forward and backward.
        steps: updates of weights; `moved`: parameters that they move, each as often as it is moved.
        epochs: of trainings.
        runs: each has a fixed cost.
    """

    products: float = 0.0
    convolutions: float = 0.0
    half: float = 0.0
    elements: float = 0.0
    heads: float = 0.0
    kernels: float = 0.0
    steps: float = 0.0
    moved: float = 0.0
    epochs: float = 0.0
    runs: int = 0

    def __add__(self, other: Amounts) -> Amounts:
        return Amounts(*(mine + theirs for mine, theirs in zip(astuple(self), astuple(other), strict=True)))

    @property
    def flops(self) -> float:
        return self.products + self.convolutions + self.half


@lru_cache(maxsize=20_000)
def amounts_of(spec: RunSpec, sets: Sets) -> Amounts:
    """All that a run computes on networks; its own fixed cost counts as one run."""
    return sum((amounts(work, sets) for work in work_of(spec, sets)), Amounts(runs=1))


def amounts(work: Work, sets: Sets) -> Amounts:
    """Of one training or pass."""
    images = _images(work, sets)
    batches = images // work.batch if work.recipe else -(-images // work.batch)
    seen, asked = seen_by(work, sets), work.epochs * batches
    live = _pass(work.chains, seen, asked, backward=work.recipe is not None)
    if work.recipe and work.recipe.precision == "bf16":
        live = replace(live, products=0.0, convolutions=0.0, half=live.flops, elements=live.elements / 2)
    kept = _pass(work.kept, images + 1, 1 - (-images // 256), backward=False)  # one image tells whether they fit into memory
    return live + kept + (_updates(work, asked) if work.recipe else Amounts())


def seen_by(work: Work, sets: Sets) -> float:
    """Images that its chains see, each as often as it is seen; a training drops the last incomplete batch of an epoch."""
    images = _images(work, sets)
    return work.epochs * (images // work.batch * work.batch if work.recipe else images)


def _updates(work: Work, steps: float) -> Amounts:
    return Amounts(
        kernels=steps * kernels_beside(work.recipe, work.chains), steps=steps, moved=steps * trained_parameters(work), epochs=work.epochs
    )


def _images(work: Work, sets: Sets) -> int:
    if work.alone is not None:
        return work.alone
    count = sets.images(work.data, work.split)
    if work.held_out:
        held = sets.held_out(work.data, work.held_out)
        count = held if work.part == "held-out" else count - held
    return count if work.most is None else min(count, work.most)


def _pass(chains: tuple[Chain, ...], images: float, asked: float, *, backward: bool) -> Amounts:
    total = Amounts()
    for chain in chains:
        by_kind = {kind: tuple(layer for layer in chain if layer.kind == kind) for kind in ("product", "convolution")}
        flops = {kind: images * forward_flops(layers) for kind, layers in by_kind.items()}
        elements, heads, kernels = (sum(getattr(layer, name) for layer in chain) for name in ("elements", "heads", "kernels"))
        if backward:
            taken = gradients(chain)
            for layer, count in zip(chain, taken, strict=True):
                flops[layer.kind] += images * 2 * count * layer.macs
            elements += 2 * sum(layer.elements for layer, count in zip(chain, taken, strict=True) if count)
            heads += sum(count * layer.heads for layer, count in zip(chain, taken, strict=True))
            kernels += sum(BACKWARD[layer.kind] * layer.kernels for layer, count in zip(chain, taken, strict=True) if count)
        total += Amounts(flops["product"], flops["convolution"], elements=images * elements, heads=images * heads, kernels=asked * kernels)
    return total


def step_flops(work: Work) -> float:
    """FLOPs of one image in a training step."""
    return sum(forward_flops(chain) + backward_flops(chain) for chain in work.chains)


def trained_parameters(work: Work) -> float:
    return sum(layer.parameters for chain in work.chains for layer in chain if layer.trains)


def memory(spec: RunSpec, sets: Sets) -> float:
    """Bytes at most: weights with gradients and two moments, activations of a batch kept for the backward pass, resident images."""
    return max((_memory(work, sets) for work in work_of(spec, sets)), default=0.0)


def _memory(work: Work, sets: Sets) -> float:
    layers = [layer for chain in work.chains for layer in chain]
    weights = FLOAT * sum(layer.parameters for layer in layers)
    size = 2 if work.recipe and work.recipe.precision == "bf16" else FLOAT
    parts = work.recipe.accumulate if work.recipe else 1
    images = work.batch if work.recipe else min(work.batch, _images(work, sets))
    taken = [layer.elements for chain in work.chains for layer, count in zip(chain, gradients(chain), strict=True) if count]
    held = sum(taken) if work.recipe else max((layer.elements for layer in layers), default=0.0)
    resident = sets.images(work.data, work.split) * work.data.channels * work.data.image_size**2 if work.data and work.data.resident else 0
    return weights + 3 * FLOAT * (trained_parameters(work) if work.recipe else 0) + size * held * images / parts + resident


def storage(spec: RunSpec, is_parent: bool, sets: Sets) -> float:
    """Bytes of a stored run: tables and arrays, and the weights of a run that others start from."""
    keeps = is_parent or getattr(spec, "keep_weights", False)
    layers = [layer for work in work_of(spec, sets)[:1] for layer in work.chains[0]] if keeps else []
    return BESIDE + FLOAT * sum(layer.parameters for layer in layers)
