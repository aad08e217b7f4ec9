"""Checkpoints of other architectures, sizes and classifiers: fitted as timm does, or refused with names and shapes."""

import re
import warnings

import pytest
import timm
import torch
from timm.models import swin_transformer
from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer import VisionTransformer
from torch import nn
from torch.testing import assert_close

from tests.inputs.checkpoints.support import RESNET, assert_same_outputs, described, drawn, loaded, prefixed, refusal
from tests.support import MICRO
from vitlib.inputs.models import Timm, classifier_names, load_weights, weights_of

DISTILLED = MICRO.changed(distilled=True)


@pytest.mark.parametrize(
    "name",
    [
        "test_vit",
        "test_vit2",
        "test_vit3",
        "test_vit4",
        "test_convnext",
        "test_convnext2",
        "test_resnet",
        "test_byobnet",
        "test_efficientnet",
    ],
)
@pytest.mark.parametrize("classes", [0, 3, 5, None])
def test_a_model_of_timm_keeps_its_classifier_only_for_as_many_classes(name, classes, tmp_path):
    module = timm.create_model(name, num_classes=3).eval()
    torch.save(prefixed("module.", module.state_dict()), tmp_path / "mine.pth")
    spec = described(model=Timm(name=name), image_size=160 if "vit" in name else 96, channels=3)
    read = loaded(spec, tmp_path, num_classes=classes)
    images = torch.randn(2, 3, spec.image_size, spec.image_size)
    with torch.no_grad():
        assert_close(read.forward_head(read.forward_features(images), pre_logits=True), features_of(module, images), rtol=1e-6, atol=1e-6)
        if classes in (3, None):
            assert_close(read(images), module(images), rtol=1e-6, atol=1e-6)
    assert read.num_classes == (3 if classes is None else classes)


def features_of(module, images):
    return module.forward_head(module.forward_features(images), pre_logits=True)


@pytest.mark.parametrize("classes", [None, 5])
def test_a_convnet_saved_without_classifier_keeps_its_norm_and_gets_a_fresh_classifier_only_if_asked(classes, tmp_path):
    module = timm.create_model("test_convnext", num_classes=0).eval()
    nn.init.uniform_(module.head.norm.weight)
    torch.save(module.state_dict(), tmp_path / "mine.pth")
    read = loaded(described(model=Timm(name="test_convnext"), image_size=64, channels=3), tmp_path, num_classes=classes)
    assert read.num_classes == (classes or 0)
    assert torch.equal(read.head.norm.weight, module.head.norm.weight)


@pytest.mark.parametrize("classes", [3, 5])
def test_both_classifiers_of_a_distilled_model_stay_or_go(classes, tmp_path):
    module = drawn(DISTILLED)
    torch.save({"model": module.state_dict()}, tmp_path / "mine.pth")
    read = loaded(described(model=DISTILLED), tmp_path, num_classes=classes)
    same = [torch.equal(getattr(read, head).weight[:3], getattr(module, head).weight) for head in ("head", "head_dist")]
    assert same == [classes == 3] * 2
    if classes == 3:
        assert_same_outputs(read, module)


def test_one_classifier_of_two_or_two_of_different_size_are_refused(tmp_path):
    state = drawn(DISTILLED).state_dict()
    torch.save({name: tensor for name, tensor in state.items() if not name.startswith("head_dist")}, tmp_path / "mine.pth")
    assert "2 of 35 parameters are missing (head_dist.bias, head_dist.weight)" in refusal(described(model=DISTILLED), tmp_path)
    torch.save(state | {"head.weight": torch.ones(4, 8), "head.bias": torch.ones(4)}, tmp_path / "mine.pth")
    assert "classifiers of 3 and 4 classes" in refusal(described(model=DISTILLED), tmp_path)


def test_a_distilled_model_and_a_plain_one_do_not_take_each_others_weights(tmp_path):
    torch.save(drawn(DISTILLED).state_dict(), tmp_path / "distilled.pth")
    torch.save(drawn(MICRO).state_dict(), tmp_path / "plain.pth")
    assert "3 are unknown (dist_token, head_dist.weight, head_dist.bias)" in refusal(described("distilled.pth"), tmp_path)
    assert "missing (dist_token" in refusal(described("plain.pth", DISTILLED), tmp_path)


