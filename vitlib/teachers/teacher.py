"""The model that a method starts from, wherever it comes from.

`Teacher` names its origin: shipped weights, a released timm model, a file, a run that pretrains it, or one that leaves it behind.
Its weights, size and normalisation follow from that; `Teacher.module` builds it for the images at hand.
"""

from __future__ import annotations

import logging
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self

import numpy as np
from pydantic import Field, field_validator, model_validator

from vitlib.computing import Context
from vitlib.inputs.checkpoints.fitting import Fitted, fitted
from vitlib.inputs.checkpoints.reading import read
from vitlib.inputs.models import (
    Model,
    ResNet,
    Timm,
    Vit,
    build,
    check_tiling,
    classifier_names,
    classifier_outputs,
    load_weights,
    released,
    sketch,
    without_classifier,
)
from vitlib.inputs.sources import Data
from vitlib.spec import Part, RunSpec, SpecError
from vitlib.teachers import shipped
from vitlib.teachers.pretrain import DinoTeacher, MaeTeacher, SupervisedTeacher

if TYPE_CHECKING:
    from torch import nn

log = logging.getLogger("vitlib")


class Shipped(Part):
    """Weights that come with vitlib, by name; their SHA-256, filled in from the manifest, is part of every identity."""

    shipped: str
    sha256: str = ""

    @model_validator(mode="before")
    @classmethod
    def _pinned(cls, fields: Any) -> Any:
        if isinstance(fields, dict) and isinstance(fields.get("shipped"), str) and not fields.get("sha256"):
            return {**fields, "sha256": shipped.entry(fields["shipped"])["sha256"]}
        return fields

    @property
    def entry(self) -> dict[str, Any]:
        return shipped.entry(self.shipped)


class Untrained(Part):
    """A network as it is drawn from `seed`: what a pretrained one is compared with."""

    model: Vit | ResNet | Timm
    image_size: int
    mean: tuple[float, ...]
    std: tuple[Annotated[float, Field(gt=0)], ...]
    seed: Annotated[int, Field(ge=0)] = 0


class Checkpoint(Part):
    """Weights in data_dir/FILE: a state dict by timm's names, safetensors or torch.save's, whatever it is wrapped in.

    Args:
        mean, std: the normalisation that the model was trained with; with image_size from timm's table where a study names a timm model.
        key: where the file holds several networks, a container or prefix of the one to take ('model_ema').
        sha256: of the file, filled in when a study is loaded.
    """

    file: str
    model: Vit | ResNet | Timm
    image_size: int
    mean: tuple[float, ...]
    std: tuple[Annotated[float, Field(gt=0)], ...]
    key: str = ""
    sha256: str = ""

    @field_validator("file")
    @classmethod
    def _inside(cls, file: str) -> str:
        if Path(file).is_absolute() or ".." in Path(file).parts or Path(file).suffix not in SUFFIXES:
            raise ValueError(f"allowed: a path below data_dir that ends in {', '.join(SUFFIXES)}")
        return file

    @field_validator("model")
    @classmethod
    def _weights_are_the_files(cls, model: Model) -> Model:
        if isinstance(model, Timm) and model.pretrained:
            raise ValueError("pretrained = true beside a file; allowed: false, the weights are the file's")
        return model

    def pinned(self, data_dir: Path) -> Self:
        """The same with the file's SHA-256, which becomes part of every run's identity; the file is read, and what was undone is logged.

        A file that is pinned already may be absent, on a machine that shows stored results.

        Raises:
            WeightsError: if the file is missing, changed or damaged, or does not hold the model's weights.
        """
        path = data_dir / self.file
        if self.sha256 and not path.exists():
            return self
        pinned = self if self.sha256 else self.changed(sha256=shipped.sha256_of(shipped.content_of(path, REMEDY)))
        if note := pinned.fitted(data_dir).note:
            log.warning(note)
        return pinned

    def fitted(self, data_dir: Path) -> Fitted:
        """The file's weights by the model's names, in the sizes of the file, and a note of what was undone."""
        path = data_dir / self.file
        packed = shipped.checked(path, self.sha256, REMEDY)
        return fitted(read(packed, path), sketch(self.model, image_size=self.image_size, channels=len(self.mean)), path, self.key)


SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt", ".tar")
REMEDY = "put the file there, or set data_dir (notebook parameter, --data-dir, VITLIB_DATA); the shipped teachers need no file"


class Kept(Part):
    """The network that a run leaves behind, by timm's names, so that another method may begin with it."""

    run: RunSpec
    model: Vit | ResNet | Timm
    image_size: int
    mean: tuple[float, ...]
    std: tuple[Annotated[float, Field(gt=0)], ...]


