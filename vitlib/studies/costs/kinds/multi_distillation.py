"""What the runs of multi-distillation do."""

from __future__ import annotations

from collections.abc import Iterator

from vitlib.inputs.models import Vit
from vitlib.papers.multi_distillation.specs import Alone, Best, Combined, Guided, NetworkCost, Proposals
from vitlib.training.work.declared import Work, evaluations, looking, network_on, timing, training
from vitlib.training.work.layers import Chain, Layer, convolution, frozen, linear, norm, side_after
from vitlib.training.work.registry import Sets, does

FOLLOWED, EXITS = 64, 3  # images on which a loss is followed; exits of a network


@does(Alone)
def alone(spec: Alone, sets: Sets) -> Iterator[Work]:
    chain = network_on(spec.model, spec.data, sets.classes(spec.data)).layers
    yield training(spec.data, spec.recipe, chain, held_out=spec.held_out)
    yield _measured(spec, chain)


@does(Combined)
def combined(spec: Combined, sets: Sets) -> Iterator[Work]:
    """Two peers, or one network and its frozen teacher; apart, each of the three losses has steps of its own."""
    classes, weights = sets.classes(spec.data), spec.objective.weights
    whole, peers = network_on(spec.model, spec.data, classes).layers, 1 if spec.teacher else 2
    exits = _exits(spec, classes) if weights.c else ()
    angle = _angle(spec) if weights.b and weights.e else ()
    teacher = (frozen(whole),) if spec.teacher else ()
    still = tuple(frozen(chain) for chain in exits)
    apart = {"kd": (whole, *still), "rkd": (whole + angle, frozen(angle), *still), "skd": (whole, *exits)}
    for learner in apart.values() if spec.order != "together" else [(whole + angle, frozen(angle), *exits)]:
        epochs = spec.recipe.epochs / (len(apart) if spec.order == "phases" else 1)
        yield training(spec.data, spec.recipe, *learner * peers, *teacher, epochs=epochs, held_out=spec.held_out)
    times = evaluations(spec.recipe)
    yield looking(spec.data, "train", *(whole,) * peers, times=times, held_out=spec.held_out)
    yield looking(spec.data, "train", *(whole, *exits) * peers, *teacher, times=times, held_out=spec.held_out, most=FOLLOWED)
    yield _measured(spec, *(whole,) * peers, *((whole, *exits) if exits else ()))


@does(Guided, Best)
def chosen(spec: Guided | Best, sets: Sets) -> Iterator[Work]:
    """The run that it will be, whichever weights are chosen."""
    yield from combined(spec.base if isinstance(spec, Best) else spec.proposals.base, sets)


def _measured(spec: Alone | Combined, *chains: Chain) -> Work:
    if spec.measured_on == "held-out":
        return looking(spec.data, "train", *chains, held_out=spec.held_out)
    return looking(spec.data, "test", *chains)


def _angle(spec: Combined) -> Chain:
    """B products of (B, D) and (D, B) a batch."""
    width, batch = (spec.model.embed_dim if isinstance(spec.model, Vit) else 8 * spec.model.width), spec.recipe.batch_size
    return (Layer(batch**2 * width, 0, 3 * batch**2 + 4 * batch * width, 25),)


def _exits(spec: Combined, classes: int) -> tuple[Chain, ...]:
    """Each behind a layer without cost that trains, since the network before it does: a ResNet's of three convolutions."""
    behind = Layer(0, 1, 0, 0)
    if isinstance(spec.model, Vit):
        return tuple((behind, norm(spec.model.embed_dim, 1), linear(spec.model.embed_dim, classes)) for _ in range(EXITS))
    width, size = 8 * spec.model.width, spec.data.image_size
    chains = []
    for stage in range(EXITS):
        kernel, side = 2 ** (EXITS - stage), side_after(size, stage)
        chains.append(
            (
                behind,
                convolution(1, spec.model.width * 2**stage, width // 4, side),
                convolution(kernel, width // 4, width // 4, side // kernel),
                convolution(1, width // 4, width, side // kernel),
                linear(width, classes),
            )
        )
    return tuple(chains)


@does(Proposals)
def proposals(spec: Proposals, sets: Sets) -> Iterator[Work]:
    """No networks; its time is the overhead of a run."""
    yield from ()


@does(NetworkCost)
def network_cost(spec: NetworkCost, sets: Sets) -> Iterator[Work]:
    yield timing(1, network_on(spec.model, spec.data, sets.classes(spec.data)).layers)