def test_the_norm_before_a_convnets_classifier_is_no_part_of_it():
    assert classifier_names(timm.create_model("test_convnext")) == {"head.fc.weight", "head.fc.bias"}
    assert classifier_names(timm.create_model("test_efficientnet")) == {"classifier.weight", "classifier.bias"}
    assert classifier_names(drawn(RESNET, image_size=16)) == {"fc.weight", "fc.bias"}
    assert len(classifier_names(drawn(DISTILLED))) == 4
    assert classifier_names(drawn(num_classes=0)) == classifier_names(nn.Linear(2, 3)) == set()


@pytest.mark.parametrize(("tokens", "prefix"), [({}, 0), ({"reg_tokens": 2}, 0), ({"reg_tokens": 2, "no_embed_class": False}, 3)])
def test_positions_of_another_size_follow_the_models_own_rule(tokens, prefix):
    """DeiT-III and timm's register models give their prefix tokens no positions; the patches' are interpolated on their grid."""
    small, large = (
        VisionTransformer(image_size, 4, 3, 3, embed_dim=8, depth=1, num_heads=2, **{"no_embed_class": True} | tokens)
        for image_size in (16, 24)
    )
    nn.init.normal_(small.pos_embed)
    load_weights(large, weights_of(small))
    grid = small.pos_embed[:, prefix:].detach().reshape(1, 4, 4, 8).permute(0, 3, 1, 2)
    finer = nn.functional.interpolate(grid, size=(6, 6), mode="bicubic", antialias=True).flatten(2).mT
    assert_close(large.pos_embed, torch.cat([small.pos_embed[:, :prefix].detach(), finer], dim=1))


def test_a_file_of_another_image_and_patch_size_is_taken_and_the_note_says_what_is_resampled(tmp_path):
    module = drawn(image_size=16)
    torch.save(module.state_dict(), tmp_path / "mine.pth")
    spec = described(model=MICRO.changed(patch_size=2), image_size=12)
    assert spec.pinned(tmp_path).fitted(tmp_path).note == (
        "teacher.origin.file mine.pth: pos_embed, patch_embed.proj.weight resampled to the size of the model"
    )
    assert_same_outputs(loaded(spec, tmp_path, image_size=16, patch_size=4), module, image_size=16)


def test_a_swins_relative_positions_are_resampled_as_timm_does():
    small, large = (
        SwinTransformer(img_size=size, patch_size=4, window_size=size // 4, embed_dim=8, depths=(1,), num_heads=(2,), num_classes=3)
        for size in (16, 32)
    )
    load_weights(large, weights_of(small))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of timm's own interpolation
        expected = swin_transformer.checkpoint_filter_fn(small.state_dict(), large)
    name = "layers.0.blocks.0.attn.relative_position_bias_table"
    assert small.state_dict()[name].shape == (7 * 7, 2) and expected[name].shape == (15 * 15, 2)
    assert torch.equal(large.state_dict()[name], expected[name])


def test_names_that_timm_knows_from_an_architectures_first_release_are_renamed(tmp_path):
    """DeiT-III calls its layer scale gamma_1; a ViT of the 21k classes has a layer before its classifier that timm drops."""
    module = timm.create_model("test_vit2", num_classes=3).eval()
    state = {re.sub(r"ls(\d)\.gamma", r"gamma_\1", name): tensor for name, tensor in module.state_dict().items()}
    torch.save({"model": state | {"pre_logits.fc.weight": torch.ones(2, 2)}}, tmp_path / "mine.pth")
    spec = described(model=Timm(name="test_vit2"), image_size=160, channels=3)
    assert_same_outputs(loaded(spec, tmp_path), module, image_size=160, channels=3)
    assert spec.pinned(tmp_path).fitted(tmp_path).note == "teacher.origin.file mine.pth: took 'model'; renamed by timm"


def test_another_depth_width_or_number_of_channels_is_refused_with_names_and_shapes(tmp_path):
    torch.save(drawn().state_dict(), tmp_path / "mine.pth")
    assert "12 are unknown (blocks.1.norm1.weight, " in refusal(described(model=MICRO.changed(depth=1)), tmp_path)
    assert "12 of 44 parameters are missing (blocks.2.norm1.weight, " in refusal(described(model=MICRO.changed(depth=3)), tmp_path)
    assert "(cls_token: (1, 1, 8), not (1, 1, 12))" in refusal(described(model=MICRO.changed(embed_dim=12)), tmp_path)
    assert "1 are of another shape or type (patch_embed.proj.weight: (8, 1, 4, 4), not (8, 3, 4, 4))" in refusal(
        described(channels=3), tmp_path
    )
    assert "parameters are missing (conv1.weight" in refusal(described(model=RESNET), tmp_path)
