"""Architectures of all families through all methods: right by timm's own forward pass, or refused when the study is loaded."""

from copy import deepcopy
from functools import cache
from types import SimpleNamespace

import pytest
import timm
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from tests.support import make_images
from vitlib.computing import Context, result_of
from vitlib.inputs.data import test_batches as batches_in_order
from vitlib.inputs.foreign.architecture import _looked_at, architecture
from vitlib.inputs.foreign.classes import keep_columns
from vitlib.inputs.models import Timm, Vit, build, load_weights
from vitlib.inputs.sources import Data
from vitlib.methods.adapters.weight_copy import features, prefix_tokens
from vitlib.methods.attention import attention_maps
from vitlib.papers.afr_pruning.compute.pruning import balanced_images, scored
from vitlib.papers.afr_pruning.specs import Pruned, Pruning
from vitlib.papers.deit.specs import Student
from vitlib.papers.dual_ssl_kd.compute import adapt, three_networks
from vitlib.papers.dual_ssl_kd.ends import CUTS
from vitlib.papers.dual_ssl_kd.specs import AttentionTerm, Joint, Tuned
from vitlib.papers.teachers.measure import AttentionDistances, Quality
from vitlib.papers.wecolora.compute.students import backbone_of
from vitlib.papers.wecolora.specs import Copied, Distilled, Downstream
from vitlib.recipe import Recipe
from vitlib.spec import SpecError
from vitlib.teachers.task import with_fresh_head
from vitlib.teachers.teacher import Teacher, Untrained
from vitlib.training.probe import features_read, readouts

# What each must take beside `EVERY` method, by what its documentation says that it is; all else must be refused.
EVERY = ("probe", "columns", "student", "finetune")
PLAIN = "linear partial1 joint maps afr-class afr-mean copy wecolora"
REGISTERS = "linear partial1 joint maps afr-mean copy wecolora"  # and no class token
ROTATED = "linear maps afr-class afr-mean copy wecolora"  # positions inside attention
LATE = "linear afr-mean copy wecolora"  # the class token joins after the blocks
MODELS = {
    "test_vit": (32, PLAIN),
    "vit_tiny_patch16_224": (32, PLAIN),
    "deit_tiny_patch16_224": (32, PLAIN),
    "deit3_small_patch16_224": (32, PLAIN),
    "vit_small_patch14_dinov2": (28, PLAIN),
    "vit_small_patch14_reg4_dinov2": (28, PLAIN),
    "vit_xsmall_patch16_clip_224": (32, PLAIN),
    "test_vit2": (32, REGISTERS),
    "vit_little_patch16_reg4_gap_256": (32, REGISTERS),
    "test_vit3": (32, REGISTERS),  # attention pooling, as SigLIP has it
    "deit_tiny_distilled_patch16_224": (32, "maps afr-class afr-mean copy wecolora"),
    "vit_small_patch16_rope_224": (32, ROTATED),
    "eva02_tiny_patch14_224": (28, ROTATED),
    "vit_pe_core_tiny_patch16_384": (32, ROTATED),
    "beit_base_patch16_224": (32, ROTATED),
    "test_vit_relpos": (32, "linear maps afr-mean copy wecolora"),
    "vit_medium_patch16_rope_reg1_gap_256": (32, "linear maps afr-mean copy wecolora"),
    "cait_xxs24_224": (32, LATE),
    "xcit_nano_12_p16_224": (32, LATE),
    "mixer_s32_224": (32, "linear"),
    "pit_ti_224": (32, "linear"),
    "convit_tiny": (32, "linear"),
    "hiera_tiny_224": (32, "linear"),
    "swin_tiny_patch4_window7_224": (32, "linear"),
    "tnt_s_legacy_patch16_224": (32, "linear"),
    "coat_tiny": (32, "linear"),
    "levit_128s": (32, ""),
    "crossvit_tiny_240": (28, ""),
    "convnext_atto": (32, "linear"),
    "test_convnext3": (32, "linear"),
    "resnet18": (32, "linear"),
    "regnety_002": (32, "linear"),
    "efficientnet_b0": (32, "linear"),
    "mobilenetv3_small_050": (32, "linear"),
    "mobilevit_xxs": (32, "linear"),
    "densenet121": (32, "linear"),
    "test_mambaout": (32, "linear"),
}
NARROW = {"beit_base_patch16_224": {"embed_dim": 192, "num_heads": 3}}  # timm has no small one
ONE_EPOCH = Recipe(epochs=1, batch_size=4, lr=1e-3)
NORMAL = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}


