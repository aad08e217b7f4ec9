"""What each class of runs of the documents does: which chains it trains, which stand frozen beside it, and what it looks at."""

from __future__ import annotations

from collections.abc import Iterator

from vitlib.inputs.models import Vit
from vitlib.inputs.sources import Data
from vitlib.papers.afr_pruning.specs import Diagnosis, Pruned
from vitlib.papers.deit.specs import Anatomy, Released, Student, Throughput, Tokens
from vitlib.papers.dual_ssl_kd.specs import AttentionMaps, Joint, Taught, Tuned
from vitlib.papers.multi_distillation.specs import Alone, Best, Combined, Guided, NetworkCost, Proposals
from vitlib.papers.teachers.measure import AttentionDistances, Quality
from vitlib.papers.wecolora.specs import Copied, Costs, Distilled, Downstream, Spectra, StageTimes
from vitlib.teachers.pretrain import DinoTeacher, MaeTeacher, SupervisedTeacher
from vitlib.training.work.declared import Work, evaluations, looking, network_on, timing, training
from vitlib.training.work.layers import Chain, Layer, Network, adapted, block, convolution, frozen, linear, network, norm, often, side_after
from vitlib.training.work.registry import Sets, does

FOLLOWED, EXITS = 64, 3  # images on which a loss is followed; exits of a network
TIMED = 25  # batches of a measurement of speed, five of them to warm up
MOST = 10**9


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
    yield training(spec.data, method.recipe, *student, frozen(student[0]))
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


@does(AttentionMaps)
def attention_maps(spec: AttentionMaps, sets: Sets) -> Iterator[Work]:
    yield looking(spec.data, "test", network_on(spec.teacher.model, spec.data, 0).layers, most=spec.images)


