"""Photos of three classes, stripes under noise, and a transformer of four blocks, small enough for a second."""

import numpy as np
import pytest
import timm
import torch
from PIL import Image

import vitlib

SIZES = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 4, "num_heads": 2}
QUICK = {"epochs": 1, "batch_size": 6, "device": "cpu"}


def write_photos(root, per_class=10, size=32):
    """root/CLASS/*.png"""
    generator = np.random.default_rng(0)
    for label, name in enumerate(("ant", "bee", "cat")):
        (root / name).mkdir(parents=True)
        for number in range(per_class):
            stripes = 128 + 60 * np.sin(np.arange(size) * (1 + label) / 2)[:, None, None]
            pixels = stripes + generator.normal(0, 30, (size, size, 3))
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(root / name / f"{number}.png")
    return root


def network(**options):
    torch.manual_seed(0)
    return timm.create_model("vit_tiny_patch16_224", **{**SIZES, "num_classes": 5, **options})


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    return write_photos(tmp_path_factory.mktemp("photos"))


@pytest.fixture(scope="session")
def places(tmp_path_factory):
    """Keywords of a call: a store that the tests share."""
    return {**QUICK, "results_dir": tmp_path_factory.mktemp("results")}


@pytest.fixture(scope="session")
def pruned(photos, places):
    return vitlib.prune(network(), photos, sparsity=0.9, **places)


@pytest.fixture(scope="session")
def halved(photos, places):
    return vitlib.weight_copy(network(), photos, finetune={"epochs": 1, "batch_size": 6}, **places | {"epochs": 3})