@pytest.fixture(scope="module", autouse=True)
def three_blocks():
    """Chains of transformer blocks are cut to three, to be quick: what a method needs does not depend on their number.

    A model that was made before is copied, since most of the time goes into drawing weights.
    """
    real, made = timm.create_model, {}

    def create_model(name, **options):
        chained = MODELS.get(name, (0, ""))[1].split()[-1:] == ["wecolora"]
        asked = name, str(sorted(options.items())), torch.empty(0).device
        if asked not in made:
            for other in [other for other in made if other[0] != name]:
                del made[other]
            made[asked] = real(name, **options, **({"depth": 3} if chained else {}), **NARROW.get(name, {}))
        return deepcopy(made[asked])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(timm, "create_model", create_model)
        _looked_at.cache_clear()
        yield
    _looked_at.cache_clear()


@pytest.fixture(scope="module")
def where(tmp_path_factory):
    data_dir = tmp_path_factory.mktemp("data")
    make_images(data_dir / "photos")

    def parent(run):
        return SimpleNamespace(weights=result_of(run, context).weights)

    context = Context("cpu", data_dir, None, parent)
    return context


@cache
def teacher_of(name, size):
    return Teacher(origin=Untrained(model=Timm(name=name), image_size=size, seed=3, **NORMAL))


def photos(size):
    return Data(source="folder/photos", image_size=size, **NORMAL)


def loaded(run, where):
    """The run, if everything it demands holds, as when a study is loaded."""
    for member in run.family():
        for demand in member.demands():
            demand.check(where.data_dir)
    return run


def drawn(images, size):
    return torch.randn(images, 3, size, size, generator=torch.Generator().manual_seed(1))


def lively(model):
    """Layers that begin at zero or as identities would let a wrong reading pass for a right one."""
    generator = torch.Generator().manual_seed(2)
    for parameter in model.parameters():
        parameter.data += 0.05 * torch.randn(parameter.shape, generator=generator)
    return model.eval()


def own_logits(model, images):
    """By timm's own two steps, which the model's `forward` takes too."""
    return model.forward_head(model.forward_features(images))


def tokens_of_blocks(model, images):
    """What each block hands on, seen from outside while timm's own forward pass runs."""
    seen = []
    hooks = [block.register_forward_hook(lambda _, __, tokens: seen.append(tokens)) for block in model.blocks]
    model.forward_features(images)
    for hook in hooks:
        hook.remove()
    return seen


# ------------------------------------------------------------------------------------------------ one check for each method


def probe(name, size, where):
    run = loaded(Quality(teacher=teacher_of(name, size), data=photos(size)), where)
    model = lively(run.teacher.module(where, image_size=size, num_classes=2))
    images = drawn(3, size)
    own, *rest = features_read(model, images)
    tokens = model.forward_features(images)
    assert_close(own, model.forward_head(tokens, pre_logits=True))
    assert own.ndim == 2 and len(readouts(model)) == 1 + len(rest)
    if rest:
        assert_close(rest[0], tokens[:, model.num_prefix_tokens :].mean(dim=1))
    if readouts(model) == ("class", "mean"):
        assert_close(own, tokens[:, 0])
    assert {f"knn {readout}" for readout in readouts(model)} <= set(result_of(run, where).metrics)