class Teacher(Part):
    """A pretrained model: exactly one origin, given by its own fields; or, as a control, an untrained one.

    In an entry: `{origin = {shipped = "dino"}}`, `{origin = {name = "vit_base_patch16_224.dino", pretrained = true}}`,
    `{origin = {file = "my.safetensors", model = {...}, ...}}`; a pretraining run of the study `teachers` by its profile and grid point,
    `{origin = {run = {profile = "tiny", method = "dino", model = "tiny", seed = 0}}}`.
    """

    origin: Shipped | Timm | Checkpoint | Untrained | Kept | SupervisedTeacher | DinoTeacher | MaeTeacher

    @field_validator("origin")
    @classmethod
    def _with_weights(cls, origin: Part) -> Part:
        if isinstance(origin, Timm) and not origin.pretrained:
            raise ValueError("allowed: pretrained = true, or there are no weights to start from")
        return origin

    @property
    def model(self) -> Model:
        """The architecture."""
        origin = self.origin
        if isinstance(origin, Shipped):
            fields = origin.entry["model"]
            return (Vit if "embed_dim" in fields else ResNet).parse(fields)
        return origin if isinstance(origin, Timm) else origin.model

    def untrained(self, seed: int = 0) -> Teacher:
        """The same network for the same images, as it is drawn."""
        model = self.model.changed(pretrained=False) if isinstance(self.model, Timm) else self.model
        facts = {name: self._facts()[name] for name in ("image_size", "mean", "std")}
        return Teacher(origin=Untrained(model=model, seed=seed, **facts))

    @property
    def image_size(self) -> int:
        """Pixels that it was pretrained at."""
        return self._facts()["image_size"]

    @property
    def channels(self) -> int:
        """Of the images that it was pretrained on."""
        return len(self._facts()["mean"])

    def normalised(self, data: Data) -> Data:
        """The data with the mean and standard deviation that the model was pretrained with, unless they say their own.

        Raises:
            SpecError: if they say their own for another number of channels.
        """
        if data.mean is None:
            facts = self._facts()
            return data.changed(mean=facts["mean"], std=facts["std"])
        if data.channels != self.channels:
            raise SpecError(f"data.mean: got {data.channels} channels, and the teacher takes {self.channels}; allowed: as many, or none")
        return data

    def check(self, data_dir: Path) -> None:
        """Refuse weights that are missing or damaged, before anything is computed."""
        if isinstance(self.origin, Shipped):
            shipped.content(self.origin.shipped, self.origin.sha256)
        elif isinstance(self.origin, Checkpoint):
            shipped.checked(data_dir / self.origin.file, self.origin.sha256, REMEDY)

    def module(
        self, context: Context, *, image_size: int, num_classes: int | None = None, patch_size: int | None = None, drop_path: float = 0.0
    ) -> nn.Module:
        """The timm module with its weights, on the context's device.

        Position and patch embeddings are resampled to another image or patch size; the classifier stays if it has `num_classes`
        outputs (None: whatever it has), otherwise it is fresh.

        Raises:
            SpecError: if weights are missing or damaged, or patches do not tile the image.
        """
        model = self.model
        if patch_size:
            model = _repatched(model, patch_size)
        check_tiling(model, image_size)
        sizes = {"image_size": image_size, "channels": self.channels, "drop_path": drop_path}
        if isinstance(self.origin, Timm):
            return build(model, num_classes=num_classes, **sizes).to(context.device)
        if isinstance(self.origin, Untrained):
            from vitlib.inputs.data import seed_everything  # imports torch

            seed_everything(self.origin.seed, context.device)
            return build(model, num_classes=num_classes or 0, **sizes).to(context.device)
        weights = self._weights(context)
        classifier = _classifier(model, image_size, self.channels)
        trained = classifier_outputs(weights, classifier)
        module = build(model, num_classes=trained if num_classes is None else num_classes, **sizes)
        try:
            load_weights(module, weights if num_classes in (None, trained) else without_classifier(weights, classifier))
        except RuntimeError as error:
            reason = " ".join(str(error).split())[:300]
            raise shipped.WeightsError(f"teacher.origin: the weights do not fit {model!r}; {reason}") from None
        return module.to(context.device)

    def _weights(self, context: Context) -> dict[str, np.ndarray]:
        if isinstance(self.origin, Shipped):
            return shipped.read(self.origin.shipped, self.origin.sha256)
        if isinstance(self.origin, Checkpoint):
            return self.origin.fitted(context.data_dir).weights
        return context.weights(self.origin.run if isinstance(self.origin, Kept) else self.origin)

    def _facts(self) -> dict[str, Any]:
        """image_size, mean, std."""
        origin = self.origin
        if isinstance(origin, Shipped):
            given = origin.entry["input"]
            return {"image_size": given["image_size"], "mean": tuple(given["mean"]), "std": tuple(given["std"])}
        if isinstance(origin, Timm):
            return released(origin.name)
        if isinstance(origin, Checkpoint | Untrained | Kept):
            return origin.model_dump(include={"image_size", "mean", "std"})
        mean, std = origin.data.normalisation
        return {"image_size": origin.data.image_size, "mean": mean, "std": std}


@lru_cache(maxsize=64)
def _classifier(model: Model, image_size: int, channels: int) -> frozenset[str]:
    """Names of its parameters, which every run on a teacher asks for."""
    return classifier_names(sketch(model, image_size=image_size, channels=channels))


def _repatched(model: Model, patch_size: int) -> Vit:
    if not isinstance(model, Vit):
        raise SpecError(f"patch_size: got {patch_size} for {model!r}; allowed: for transformers given as a Vit")
    return model.changed(patch_size=patch_size)


def named(origin: dict[str, Any]) -> dict[str, Any]:
    """Fields of a file or an untrained network whose model is timm's, as text or by name; what timm says of it fills in the rest.

    Raises:
        SpecError: for a name that timm does not know.
    """
    model = origin["model"] if isinstance(origin["model"], dict) else {"name": origin["model"]}
    if "data" in origin or not isinstance(model.get("name"), str):
        return origin  # a pretraining run has its data's normalisation
    facts = released(model["name"])
    return {name: facts[name] for name in ("image_size", "mean", "std")} | origin | {"model": model}
