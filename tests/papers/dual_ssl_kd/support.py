"""What tests of the two teachers share: settings of one step, drawn networks and batches, equations in loops."""

import math
from pathlib import Path

import numpy as np
import torch

from vitlib import load_study
from vitlib.inputs.models import Vit
from vitlib.inputs.sources import Data
from vitlib.papers import dual_ssl_kd
from vitlib.papers.dual_ssl_kd.joint import Outputs
from vitlib.papers.dual_ssl_kd.specs import AttentionTerm
from vitlib.recipe import Recipe

DIGITS = Data(source="digits", image_size=8, per_class=1, mean=(0.3,), std=(0.4,))
MICRO = Vit(embed_dim=16, depth=12, num_heads=4, patch_size=4)
STUDENT = Vit(embed_dim=12, depth=2, num_heads=3, patch_size=4)
ONE_STEP = Recipe(epochs=1, batch_size=10, lr=1e-3)
TERMS = ("ce_student", "ce_cl", "ce_mim", "output", "attention")
PUBLISHED = Path(dual_ssl_kd.__file__).with_name("published.csv")


def drawn(module):
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter += (0.4 if "qkv" in name else 0.1) * torch.randn_like(parameter)
    return module


def images(count=6):
    return torch.randn(count, 1, 8, 8, generator=torch.Generator().manual_seed(5))


def mixed(count=6, classes=10):
    """Dense targets as mixup makes them."""
    return torch.rand(count, classes, generator=torch.Generator().manual_seed(6)).softmax(dim=-1)


def raw(batch=3, classes=5, tokens=6):
    """Logits and attention scores of three networks, in double precision, as leaves."""
    shapes = {name: (batch, classes) for name in ("student", "cl", "mim")}
    shapes |= {"student_map": (batch, 2, tokens, tokens), "cl_map": (batch, 4, tokens, tokens), "mim_map": (batch, 4, tokens, tokens)}
    return {name: (2 * torch.randn(shape, dtype=torch.float64)).requires_grad_() for name, shape in shapes.items()}


def outputs_of(leaves):
    maps = {f"{name}s": {1: leaf.log_softmax(dim=-1)} for name, leaf in leaves.items() if name.endswith("_map")}
    return Outputs(**{name: leaves[name] for name in ("student", "cl", "mim")}, **maps)


def divergence(teacher, student):
    """KL(teacher || student) of two distributions given as lists of probabilities."""
    return sum(p * math.log(p / q) for p, q in zip(teacher, student, strict=True))


def mean_divergence(teacher, student):
    """Mean over all rows of KL between softmaxes."""
    rows = zip(teacher.softmax(-1).flatten(0, -2).tolist(), student.softmax(-1).flatten(0, -2).tolist(), strict=True)
    return np.mean([divergence(p, q) for p, q in rows])


def soft_cross_entropy(logits, targets):
    rows = zip(logits.softmax(-1).tolist(), targets.tolist(), strict=True)
    return np.mean([-sum(t * math.log(p) for p, t in zip(row, target, strict=True)) for row, target in rows])


def confidence(maps):
    """Equation 2 in loops over heads, images and queries."""
    return [np.mean([max(row) for image in maps[:, head].tolist() for row in image]) for head in range(maps.shape[1])]


DEEP = AttentionTerm(blocks=(1, 2))


def without_runs(profile, tmp_path):
    return load_study("dual_ssl_kd", profile, results_dir=str(tmp_path), data_dir=str(tmp_path)).execute(mode="read-only")
