"""What is known of an architecture without building it, and that an impossible one is refused in a line."""

import pytest
import torch

from tests.inputs.foreign.support import NOWHERE
from vitlib.inputs.foreign.architecture import Architecture, _looked_at, architecture, known_vit
from vitlib.inputs.foreign.demands import Uses
from vitlib.inputs.models import ResNet, Timm, Vit, build
from vitlib.spec import SpecError

VIT_B16 = Vit(embed_dim=768, depth=12, num_heads=12, patch_size=16)


@pytest.mark.parametrize("distilled", [False, True])
def test_what_is_known_of_a_vit_by_its_fields_is_what_is_seen_of_the_same_model_of_timm(distilled):
    name = "deit_tiny_distilled_patch16_224" if distilled else "deit_tiny_patch16_224"
    known = Vit(embed_dim=192, depth=12, num_heads=3, patch_size=16, distilled=distilled)
    assert architecture(known, 32, 3) == architecture(Timm(name=name), 32, 3)


def test_what_is_known_of_a_resnet_by_its_fields_is_what_timm_gives():
    model = ResNet(width=4, blocks=(1, 1, 1, 1))
    module = build(model, image_size=16, channels=1, num_classes=3)
    assert architecture(model, 16, 1) == Architecture(type(module).__name__) and not hasattr(module, "blocks")


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("vit_base_patch16_224.augreg_in1k", VIT_B16),
        ("vit_base_patch16_224.mae", VIT_B16),
        ("deit_tiny_distilled_patch16_224", Vit(embed_dim=192, depth=12, num_heads=3, patch_size=16, distilled=True)),
        ("beit_base_patch16_224", None),
        ("vit_base_patch16_siglip_224", None),
        ("deit3_base_patch16_224", None),
        ("vit_base_patch16_rope_224", None),
        ("resnet18", None),
    ],
)
def test_formulas_are_given_for_models_that_have_the_parameters_of_a_plain_vit(name, known):
    assert known_vit(Timm(name=name), 224, 3) == known


def test_looking_at_an_architecture_takes_no_random_number_and_is_done_once():
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    _looked_at.cache_clear()
    for _ in range(3):
        architecture(Timm(name="test_vit"), 32, 3)
    assert torch.equal(torch.rand(1), expected) and _looked_at.cache_info().misses == 1


@pytest.mark.parametrize(
    ("model", "size", "said"),
    [
        (Timm(name="vit_tiny_patch16_224"), 100, "got 16, which does not tile 100 px"),
        (Timm(name="eva02_tiny_patch14_224"), 100, "got 14, which does not tile 100 px"),
        (Timm(name="vit_tinny_patch16_224"), 32, "did you mean 'vit_tiny_patch16_224'?"),
        (Timm(name="vit_tiny_patch16_224.nope"), 32, "with one of the tags augreg_in21k"),
        (Timm(name="vgg11"), 4, "'vgg11'"),
        (Timm(name="qwen3_vit_306m_enc"), 224, "gives no features of images of 224 px"),
        (Vit(embed_dim=8, depth=1, num_heads=2, patch_size=3), 8, "got 3, which does not tile 8 px"),
    ],
    ids=str,
)
def test_a_model_that_takes_no_such_images_is_refused_in_a_line(model, size, said):
    with pytest.raises(SpecError) as refused:
        Uses("teacher", model, size, 3).check(NOWHERE)
    assert str(refused.value).startswith("teacher: ") and said in str(refused.value) and len(str(refused.value)) < 400


def test_a_released_model_keeps_the_margin_that_it_was_trained_with():
    assert architecture(Timm(name="vit_so400m_patch14_siglip_384"), 384, 3).patches == (384 // 14) ** 2


def test_a_drop_path_that_an_architecture_does_not_know_is_refused_when_loaded():
    with pytest.raises(SpecError, match=r"model: model.name: 'vgg11' cannot be built .*drop_path_rate"):
        Uses("model", Timm(name="vgg11"), 32, 3, drop_path=0.1).check(NOWHERE)
    Uses("model", Timm(name="vgg11"), 32, 3).check(NOWHERE)
