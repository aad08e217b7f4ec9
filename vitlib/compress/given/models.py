"""A model as it comes: a timm name, a checkpoint file, a module in memory, `shipped/NAME`; each becomes a `Teacher`, part of identities."""

from __future__ import annotations

import copy
import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitlib import durable
from vitlib.compress.given.options import Options
from vitlib.inputs.checkpoints.reading import WeightsError
from vitlib.inputs.foreign.architecture import sizes_of
from vitlib.inputs.models import Model, Timm, Vit, build, parameter_count, released, sketch, weights_of
from vitlib.messages import brief
from vitlib.spec import SpecError
from vitlib.teachers.shipped import content_of, sha256_of
from vitlib.teachers.teacher import SUFFIXES, Checkpoint, Shipped, Teacher, Untrained

if TYPE_CHECKING:
    from torch import nn

LARGEST_DIFFERENCE = 1e-4  # of outputs, between a module in memory and the model that its weights are loaded into
SHIPPED = "shipped/"  # before the name of weights that come with vitlib
REMEDY = "allowed: a timm name, a checkpoint file, or a timm module"


def teacher_of(model: Any, inputs: Path, options: Options) -> Teacher:
    """The model as a teacher of runs whose data folder is `inputs`.

    Raises:
        SpecError: one line that says what it is instead, and what is allowed.
    """
    if isinstance(model, Teacher):
        return model
    if isinstance(model, str | os.PathLike):
        text = os.fspath(model)
        if text.startswith(SHIPPED):
            return Teacher.made(origin=Shipped.made(shipped=text.removeprefix(SHIPPED)))
        is_file = Path(text).expanduser().is_file() or text.endswith(SUFFIXES) or isinstance(model, os.PathLike)
        return _of_file(Path(text).expanduser(), inputs, options) if is_file else _of_name(text, options)
    module = getattr(model, "_orig_mod", getattr(model, "module", model))  # of torch.compile, of parallel training
    if hasattr(module, "state_dict") and hasattr(module, "forward_features"):
        return _of_module(module, inputs, options)
    raise SpecError(f"model: got {brief(model)}; {REMEDY}")


def architecture_of(model: Any) -> Timm:
    """The architecture of a student that is trained from the beginning.

    Raises:
        SpecError: for a file or a module, whose weights would be left out.
    """
    if not isinstance(model, str) or model.endswith(SUFFIXES):
        raise SpecError(f"student: got {brief(model)}, and a student begins untrained; allowed: the name of a timm model")
    released(model)
    return Timm.made(name=model.partition(".")[0])


def parameters(model: Model, image_size: int, channels: int) -> int:
    plain = model.changed(pretrained=False) if isinstance(model, Timm) else model
    return parameter_count(sketch(plain, image_size=image_size, channels=channels))


def require_weights(teacher: Teacher) -> None:
    """Have released weights at hand before anything is computed.

    Raises:
        SpecError: saying where else they can come from.
    """
    if not isinstance(teacher.origin, Timm):
        return
    import timm

    try:
        timm.create_model(teacher.origin.name, pretrained=True)
    except (RuntimeError, OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:120]
        raise SpecError(
            f"model: weights of {teacher.origin.name!r} could not be had ({type(error).__name__}: {reason}); allowed: with them in the hub "
            "cache (HF_HOME), a checkpoint file, or pretrained=False, an untrained network"
        ) from None


def _of_name(name: str, options: Options) -> Teacher:
    import timm

    facts = released(name)
    if not options.pretrained:
        model = Timm.made(name=name.partition(".")[0])
        return Teacher.made(origin=Untrained.made(model=model, seed=options.seed, **_input(facts, options)))
    tag = name if "." in name else ".".join(filter(None, [name, _tag(name)]))
    if "." not in tag or not timm.models.is_model_pretrained(tag):
        raise SpecError(
            f"model: {name!r} has no released weights; allowed: a checkpoint file, or pretrained=False for an untrained network"
        )
    return Teacher.made(origin=Timm.made(name=tag, pretrained=True))


def _tag(name: str) -> str:
    """Of the weights that timm takes by default."""
    import timm

    return timm.get_pretrained_cfg(name).tag or ""