def columns(name, size, where):
    model, images = lively(teacher_of(name, size).module(where, image_size=size, num_classes=5)), drawn(2, size)
    whole = model(images)
    assert_close(keep_columns(model, [3, 1])(images), whole[:, [3, 1]])
    assert model.num_classes == 2


def student(name, size, where):
    """As a student or teacher of DeiT, trained from scratch."""
    run = loaded(Student(data=photos(size), model=Timm(name=name), recipe=ONE_EPOCH, seed=0), where)
    result = result_of(run, where)
    model = build(run.model, image_size=size, channels=3, num_classes=2)
    load_weights(model, result.weights)
    (images, labels), model = next(iter(batches_in_order(run.data, device="cpu", data_dir=where.data_dir).epoch(0))), model.eval()
    two = hasattr(model, "dist_token")  # DeiT's: the class token by the class head alone
    logits = model.head(model.forward_features(images)[:, 0]) if two else own_logits(model, images)
    assert result.arrays["predictions class"].tolist() == logits.argmax(dim=1).tolist()
    assert result.arrays["labels"].tolist() == labels.tolist()


def tuned(protocol):
    def check(name, size, where):
        run = loaded(Tuned(teacher=teacher_of(name, size), data=photos(size), recipe=ONE_EPOCH, seed=0, protocol=protocol), where)
        model, images = lively(with_fresh_head(run.teacher, run.data, 0, where)), drawn(2, size)
        cut = CUTS[protocol]
        assert_close(cut.end(model, cut.front(model, images)), own_logits(model, images))
        adapt(model, protocol)
        before = {id(parameter) for parameter in model.parameters() if not parameter.requires_grad}
        own_logits(model, images).square().sum().backward()
        assert not [parameter for parameter in model.parameters() if id(parameter) in before and parameter.grad is not None]
        if protocol == "partial1":
            later = set(range(len(model.blocks) - 1))
            early = ("patch_embed", "cls_token", "pos_embed", "reg_token", "norm_pre", *(f"blocks.{block}." for block in later))
            assert all(value.requires_grad != key.startswith(early) for key, value in model.named_parameters())
        assert 0 <= result_of(run, where).metrics["top1"] <= 100

    return check


def joint(name, size, where):
    teacher, patch = teacher_of(name, size), 14 if size == 28 else 16
    vit = Vit(embed_dim=8, depth=1, num_heads=2, patch_size=patch)
    run = Joint(
        student=vit, cl=teacher, mim=teacher, data=photos(size), recipe=ONE_EPOCH, seed=0, lambda_1=0.5, lambda_2=0.5,
        attention=AttentionTerm(tokens="patches"),
    )  # fmt: skip
    networks, images = lively(three_networks(loaded(run, where), where)), drawn(2, size)
    outputs = networks(images)
    assert_close(outputs.cl, own_logits(networks.cl, images))
    prefix = networks.cl.num_prefix_tokens
    last = attention_maps(networks.cl, images)[:, -1, :, prefix:, prefix:]
    assert_close(outputs.cl_maps[1].exp(), last / last.sum(dim=-1, keepdim=True), rtol=1e-4, atol=1e-5)
    assert 0 <= result_of(run, where).metrics["top1"] <= 100


def maps(name, size, where):
    run = loaded(AttentionDistances(teacher=teacher_of(name, size), data=photos(size), images=2), where)
    model, images = lively(run.teacher.module(where, image_size=size)), drawn(2, size)
    before = own_logits(model, images)
    found = attention_maps(model, images)
    assert found.shape[1] == len(model.blocks) and found.shape[-2] == found.shape[-1] == tokens_of_blocks(model, images)[0].shape[1]
    assert_close(found.sum(dim=-1), torch.ones(found.shape[:-1]))
    assert_close(own_logits(model, images), before)  # reading left the model as it was
    assert result_of(run, where).arrays["distance"].shape == (2, len(model.blocks), found.shape[2])


