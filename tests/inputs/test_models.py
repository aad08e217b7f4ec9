"""Building models, and moving their weights between them."""

import math

import numpy as np
import pytest
import timm
import torch
from pydantic import ValidationError
from torch import nn
from torch.testing import assert_close

from tests.support import MICRO
from vitlib.inputs.models import ResNet, Timm, Vit, build, load_weights, parameter_count, weights_of
from vitlib.spec import SpecError

RESNET = ResNet(width=4, blocks=(1, 2, 1, 1))
SIZES = {"image_size": 8, "channels": 1, "num_classes": 5}


def linear_weights(model):
    return {name: module.weight for name, module in model.named_modules() if isinstance(module, nn.Linear)}


@pytest.mark.parametrize("width", [48, 192])
@pytest.mark.parametrize("distilled", [False, True])
def test_normal_init_has_standard_deviation_002_at_every_width(width, distilled):
    model = build(MICRO.changed(embed_dim=width, distilled=distilled, init="normal"), **SIZES)
    for name, weight in linear_weights(model).items():
        if weight.numel() > 2000:
            assert float(weight.detach().std()) == pytest.approx(0.02, rel=0.05), name


@pytest.mark.parametrize("width", [48, 192])
def test_xavier_init_follows_the_width(width):
    model = build(MICRO.changed(embed_dim=width, init="xavier"), **SIZES)
    for name, weight in linear_weights(model.blocks).items():
        assert float(weight.detach().std()) == pytest.approx(math.sqrt(2 / sum(weight.shape)), rel=0.05), name


@pytest.mark.parametrize("distilled", [False, True])
def test_a_micro_vit_is_timms_in_that_size(distilled):
    model = build(MICRO.changed(distilled=distilled, mlp_ratio=2.0), **SIZES, drop_path=0.2)
    cls = timm.models.deit.VisionTransformerDistilled if distilled else timm.models.vision_transformer.VisionTransformer
    assert type(model) is cls
    assert (model.embed_dim, len(model.blocks), model.blocks[0].attn.num_heads) == (8, 2, 2)
    assert model.blocks[0].mlp.fc1.out_features == 16
    assert model.patch_embed.grid_size == (2, 2) and model.num_prefix_tokens == 1 + distilled
    assert model.blocks[-1].drop_path1.drop_prob == pytest.approx(0.2)
    assert model(torch.zeros(3, 1, 8, 8)).shape == (3, 5)


def test_a_small_resnet_has_neither_stride_nor_pooling_in_its_stem():
    model = build(RESNET, **SIZES)
    assert model.conv1.kernel_size == (3, 3) and model.conv1.stride == (1, 1)
    shapes = {}
    model.maxpool.register_forward_hook(lambda _, __, output: shapes.update(stem=output.shape[2:]))
    model.layer1.register_forward_hook(lambda _, __, output: shapes.update(layer1=output.shape[1:]))
    model.layer4.register_forward_hook(lambda _, __, output: shapes.update(layer4=output.shape[1:]))
    assert model(torch.zeros(2, 1, 16, 16)).shape == (2, 5)
    assert shapes == {"stem": (16, 16), "layer1": (4, 16, 16), "layer4": (32, 2, 2)}
    assert [len(getattr(model, f"layer{stage}")) for stage in (1, 2, 3, 4)] == [1, 2, 1, 1]


def test_resnet_18_at_width_64_has_its_parameters_less_those_of_the_larger_stem_kernel():
    with torch.device("meta"):
        ours = build(ResNet(width=64, blocks=(2, 2, 2, 2)), image_size=32, channels=3, num_classes=1000)
    assert parameter_count(ours) == 11_689_512 - 64 * 3 * (7 * 7 - 3 * 3)  # torchvision's ResNet-18


@pytest.mark.parametrize("model", [MICRO, MICRO.changed(distilled=True), RESNET], ids=["vit", "distilled", "resnet"])
def test_weights_survive_a_round_trip_to_the_bit(model):
    one, other = build(model, **SIZES), build(model, **SIZES)
    one.train()(torch.randn(4, 1, 8, 8))  # moves BatchNorm's buffers
    weights = weights_of(one)
    assert all(isinstance(array, np.ndarray) for array in weights.values())
    load_weights(other, weights)
    images = torch.randn(3, 1, 8, 8)
    assert torch.equal(one.eval()(images), other.eval()(images))
    assert all(np.array_equal(weights_of(other)[name], array) for name, array in weights.items())