def _of_file(path: Path, inputs: Path, options: Options) -> Teacher:
    if not path.is_file():
        raise SpecError(f"model: no file {path}; {REMEDY}")
    model, said = _described(path, options)
    packed = content_of(path, REMEDY)
    sha256 = sha256_of(packed)
    place = _place(sha256, path.suffix)
    if not (inputs / place).exists():
        durable.make((inputs / place).parent)
        (inputs / place).unlink(missing_ok=True)
        (inputs / place).symlink_to(path.absolute())
    facts = _input(said, options)
    origin = Checkpoint.made(file=place, model=model, key=options.key, sha256=sha256, **facts)
    try:
        origin.fitted(inputs)
    except WeightsError as error:
        raise SpecError(str(error).replace(f"teacher.origin.file {inputs / place}", f"model {path}").replace("origin.key", "key")) from None
    return Teacher.made(origin=origin)


def _described(path: Path, options: Options) -> tuple[Timm | Vit, dict[str, Any]]:
    """The architecture, asked for or written into the file when it was saved here, and what is known of its images."""
    from vitlib.papers.comparison.left.forms import description

    if options.architecture:
        return Timm.made(name=options.architecture.partition(".")[0]), released(options.architecture)
    if (said := description(path)) is not None:
        cls = {"Timm": Timm, "Vit": Vit}[said["type"]]
        return cls.parse(said["model"]), {"image_size": said["image_size"], "mean": tuple(said["mean"]), "std": tuple(said["std"])}
    raise SpecError(
        f"model: {path.name} does not say which network its weights are of; allowed: with architecture='vit_small_patch16_224', "
        "or another name that timm has for it"
    )


def _of_module(module: nn.Module, inputs: Path, options: Options) -> Teacher:
    from safetensors.numpy import save

    module = copy.deepcopy(module).cpu().float()
    facts = _facts(module)
    model = _same(module, facts)
    packed = save(dict(sorted(weights_of(module).items())))
    sha256 = hashlib.sha256(packed).hexdigest()
    place = inputs / _place(sha256, ".safetensors")
    if not place.exists():
        durable.make(place.parent)
        with durable.whole(place) as aside:
            aside.write_bytes(packed)
    return Teacher.made(origin=Checkpoint.made(file=_place(sha256, ".safetensors"), model=model, sha256=sha256, **_input(facts, options)))


def _place(sha256: str, suffix: str) -> str:
    return f"models/{sha256[:16]}{suffix}"


def _input(facts: dict[str, Any], options: Options) -> dict[str, Any]:
    given = {"mean": options.mean, "std": options.std}
    return {name: facts[name] for name in ("image_size", "mean", "std")} | {name: value for name, value in given.items() if value}


def _facts(module: nn.Module) -> dict[str, Any]:
    """Architecture, image size, mean and std by channel of a timm module."""
    said = dict(getattr(module, "pretrained_cfg", None) or {})
    first = next((layer for layer in module.modules() if type(layer).__name__ == "Conv2d"), None)
    channels = first.in_channels if first is not None else 3
    own = getattr(getattr(module, "patch_embed", None), "img_size", None)
    size = own[0] if own else tuple(said.get("input_size", (3, 224, 224)))[-1]
    mean, std = (tuple(said.get(name, default)) for name, default in (("mean", (0.485, 0.456, 0.406)), ("std", (0.229, 0.224, 0.225))))
    if len(mean) != channels:
        mean, std = ((sum(values) / len(values),) * channels for values in (mean, std))
    return {"architecture": said.get("architecture", ""), "image_size": size, "mean": mean, "std": std}


def _same(module: nn.Module, facts: dict[str, Any]) -> Timm | Vit:
    """The described model that gives what the module gives, once it has its weights."""
    import timm

    sizes = {"image_size": facts["image_size"], "channels": len(facts["mean"])}
    named = [Timm.made(name=facts["architecture"])] if facts["architecture"] in timm.list_models() else []
    plain = sizes_of(module, **sizes) if hasattr(module, "blocks") else None
    for model in [*named, *([plain] if plain else [])]:
        if _difference(module, model, sizes) < LARGEST_DIFFERENCE:
            return model
    what = facts["architecture"] or type(module).__name__
    raise SpecError(f"model: this module is neither timm's {what} nor a plain Vision Transformer of other sizes; {REMEDY}")


def _difference(module: nn.Module, model: Timm | Vit, sizes: dict[str, int]) -> float:
    """Largest difference of their outputs for one random image."""
    import torch

    from vitlib.inputs.models import in_eval_mode

    try:
        other = build(model, num_classes=getattr(module, "num_classes", 0), **sizes)
        other.load_state_dict(module.state_dict())
    except (RuntimeError, SpecError):
        return float("inf")
    image = torch.randn(1, sizes["channels"], sizes["image_size"], sizes["image_size"], generator=torch.Generator().manual_seed(0))
    with torch.inference_mode(), in_eval_mode(module):
        return float((module(image) - other.eval()(image)).abs().max())
