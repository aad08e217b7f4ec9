"""Profile `tiny` cut down to a test: its own runs on generated images, 80 of them, one epoch, networks of two narrow blocks.

`folders` writes the images, `overrides` gives what a document's settings become. Everything else is the profile's: precision, mixing,
augmentation, optimisers, which sets stand for which.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vitlib import load_study
from vitlib.papers.teachers.specs import run_pretraining
from vitlib.spec import RunSpec

CLASSES, TRAINED, TESTED = 4, 20, 5
VIT = {"embed_dim": 24, "depth": 2}
CONVNET = {"width": 8, "blocks": [1, 1, 1, 1]}
SHORT = {"epochs": 1, "batch_size": 20, "warmup_epochs": 0, "eval_every": 1}
LEFT = {"cifar10", "cifar100", "tiny-imagenet", "dtd"}  # of the sets: one of ten small ones stands for all


def folders(root: Path, sets: set[str] = LEFT) -> Path:
    """root/SET/train|test/CLASS/N.png: noise of 32 px in colour, brighter from class to class."""
    generator = np.random.default_rng(0)
    for name in sorted(sets):
        for label in range(CLASSES):
            for split, count in (("train", TRAINED), ("test", TESTED)):
                folder = root / name / split / f"n{label}"
                folder.mkdir(parents=True)
                for number in range(count):
                    noise = generator.integers(0, 256 - 40 * label, (32, 32, 3), dtype=np.uint8)
                    Image.fromarray(noise + np.uint8(20 * label)).save(folder / f"{number}.png")
    return root


def overrides(document: str, data_dir: Path, depth: int = 2) -> dict[str, Any]:
    """What cuts a document's profile `tiny` down; `data_dir` holds `folders`."""
    vit = VIT | {"depth": depth}
    if document == "teachers":
        return _teachers(vit)
    settings = load_study("teachers", "tiny", overrides=_teachers(vit), data_dir=str(data_dir)).settings
    origins = {
        method: {"origin": run_pretraining(settings, method=method, model="tiny", seed=0).model_dump(mode="json")}
        for method in ("supervised", "dino", "mae")
    }
    return {"seeds": [0]} | _CUT[document](vit, origins)


def _teachers(vit: dict[str, Any]) -> dict[str, Any]:
    tracking = {"bank": 40, "queries": 10}
    return {
        "looked_at": 4,
        "transformers": {"tiny": vit},
        "convnets": {"ResNet-32": CONVNET},
        "supervised": SHORT,
        "convnet": SHORT,
        "dino": {"recipe": SHORT, "hidden": 32, "bottleneck": 16, "prototypes": 64, "tracking": tracking},
        "mae": {"recipe": SHORT, "decoder_dim": 24, "decoder_depth": 1, "tracking": tracking},
    }


def _deit(vit: dict[str, Any], origins: dict[str, Any]) -> dict[str, Any]:
    return {
        "num_classes": CLASSES,
        "throughput_batch": 8,
        "data": {"fraction": 1.0},
        "students": {"tiny": vit},
        "teachers": {"ResNet-16": CONVNET, "ResNet-64": CONVNET | {"width": 16}},
        **dict.fromkeys(("recipe", "teacher_recipe", "finetune"), SHORT),
    }


def _comparison(vit: dict[str, Any], origins: dict[str, Any]) -> dict[str, Any]:
    return {
        "epochs": 2,
        "rank": 4,
        "teacher": origins["supervised"],
        "cl": origins["dino"],
        "mim": origins["mae"],
        "student": vit | {"embed_dim": 12, "depth": 4},
        "data": {"fraction": 1.0},
        "pruning": {"per_class": 2, "at_least": 4},
        "adapters": SHORT,
        **dict.fromkeys(("tuning", "scratch"), SHORT | {"epochs": 2}),
    }


def _dual_ssl_kd(vit: dict[str, Any], origins: dict[str, Any]) -> dict[str, Any]:
    gone = ("caltech101", "stanfordcars", "flowers102", "scene15", "gtsrb")
    recipes = ("recipe", "finetune", "linear", "partial1", "downstream_recipe", "downstream_finetune")
    return {
        "looked_at": 4,
        "shown": 2,
        "cl": origins["dino"],
        "mim": origins["mae"],
        "references": {"supervised": origins["supervised"]},
        "student": vit | {"embed_dim": 12},
        "data": {"fraction": 1.0},
        "downstream": dict.fromkeys(gone) | {name: {"fraction": 1.0} for name in ("cifar10", "cifar100")},
        "stands_for": dict.fromkeys(gone),
        **dict.fromkeys(recipes, SHORT),
    }


def _wecolora(vit: dict[str, Any], origins: dict[str, Any]) -> dict[str, Any]:
    return {
        "rank": 4,
        "ranks": [2, 4],
        "looked_at": 4,
        "throughput_batch": 8,
        "timing_repeats": 1,
        "reductions": [2],
        "shares": [0.5],
        "teacher": origins["supervised"],
        "data": {"fraction": 1.0},
        "recipe": SHORT | {"epochs": 2},
        "probe": SHORT,
        "downstream": {name: {"fraction": 1.0} for name in ("tiny-imagenet", "cifar100")},
    }


def _afr_pruning(vit: dict[str, Any], origins: dict[str, Any]) -> dict[str, Any]:
    gone = ("plantvillage", "aid", "caltech101", "ham10000", "flowers102", "chestxray", "stanfordcars", "scene15", "gtsrb")
    return {
        "sparsities": [0.9],
        "curve": [0.0, 0.9],
        "pruning": {"per_class": 2, "at_least": 8},
        "teachers": {name: origins[name] for name in ("supervised", "dino")},
        "generic": {name: {"fraction": 1.0} for name in ("cifar10", "cifar100", "tiny-imagenet")},
        "fine": dict.fromkeys(gone),
        "stands_for": dict.fromkeys(gone),
        "recipe": SHORT,
        "fine_recipe": SHORT,
    }


def _multi_distillation(vit: dict[str, Any], origins: dict[str, Any]) -> dict[str, Any]:
    twice = SHORT | {"epochs": 2}  # half of the images are held out
    return {"numbers": 4, "rounds": 1, "positions": 1, "model": CONVNET, "data": {"fraction": 1.0}, "recipe": twice}


_CUT = {
    "comparison": _comparison,
    "deit": _deit,
    "dual_ssl_kd": _dual_ssl_kd,
    "wecolora": _wecolora,
    "afr_pruning": _afr_pruning,
    "multi_distillation": _multi_distillation,
}


def one_of_each_class(study: Any) -> list[RunSpec]:
    """The first run of every class in a study, with those that they start from before them."""
    first = {type(spec): spec for spec in reversed(study.specs.values())}
    return list({member.id: member for spec in first.values() for member in spec.family()}.values())