@does(AttentionDistances)
def attention_distances(spec: AttentionDistances, sets: Sets) -> Iterator[Work]:
    """Each map is multiplied by the distances and by ones."""
    chain, model = network_on(spec.teacher.model, spec.data, 0).layers, spec.teacher.model
    if isinstance(model, Vit):
        patches = (spec.data.image_size // model.patch_size) ** 2
        chain += (Layer(2 * model.depth * model.num_heads * patches**2, 0, 0, 8 * model.depth),)
    yield looking(spec.data, "test", chain, most=spec.images)


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


@does(Copied)
def copied(spec: Copied, sets: Sets) -> Iterator[Work]:
    yield from ()


@does(Proposals, NetworkCost)
def described(spec: Proposals | NetworkCost, sets: Sets) -> Iterator[Work]:
    """An image at most; its time is the overhead of a run."""
    yield from ()


@does(Anatomy)
def anatomy(spec: Anatomy, sets: Sets) -> Iterator[Work]:
    yield timing(2, network(spec.model, spec.image_size, spec.channels, spec.num_classes).layers)


@does(Throughput)
def throughput(spec: Throughput, sets: Sets) -> Iterator[Work]:
    yield timing(TIMED * spec.batch_size, network(spec.model, spec.image_size, spec.channels, spec.num_classes).layers)


@does(Costs)
def costs(spec: Costs, sets: Sets) -> Iterator[Work]:
    teacher = network(spec.teacher.model, spec.image_size, spec.teacher.channels, 0)
    student = Network(teacher.front, teacher.blocks[:: spec.reduction], teacher.end)
    yield timing(TIMED * spec.batch_size + 2, teacher.layers, student.layers)


@does(Distilled)
def distilled(spec: Distilled, sets: Sets) -> Iterator[Work]:
    """Phase by phase: the adapted blocks that are active, and the teacher up to the last feature that is compared."""
    teacher = network_on(spec.teacher.model, spec.data, 0)
    kept = range(0, len(teacher.blocks), spec.reduction)
    student = Network(teacher.front, tuple(_with_adapters(spec, teacher.blocks[place]) for place in kept), teacher.end)
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


def _with_adapters(spec: Distilled, chain: Chain) -> Chain:
    model = spec.teacher.model
    if not isinstance(model, Vit):
        return frozen(chain)
    return adapted(chain, model.embed_dim, _tokens(model, spec.data), spec.rank, model.mlp_ratio)


def _tokens(model: Vit, data: Data) -> int:
    return (data.image_size // model.patch_size) ** 2 + 1 + model.distilled


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
        yield training(spec.data, spec.recipe, (linear(width, classes),))


@does(Spectra)
def spectra(spec: Spectra, sets: Sets) -> Iterator[Work]:
    teacher = network_on(spec.teacher.model, spec.data, 0)
    student = Network(teacher.front, teacher.blocks[:: spec.reduction], teacher.end)
    yield looking(spec.data, "test", teacher.layers, *[student.layers] * (3 * len(spec.ranks)), most=spec.images)


@does(StageTimes)
def stage_times(spec: StageTimes, sets: Sets) -> Iterator[Work]:
    plain = Distilled(
        teacher=spec.teacher, data=spec.data, recipe=spec.recipe, seed=0, reduction=spec.reduction, rank=spec.rank, lora_init="svd"
    )  # fmt: skip
    variants = [plain, plain.changed(staged_epochs=spec.staged_epochs)]
    if spec.recipe.plain_images and spec.data.resident:
        variants += [variant.changed(cached=True) for variant in variants]
    for variant in variants * spec.repeats:
        yield from (work for work in distilled(variant, sets) if work.split == "train")


@does(Tuned)
def tuned(spec: Tuned, sets: Sets) -> Iterator[Work]:
    """What a protocol leaves as it is stands before what it trains, and is remembered where it can be."""
    whole = network_on(spec.teacher.model, spec.data, sets.classes(spec.data))
    fronts = {"finetune": (), "linear": (*whole.until(len(whole.blocks)), *whole.end[:-1]), "partial1": whole.until(len(whole.blocks) - 1)}
    front = fronts[spec.protocol]
    yield training(spec.data, spec.recipe, whole.layers[len(front) :], remembered=(frozen(front),) if front else ())
    yield from _judged(spec, whole.layers)


@does(Taught)
def taught(spec: Taught, sets: Sets) -> Iterator[Work]:
    classes = sets.classes(spec.data)
    chain = network_on(spec.student, spec.data, classes).layers
    teachers = tuple(frozen(network_on(teacher.teacher.model, spec.data, classes).layers) for teacher in spec.teachers)
    yield training(spec.data, spec.recipe, chain, remembered=teachers)
    yield from _judged(spec, chain)


def _judged(spec: Tuned | Taught | Pruned, chain: Chain) -> Iterator[Work]:
    yield looking(spec.data, "test", chain)
    yield looking(spec.data, "watched", chain)


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
    yield training(spec.data, spec.recipe, own.layers + maps, *ends, *teachers, remembered=tuple(fronts))
    yield looking(spec.data, "watched", own.layers, *ends, times=evaluations(spec.recipe))
    yield looking(spec.data, "test", own.layers, *ends)


def _maps(model, spec: Joint, heads: int | None, *, trained: bool) -> Chain:
    """Of each block compared, q k^T of some heads; by the last place in a chain that trains they get gradients."""
    if not isinstance(model, Vit):
        return ()
    count, tokens = heads or model.num_heads, _tokens(model, spec.data)
    macs = count * tokens**2 * (model.embed_dim // model.num_heads)
    used = len(spec.attention.blocks)
    return tuple(Layer(macs, 0, 3 * count * tokens**2, 6, trains=trained) for _ in range(used))


@does(Pruned)
def pruned(spec: Pruned, sets: Sets) -> Iterator[Work]:
    """Scores and six spectra on the pruning samples, and fine-tuning."""
    classes = sets.classes(spec.data)
    chain = network_on(spec.teacher.model, spec.data, classes).layers
    samples = spec.pruning.samples(classes)
    yield training(spec.data, spec.recipe, chain)
    yield from _judged(spec, chain)
    yield looking(spec.data, "train", chain, times=3, most=samples)
    yield looking(spec.data, "test", chain, times=3, most=samples)
    yield from _scored(spec, chain, samples, {"snip": 1, "refer": 1, "afr": 2}.get(spec.criterion, 0))


@does(Diagnosis)
def diagnosis(spec: Diagnosis, sets: Sets) -> Iterator[Work]:
    classes = sets.classes(spec.data)
    yield from _scored(spec, network_on(spec.teacher.model, spec.data, classes).layers, spec.pruning.samples(classes), 2)


def _scored(spec: Pruned | Diagnosis, chain: Chain, samples: int, gradients: int) -> Iterator[Work]:
    """A forward and a backward pass for each gradient, about three passes forward."""
    if gradients:
        yield looking(spec.data, "train", chain, times=3 * gradients, most=samples)


@does(Alone)
def alone(spec: Alone, sets: Sets) -> Iterator[Work]:
    chain = network_on(spec.model, spec.data, sets.classes(spec.data)).layers
    yield training(spec.data, spec.recipe, chain, share=1 - spec.held_out)
    yield _measured(spec, chain)


@does(Combined)
def combined(spec: Combined, sets: Sets) -> Iterator[Work]:
    """Two peers, or one network and its frozen teacher; successive steps compute every batch three times."""
    classes, weights = sets.classes(spec.data), spec.objective.weights
    whole = network_on(spec.model, spec.data, classes)
    exits = _exits(spec, classes) if weights.c else ()
    angle = _angle(spec) if weights.b and weights.e else ()
    learner = (whole.layers + angle, *exits)
    seen = frozen(angle)
    chains = (*learner, frozen(whole.layers), seen) if spec.teacher else (*learner, seen, *learner, seen)
    steps = 3 if spec.order == "successive" else 1
    yield training(spec.data, spec.recipe, *chains, epochs=steps * spec.recipe.epochs, share=1 - spec.held_out)
    networks = 1 if spec.teacher else 2
    follow = (whole.layers,) * networks
    yield looking(spec.data, "train", *follow, times=evaluations(spec.recipe), share=spec.held_out)
    yield _measured(spec, *follow)


@does(Guided, Best)
def chosen(spec: Guided | Best, sets: Sets) -> Iterator[Work]:
    """The run that it will be, whichever weights are chosen."""
    yield from combined(spec.base if isinstance(spec, Best) else spec.proposals.base, sets)


def _measured(spec: Alone | Combined, *chains: Chain) -> Work:
    if spec.measured_on == "held-out":
        return looking(spec.data, "train", *chains, share=spec.held_out)
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
