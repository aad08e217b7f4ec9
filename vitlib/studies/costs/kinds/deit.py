"""What the runs of DeiT do."""

from __future__ import annotations

from collections.abc import Iterator

from vitlib.papers.deit.specs import Anatomy, Released, Student, Throughput, Tokens
from vitlib.training.work.declared import Work, evaluations, looking, network_on, timing, training
from vitlib.training.work.layers import frozen, network
from vitlib.training.work.registry import Sets, does

TIMED = 25  # batches of a measurement of speed, five of them to warm up


@does(Student)
def student(spec: Student, sets: Sets) -> Iterator[Work]:
    classes = sets.classes(spec.data)
    chain = network_on(spec.model, spec.data, classes).layers
    beside = (frozen(network_on(spec.teacher.model, spec.data, classes).layers),) if spec.teacher else ()
    yield training(spec.data, spec.recipe, chain, *beside)
    yield looking(spec.data, "watched", chain, times=evaluations(spec.recipe))
    yield looking(spec.data, "test", chain, times=1 + (spec.recipe.ema_decay is not None))
    if spec.second_test:
        yield looking(spec.second_test, "test", chain)


@does(Released)
def released(spec: Released, sets: Sets) -> Iterator[Work]:
    for data in (spec.data, spec.second_test):
        if data:
            yield looking(data, "test", network_on(spec.model, spec.data, sets.classes(spec.data)).layers)


@does(Tokens)
def tokens(spec: Tokens, sets: Sets) -> Iterator[Work]:
    """All test images for the cosines, some for attention and logits."""
    data = spec.student.data
    classes = sets.classes(data)
    chain = network_on(spec.student.model, data, classes).layers
    teacher = (network_on(spec.student.teacher.model, data, classes).layers,) if spec.student.teacher else ()
    yield looking(data, "test", chain)
    yield looking(data, "test", chain, chain, *teacher, most=spec.images)


@does(Anatomy)
def anatomy(spec: Anatomy, sets: Sets) -> Iterator[Work]:
    yield timing(2, network(spec.model, spec.image_size, spec.channels, spec.num_classes).layers)


@does(Throughput)
def throughput(spec: Throughput, sets: Sets) -> Iterator[Work]:
    yield timing(TIMED * spec.batch_size, network(spec.model, spec.image_size, spec.channels, spec.num_classes).layers)