def test_weights_are_copies_that_later_training_does_not_change():
    model = build(MICRO, **SIZES)
    weights = weights_of(model)
    before = weights["head.bias"].copy()
    with torch.no_grad():
        model.head.bias.add_(1)
    assert np.array_equal(weights["head.bias"], before)
    load_weights(model, weights)
    model.head.bias.data.add_(1)
    assert np.array_equal(weights["head.bias"], before)


def test_position_embeddings_of_the_same_grid_are_loaded_as_they_are():
    one, other = build(MICRO, **SIZES), build(MICRO, **SIZES)
    load_weights(other, weights_of(one))
    assert torch.equal(one.pos_embed, other.pos_embed)


def test_weights_of_another_architecture_are_refused():
    with pytest.raises(RuntimeError, match="size mismatch"):
        load_weights(build(MICRO, **SIZES), weights_of(build(MICRO.changed(embed_dim=12), **SIZES)))


def test_a_model_is_the_same_for_the_same_seed():
    def seeded(seed):
        torch.manual_seed(seed)
        return build(MICRO, **SIZES)(torch.ones(1, 1, 8, 8))

    assert_close(seeded(3), seeded(3), rtol=0, atol=0)
    assert not torch.equal(seeded(3), seeded(4))


def test_released_weights_need_their_full_tag_and_a_fresh_model_none():
    with pytest.raises(ValidationError, match=r"has no tag; allowed: 'architecture\.tag', as in deit_tiny_patch16_224"):
        Timm(name="regnety_160", pretrained=True)
    assert Timm(name="regnety_160").architecture == Timm(name="regnety_160.deit_in1k").architecture == "regnety_160"


@pytest.mark.parametrize("name", ["deit_tiny_patch16_224.nope", "deit_tiny_patch16_224.fb_in1k.more"])
def test_an_unknown_tag_is_refused_with_those_there_are(name):
    with pytest.raises(SpecError, match=r"got 'deit_tiny_patch16_224\..*'; allowed: deit_tiny_patch16_224 with one of the tags fb_in1k$"):
        build(Timm(name=name), image_size=224, channels=3, num_classes=1000)


def test_an_unknown_timm_name_is_refused_with_the_nearest_one():
    with pytest.raises(SpecError, match=r"got 'regnety_16\.deit_in1k'; did you mean 'regnety_160\.deit_in1k'\?"):
        build(Timm(name="regnety_16.deit_in1k"), image_size=224, channels=3, num_classes=1000)


@pytest.mark.parametrize("error", [RuntimeError("no route to host"), OSError("no route to host")], ids=type)
def test_missing_weights_say_what_is_missing_and_which_profiles_need_none(monkeypatch, error):
    real = timm.create_model

    def create_model(*given, pretrained=False, **options):
        if pretrained:
            raise error
        return real(*given, **options)

    monkeypatch.setattr(timm, "create_model", create_model)
    with pytest.raises(SpecError) as refused:
        build(Timm(name="regnety_160.deit_in1k", pretrained=True), image_size=224, channels=3, num_classes=1000)
    message = str(refused.value)
    for part in ("regnety_160.deit_in1k", "no route to host", "HF_HOME", "smoke, quick or tiny"):
        assert part in message


def test_a_timm_model_of_a_transformer_takes_the_image_size():
    with torch.device("meta"):
        model = build(Timm(name="deit_tiny_patch16_224.fb_in1k"), image_size=96, channels=3, num_classes=7)
    assert model.patch_embed.grid_size == (6, 6) and model.num_classes == 7


def test_heads_that_do_not_divide_the_width_are_refused():
    with pytest.raises(ValidationError, match=r"num_heads=3 does not divide embed_dim=8; allowed: divisors \[1, 2, 4, 8\]"):
        Vit(embed_dim=8, depth=1, num_heads=3, patch_size=4)


def test_patches_that_do_not_tile_the_image_are_refused():
    with pytest.raises(SpecError, match="patch_size: got 4, which does not tile 10 px; allowed: divisors of 10"):
        build(MICRO, image_size=10, channels=1, num_classes=5)
