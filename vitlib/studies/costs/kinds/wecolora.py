"""What the runs of WeCoLoRA do."""

from __future__ import annotations

from collections.abc import Iterator

from vitlib.inputs.models import Vit
from vitlib.papers.wecolora.specs import Copied, Costs, Distilled, Downstream, Spectra, StageTimes
from vitlib.training.work.declared import Work, evaluations, looking, network_on, timing, tokens_of, training, training_on_features
from vitlib.training.work.layers import Chain, Layer, Network, adapted, frozen, linear, network
from vitlib.training.work.registry import Sets, does

FOLLOWED = 64  # images on which the distance to the teacher is followed
STARTS = 3  # of adapters, whose first loss is followed over ranks
TIMED = 25  # batches of a measurement of speed, five of them to warm up


@does(Copied)
def copied(spec: Copied, sets: Sets) -> Iterator[Work]:
    yield from ()


@does(Distilled)
def distilled(spec: Distilled, sets: Sets) -> Iterator[Work]:
    """Phase by phase: the adapted blocks that are active, and the teacher up to the last feature that is compared."""
    teacher = network_on(spec.teacher.model, spec.data, 0)
    kept = range(0, len(teacher.blocks), spec.reduction)
    student = Network(teacher.front, tuple(_adapted(spec, teacher.blocks[place], spec.rank) for place in kept), teacher.end)
    stages = [(active, spec.staged_epochs) for active in range(1, len(kept))] if spec.staged_epochs else []
    whole = spec.recipe.epochs - sum(epochs for _, epochs in stages)
    for active, epochs in [*stages, (len(kept), whole)]:
        seen = frozen(teacher.until(min(active * spec.reduction, len(teacher.blocks))))
        chain = frozen(student.front) + sum(student.blocks[:active], ())
        yield training(spec.data, spec.recipe, chain, *(() if spec.cached else (seen,)), epochs=epochs)
    if spec.cached:
        yield looking(spec.data, "train", teacher.until(len(teacher.blocks)))
    yield looking(spec.data, "test", teacher.until(len(teacher.blocks)), most=FOLLOWED)
    yield looking(spec.data, "test", student.layers, times=1 + evaluations(spec.recipe), most=FOLLOWED)


def _adapted(spec: Distilled | Spectra, chain: Chain, rank: int) -> Chain:
    model = spec.teacher.model
    if not isinstance(model, Vit):
        return frozen(chain)
    return adapted(chain, model.embed_dim, tokens_of(model, spec.data), rank, model.mlp_ratio)


@does(Downstream)
def downstream(spec: Downstream, sets: Sets) -> Iterator[Work]:
    classes = sets.classes(spec.data)
    teacher = network_on(spec.teacher.model, spec.data, classes if spec.protocol == "finetune" else 0)
    reduction = spec.student.reduction if spec.student else 1
    backbone = Network(teacher.front, teacher.blocks[::reduction], teacher.end)
    yield looking(spec.data, "test", backbone.layers)
    yield looking(spec.data, "watched", backbone.layers)
    if spec.protocol == "finetune":
        yield training(spec.data, spec.recipe, backbone.layers)
    else:
        yield looking(spec.data, "train", backbone.layers)
        width = max(layer.parameters for layer in backbone.end) // 2 if backbone.end else 1
        yield training_on_features(spec.data, spec.recipe, (linear(width, classes),))


@does(Spectra)
def spectra(spec: Spectra, sets: Sets) -> Iterator[Work]:
    """The teacher's features, and those of a student from each start and rank."""
    teacher = network_on(spec.teacher.model, spec.data, 0)
    body = teacher.until(len(teacher.blocks))
    students = [
        teacher.front + sum((_adapted(spec, block, rank) for block in teacher.blocks[:: spec.reduction]), ())
        for rank in spec.ranks
        for _ in range(STARTS)
    ]
    yield looking(spec.data, "test", body, *students, most=spec.images)
    matrices = sum(layer.parameters for block in teacher.blocks[:: spec.reduction] for layer in block)
    yield timing(1, (Layer(sum(spec.ranks) * matrices, 0, 0, 0),))  # the products by which a start is shifted


@does(StageTimes)
def stage_times(spec: StageTimes, sets: Sets) -> Iterator[Work]:
    plain = Distilled(
        teacher=spec.teacher, data=spec.data, recipe=spec.recipe, seed=0, reduction=spec.reduction, rank=spec.rank, lora_init="svd"
    )  # fmt: skip
    variants = [plain, plain.changed(staged_epochs=spec.staged_epochs)]
    if spec.recipe.plain_images and spec.data.resident:
        variants += [variant.changed(cached=True) for variant in variants]
    warm_up = plain.changed(recipe=spec.recipe.changed(epochs=1, warmup_epochs=0))
    for variant in [warm_up, *variants * spec.repeats]:
        yield from (work for work in distilled(variant, sets) if work.split == "train")


@does(Costs)
def costs(spec: Costs, sets: Sets) -> Iterator[Work]:
    teacher = network(spec.teacher.model, spec.image_size, spec.teacher.channels, 0)
    student = Network(teacher.front, teacher.blocks[:: spec.reduction], teacher.end)
    yield timing(TIMED * spec.batch_size + 2, teacher.layers, student.layers)
