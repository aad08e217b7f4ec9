"""FLOPs by formula against torch's counter, for every kind of run of every document, at profile smoke."""

import pytest
import timm.layers
import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop, sdpa_flop

from tests.kinds import kind
from vitlib.computing import Context, result_of
from vitlib.grid.entries import studies
from vitlib.inputs.models import ResNet, Timm, Vit, build
from vitlib.papers.comparison.left.measured import Measured
from vitlib.studies.costs.amounts import amounts_of
from vitlib.studies.loading import load_study
from vitlib.training import remembered
from vitlib.training.cost import counted_macs
from vitlib.training.work.layers import forward_flops, network
from vitlib.training.work.registry import Sets

# Of these no image is computed, or the part that is timed is none of a network; an export computes with sizes that are no numbers yet.
DRAWN = {"NetworkCost", "Proposals", "Copied", "Written"}
FUSED = {  # torch counts them by itself from 2.15 on
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: sdpa_flop,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: sdpa_backward_flop,
}


class _Nowhere:
    """In place of the counter's tracker of modules, which some hooks of attention maps break; all counts go to the whole."""

    parents = {"Global"}  # noqa: RUF012

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


def counted(spec, done, data_dir):
    """FLOPs of a run, by torch; its result is kept for its children. Nothing is remembered from runs before it."""
    remembered._KEPT.clear()
    counter = FlopCounterMode(display=False, custom_mapping=FUSED)
    counter.mod_tracker = _Nowhere()
    with counter:
        done[spec.id] = result_of(spec, Context("cpu", data_dir, None, lambda parent: done[parent.id]))
    return counter.get_total_flops()


def compute_parents(spec, done, data_dir):
    for parent in spec.parents():
        if parent.id not in done:
            compute_parents(parent, done, data_dir)
            done[parent.id] = result_of(parent, Context("cpu", data_dir, None, lambda run: done[run.id]))


@pytest.fixture
def unfused():
    """Fused attention on a CPU is not counted."""
    before = timm.layers.use_fused_attn()
    timm.layers.set_fused_attn(False)
    yield
    timm.layers.set_fused_attn(before)


@pytest.mark.parametrize("document", studies())
def test_flops_by_formula_are_those_that_torch_counts(document, unfused, tmp_path):
    """Of the comparison, which computes those of all documents, its own."""
    study = load_study(document, "smoke", results_dir=str(tmp_path))
    done, seen, off = {}, set(), []
    for spec in (member for run in study.specs.values() for member in run.family()):
        foreign = document == "comparison" and type(spec).__module__ != Measured.__module__
        if foreign or kind(spec) in seen or type(spec).__name__ in DRAWN:
            continue
        seen.add(kind(spec))
        compute_parents(spec, done, study.place.data_dir)
        flops, by_formula = counted(spec, done, study.place.data_dir), amounts_of(spec, Sets(study.place.data_dir)).flops
        if by_formula != pytest.approx(flops, rel=0.01):
            off.append(f"{kind(spec)}: {by_formula:.4g} by formula, {flops:.4g} counted")
    assert seen
    assert not off, "\n".join(off)


@pytest.mark.parametrize(
    "model",
    [
        Vit(embed_dim=32, depth=3, num_heads=4, patch_size=4, mlp_ratio=3.0),
        Vit(embed_dim=32, depth=2, num_heads=2, patch_size=8, distilled=True),
        ResNet(width=16, blocks=(2, 1, 1, 2)),
        Timm(name="vit_tiny_patch16_224"),
        Timm(name="resnet18"),
    ],
    ids=str,
)
def test_a_network_forward_is_what_torch_counts(model):
    size = 224 if isinstance(model, Timm) else 32
    module = build(model, image_size=size, channels=3, num_classes=7)
    chain = network(model, size, 3, 7).layers
    assert forward_flops(chain) == pytest.approx(2 * counted_macs(module, size, 3), rel=0.01)
    assert sum(layer.parameters for layer in chain) == pytest.approx(sum(p.numel() for p in module.parameters()), rel=0.01)
