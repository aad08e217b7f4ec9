"""What pretrainings do, and looks at frozen teachers."""

from __future__ import annotations

from collections.abc import Iterator

from vitlib.inputs.models import Vit
from vitlib.papers.teachers.measure import AttentionDistances, Quality
from vitlib.teachers.pretrain import DinoTeacher, MaeTeacher, SupervisedTeacher
from vitlib.training.work.declared import Work, evaluations, looking, network_on, training
from vitlib.training.work.layers import Chain, Layer, block, frozen, linear, network, norm, often, operations
from vitlib.training.work.registry import Sets, does

MOST = 10**9
VIEWS = 600  # operations that draw DINO's views and move its teacher


@does(SupervisedTeacher)
def supervised(spec: SupervisedTeacher, sets: Sets) -> Iterator[Work]:
    chain = network_on(spec.model, spec.data, sets.classes(spec.data)).layers
    yield training(spec.data, spec.recipe, chain)
    yield looking(spec.data, "test", chain, times=evaluations(spec.recipe))


@does(DinoTeacher)
def dino(spec: DinoTeacher, sets: Sets) -> Iterator[Work]:
    """The teacher on two global views, the student on all."""
    method, views, channels = spec.method, spec.method.views, spec.data.channels
    body = network_on(spec.model, spec.data, 0).layers
    width = spec.model.embed_dim
    head = (
        linear(width, method.hidden),
        linear(method.hidden, method.hidden),
        linear(method.hidden, method.bottleneck),
        linear(method.bottleneck, method.prototypes),
    )
    seen = [network(spec.model, size, channels, 0).layers + head for size in (views.global_size, views.local_size)]
    student = (often(seen[0], 2), often(seen[1], views.local_views))
    yield training(spec.data, method.recipe, *student, frozen(student[0]), operations(VIEWS))
    yield from _tracked(spec, body)


@does(MaeTeacher)
def mae(spec: MaeTeacher, sets: Sets) -> Iterator[Work]:
    """The encoder on the patches that stay, the decoder on all."""
    method, model = spec.method, spec.model
    whole = network_on(model, spec.data, 0)
    patches = (spec.data.image_size // model.patch_size) ** 2
    kept, wide = patches - round(patches * method.mask_ratio) + 1, method.decoder_dim
    encoder = whole.front + block(model.embed_dim, kept, model.num_heads, model.mlp_ratio) * model.depth + (norm(model.embed_dim, kept),)
    decoder = block(wide, patches + 1, method.decoder_heads) * method.decoder_depth
    pixels = linear(wide, model.patch_size**2 * spec.data.channels, patches + 1)
    yield training(spec.data, method.recipe, (*encoder, linear(model.embed_dim, wide, kept), *decoder, norm(wide, patches + 1), pixels))
    yield from _tracked(spec, whole.layers)


def _tracked(spec: DinoTeacher | MaeTeacher, chain: Chain) -> Iterator[Work]:
    tracking, times = spec.method.tracking, evaluations(spec.method.recipe)
    yield looking(spec.data, "train", chain, times=times, most=tracking.bank)
    yield looking(spec.data, "test", chain, times=times, most=tracking.queries)


@does(Quality)
def quality(spec: Quality, sets: Sets) -> Iterator[Work]:
    """Features, and their products with those of the bank; the classifier's own accuracy where it has one."""
    chain, model = network_on(spec.teacher.model, spec.data, 0).layers, spec.teacher.model
    bank = min(sets.images(spec.data, "train"), spec.bank or MOST)
    width, readouts = (model.embed_dim, 2) if isinstance(model, Vit) else (8 * getattr(model, "width", 0), 1)
    yield looking(spec.data, "train", chain, most=spec.bank)
    yield looking(spec.data, "test", chain, (Layer(readouts * bank * width, 0, readouts * bank, 5),), most=spec.queries)
    if isinstance(spec.teacher.origin, SupervisedTeacher):
        yield looking(spec.data, "test", chain, most=spec.queries)


@does(AttentionDistances)
def attention_distances(spec: AttentionDistances, sets: Sets) -> Iterator[Work]:
    """Each map is multiplied by the distances and by ones."""
    chain, model = network_on(spec.teacher.model, spec.data, 0).layers, spec.teacher.model
    if isinstance(model, Vit):
        patches = (spec.data.image_size // model.patch_size) ** 2
        chain += (Layer(2 * model.depth * model.num_heads * patches**2, 0, 0, 8 * model.depth),)
    yield looking(spec.data, "test", chain, most=spec.images)