def afr(rows):
    def check(name, size, where):
        pruning = Pruning(rows=rows, per_class=2, at_least=4)
        run = Pruned(
            teacher=teacher_of(name, size), data=photos(size), recipe=ONE_EPOCH, seed=0, criterion="afr", sparsity=0.5, pruning=pruning
        )  # fmt: skip
        model = lively(with_fresh_head(loaded(run, where).teacher, run.data, 0, where))
        samples = balanced_images(run, where, "train")
        scores = scored("snip", run, model, samples)
        wanted = {f"blocks.{block}.{layer}.weight" for block in range(len(model.blocks)) for layer in LINEARS}
        assert set(scores) == wanted
        ((images, labels),) = samples.epoch(0)
        loss = F.cross_entropy(own_logits(model, images), labels)
        for key, gradient in zip(scores, torch.autograd.grad(loss, [model.get_parameter(key) for key in scores]), strict=True):
            assert_close(scores[key], (gradient * model.get_parameter(key)).abs(), rtol=1e-3, atol=1e-7)
        result = result_of(run, where)
        assert result.metrics["kept"] == round(0.5 * result.metrics["prunable"])

    return check


LINEARS = ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")


def copy(name, size, where):
    run = loaded(Copied(teacher=teacher_of(name, size), data=photos(size), reduction=2), where)
    model, images = lively(run.teacher.module(where, image_size=size, num_classes=0)), drawn(2, size)
    seen = tokens_of_blocks(model, images)
    assert prefix_tokens(model) == architecture(run.teacher.model, size, 3).prefix_tokens
    for mine, theirs in zip(features(model, images, [0, len(seen) - 1]), (seen[0], seen[-1]), strict=True):
        assert_close(mine, theirs)
    weights = result_of(run, where).weights
    assert len({key.split(".")[1] for key in weights if key.startswith("blocks.")}) == 2


def wecolora(name, size, where):
    common = {"teacher": teacher_of(name, size), "data": photos(size), "seed": 0}
    learned = Distilled(recipe=ONE_EPOCH, reduction=2, rank=2, lora_init="svd", **common)
    run = loaded(Downstream(student=learned, recipe=ONE_EPOCH, **common), where)
    result = result_of(learned, where)
    assert all(0 < value < float("inf") for value in (result.metrics["last"], result.metrics["product norm"]))
    backbone = backbone_of(run.changed(student=None), where)
    images = drawn(2, size)
    assert_close(backbone(images), backbone.forward_head(backbone.forward_features(images), pre_logits=True))
    assert 0 <= result_of(run, where).metrics["top1"] <= 100


METHODS = {
    "probe": probe,
    "columns": columns,
    "student": student,
    "finetune": tuned("finetune"),
    "linear": tuned("linear"),
    "partial1": tuned("partial1"),
    "joint": joint,
    "maps": maps,
    "afr-class": afr("class"),
    "afr-mean": afr("patch_mean"),
    "copy": copy,
    "wecolora": wecolora,
}


@pytest.mark.parametrize("name", MODELS)
def test_each_method_is_right_for_a_model_or_refuses_it_by_name(name, where):
    size, taken = MODELS[name]
    for method, check in METHODS.items():
        try:
            check(name, size, where)
        except SpecError as error:
            message = str(error)
            assert name in message and " no " in message and "allowed:" in message and "\n" not in message, message
            assert method not in (*EVERY, *taken.split()), message
        else:
            assert method in (*EVERY, *taken.split()), f"{method} was not refused"


def test_the_matrix_holds_as_many_of_each_as_the_changelog_says():
    right = sum(len(EVERY) + len(taken.split()) for _, taken in MODELS.values())
    assert (len(MODELS), len(METHODS), right, len(MODELS) * len(METHODS) - right) == (37, 12, 288, 156)
