"""What the runs of the distillation from two teachers do."""

from __future__ import annotations

from collections.abc import Iterator

from vitlib.inputs.models import Vit
from vitlib.papers.dual_ssl_kd.specs import AttentionMaps, Joint, Taught, Tuned
from vitlib.training.work.declared import Work, evaluations, judged, looking, network_on, tokens_of, training
from vitlib.training.work.layers import Chain, Layer, frozen, operations
from vitlib.training.work.registry import Sets, does

MATCHING, MATCHING_BOTH = 90, 290  # operations of the losses that match a teacher, and two jointly
WATCHED = 128  # images on which the terms of a joint training are followed


@does(Tuned)
def tuned(spec: Tuned, sets: Sets) -> Iterator[Work]:
    """What a protocol leaves as it is stands before what it trains, and is remembered where it can be."""
    whole = network_on(spec.teacher.model, spec.data, sets.classes(spec.data))
    fronts = {"finetune": (), "linear": (*whole.until(len(whole.blocks)), *whole.end[:-1]), "partial1": whole.until(len(whole.blocks) - 1)}
    front = fronts[spec.protocol]
    yield training(spec.data, spec.recipe, whole.layers[len(front) :], remembered=(frozen(front),) if front else ())
    yield from judged(spec.data, whole.layers)


@does(Taught)
def taught(spec: Taught, sets: Sets) -> Iterator[Work]:
    classes = sets.classes(spec.data)
    chain = network_on(spec.student, spec.data, classes).layers
    teachers = tuple(frozen(network_on(teacher.teacher.model, spec.data, classes).layers) for teacher in spec.teachers)
    yield training(spec.data, spec.recipe, chain, operations(MATCHING * len(teachers)), remembered=teachers)
    yield from judged(spec.data, chain)


@does(Joint)
def joint(spec: Joint, sets: Sets) -> Iterator[Work]:
    """The student, the ends of both teachers, and the products of queries and keys that attention is compared by."""
    classes, deepest = sets.classes(spec.data), spec.attention.blocks[-1]
    own = network_on(spec.student, spec.data, classes)
    maps = _maps(spec.student, spec, 2, trained=True)
    fronts, ends = [], []
    for teacher in (spec.cl, spec.mim):
        whole = network_on(teacher.model, spec.data, classes)
        fronts.append(frozen(whole.until(len(whole.blocks) - deepest)))
        still = frozen(sum(whole.blocks[len(whole.blocks) - deepest : -1], ()))
        ends.append((*still, *whole.blocks[-1], *whole.end))
    teachers = [_maps(teacher.model, spec, None, trained=False) for teacher in (spec.cl, spec.mim)]
    taught = (own.layers + maps, *ends, *teachers)
    yield training(spec.data, spec.recipe, *taught, operations(MATCHING_BOTH), remembered=tuple(fronts))
    times = evaluations(spec.recipe)
    for split, often_seen, most in (("watched", times, None), ("watched", times, WATCHED), ("test", 1, None)):
        yield looking(spec.data, split, *fronts, times=1 if spec.data.resident else often_seen, most=most)
        yield looking(spec.data, split, *(taught if most else (own.layers, *ends)), times=often_seen, most=most)
    yield looking(spec.data, "watched", own.layers, *ends, *fronts, most=WATCHED)  # the attention of each at the end


def _maps(model, spec: Joint, heads: int | None, *, trained: bool) -> Chain:
    """Of each block compared, q k^T of some heads; by the last place in a chain that trains they get gradients."""
    if not isinstance(model, Vit):
        return ()
    count, tokens = heads or model.num_heads, tokens_of(model, spec.data)
    macs = count * tokens**2 * (model.embed_dim // model.num_heads)
    used = len(spec.attention.blocks)
    return tuple(Layer(macs, 0, 3 * count * tokens**2, 6, trains=trained) for _ in range(used))


@does(AttentionMaps)
def attention_maps(spec: AttentionMaps, sets: Sets) -> Iterator[Work]:
    yield looking(spec.data, "test", network_on(spec.teacher.model, spec.data, 0).layers, most=spec.images)
