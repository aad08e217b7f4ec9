"""The model of a stored run as timm builds it: which call makes it, and the weights that go into it. Start from `form_of`."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vitlib.inputs.foreign.architecture import architecture, sizes_of
from vitlib.inputs.models import Model, Timm, has_size
from vitlib.inputs.sources import Data
from vitlib.papers.dual_ssl_kd.specs import Joint, Taught
from vitlib.papers.wecolora.specs import Downstream
from vitlib.spec import RunSpec
from vitlib.teachers.runs import OnTeacher

if TYPE_CHECKING:
    from torch import nn

METADATA = "vitlib"
PRESETS = {  # sizes that timm's names stand for
    False: {192: ("vit_tiny_patch16_224", 3), 384: ("vit_small_patch16_224", 6), 768: ("vit_base_patch16_224", 12)},
    True: {
        192: ("deit_tiny_distilled_patch16_224", 3),
        384: ("deit_small_distilled_patch16_224", 6),
        768: ("deit_base_distilled_patch16_224", 12),
    },
}


@dataclass(frozen=True)
class Form:
    """What `timm.create_model` is told, but for the number of classes.

    Args:
        depth: blocks that are left of the named model's; None is all of them.
        data: the images it takes.
    """

    name: str
    options: dict[str, Any]
    model: Model
    depth: int | None
    data: Data

    def keywords(self, num_classes: int) -> dict[str, Any]:
        return {"num_classes": num_classes, **self.options}

    def module(self, weights: dict[str, np.ndarray], num_classes: int) -> nn.Module:
        """The module with its weights, in eval mode; `pretrained_cfg` says how images are normalised."""
        import timm
        import torch

        module = timm.create_model(self.name, **self.keywords(num_classes))
        module.load_state_dict({name: torch.from_numpy(np.array(array)) for name, array in weights.items()})
        mean, std = self.data.normalisation
        shape = (self.data.channels, self.data.image_size, self.data.image_size)
        crop = self.data.crop_share or (1.0 if self.data.resident else 0.875)
        facts = {"input_size": shape, "mean": mean, "std": std, "num_classes": num_classes, "crop_pct": crop, "interpolation": "bicubic"}
        module.pretrained_cfg = dict(module.pretrained_cfg) | facts
        module.default_cfg = module.pretrained_cfg
        return module.eval()

    def how_to_load(self, file: str, num_classes: int) -> str:
        """The line that loads a saved file, with timm alone; a packed one (.npz) takes two."""
        told = ", ".join(f"{name}={value!r}" for name, value in self.keywords(num_classes).items())
        if file.endswith(".npz"):
            return (
                f"model = timm.create_model({self.name!r}, {told})\n"
                f"model.load_state_dict({{name: torch.from_numpy(array) for name, array in numpy.load({file!r}).items()}})"
            )
        return f"timm.create_model({self.name!r}, {told}, checkpoint_path={file!r})"

    def described(self, module: nn.Module) -> str:
        """JSON that `description` reads back, for a model that this form's runs can start from again; elsewhere empty."""
        model = self.model if self.depth is None else sizes_of(module, self.data.image_size, self.data.channels)
        if model is None:
            return ""
        mean, std = self.data.normalisation
        plain = model.changed(pretrained=False) if isinstance(model, Timm) else model
        facts = {"image_size": self.data.image_size, "mean": mean, "std": std}
        return json.dumps({"type": type(plain).__name__, "model": plain.model_dump(), **facts})


def form_of(run: RunSpec) -> Form:
    """Of a run that keeps its model's weights."""
    model, data = _model(run), run.data
    reduction = run.student.reduction if isinstance(run, Downstream) and run.student else 1
    depth = None
    if reduction > 1:
        depth = -(-architecture(model, data.image_size, data.channels).depth // reduction)
    channels = {} if data.channels == 3 else {"in_chans": data.channels}
    if isinstance(model, Timm):
        sizes = {"img_size": data.image_size} if has_size(model.architecture) else {}
        return Form(model.architecture, sizes | channels | ({"depth": depth} if depth else {}), model, depth, data)
    name, heads = PRESETS[model.distilled].get(model.embed_dim, PRESETS[model.distilled][192])
    preset = {"patch_size": 16, "embed_dim": model.embed_dim if model.embed_dim in PRESETS[model.distilled] else 192}
    preset |= {"depth": 12, "num_heads": heads, "mlp_ratio": 4.0}
    own = {field: getattr(model, field) for field in preset} | ({"depth": depth} if depth else {})
    told = {field: value for field, value in own.items() if value != preset[field]}
    return Form(name, {"img_size": data.image_size} | channels | told, model, depth, data)


def plain_weights(weights: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A run's weights as a plain state dict: pruned ones are zero, their masks are left out."""
    return {name: array for name, array in weights.items() if not name.startswith("mask.")}


def description(path: Path) -> dict[str, Any] | None:
    """What a file that was saved here says of its model; None for any other."""
    from safetensors import SafetensorError, safe_open

    with suppress(SafetensorError, ValueError, RecursionError), safe_open(path, "np") as file:
        return json.loads((file.metadata() or {}).get(METADATA, "") or "null")
    return None


def _model(run: RunSpec) -> Model:
    if isinstance(run, OnTeacher):
        return run.teacher.model
    return run.student if isinstance(run, Taught | Joint) else run.model
