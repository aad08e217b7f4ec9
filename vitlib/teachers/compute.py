"""How teachers are pretrained."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import torch
from torch import Tensor, nn

from vitlib.computing import Context, Result, computes
from vitlib.inputs.data import channel_constants, seed_everything, test_batches, training_batches
from vitlib.inputs.models import build, weights_of
from vitlib.inputs.sources import Data, class_names
from vitlib.inputs.views import colour_jitter, greyscale, resized_crop, solarised
from vitlib.methods.self_supervised.dino import ProjectionHead, SelfDistillation, cosine, follow, warmed_up
from vitlib.methods.self_supervised.mae import MaskedAutoencoder
from vitlib.recipe import Recipe
from vitlib.teachers.pretrain import DinoTeacher, MaeTeacher, MultiCrop, Pretrained, SupervisedTeacher, Tracking
from vitlib.training.evaluate import accuracy, labels_of, outputs, scores_of
from vitlib.training.loop import Evaluate, Loss, Trained, cross_entropy, train
from vitlib.training.probe import features_read, knn_accuracy, readouts
from vitlib.training.step.update import mean_over_images


@computes(SupervisedTeacher)
def train_supervised(spec: SupervisedTeacher, context: Context) -> Result:
    num_classes = len(class_names(spec.data, context.data_dir))
    seed_everything(spec.seed, context.device)
    model = _built(spec, spec.recipe, num_classes)
    test = test_batches(spec.data, device=context.device, data_dir=context.data_dir)
    labels = labels_of(test)

    def top1(module: nn.Module) -> dict[str, float]:
        return {"top1": accuracy(scores_of(module, test).argmax(dim=1).numpy(), labels)}

    trained = _train(spec, spec.recipe, model, cross_entropy, context, num_classes=num_classes, evaluate=top1)
    return _pretrained(trained, model)


@computes(DinoTeacher)
def train_dino(spec: DinoTeacher, context: Context) -> Result:
    method = spec.method
    seed_everything(spec.seed, context.device)
    backbone = _built(spec, method.recipe, 0, any_size=True)
    head = ProjectionHead(spec.model.embed_dim, method.hidden, method.bottleneck, method.prototypes)
    model = SelfDistillation(backbone, head, student_temp=method.student_temp, center_momentum=method.center_momentum)
    views = Views(method.views, spec.data, context.device)
    temperature = torch.zeros((), device=context.device)

    @contextmanager
    def around_step(progress: float) -> Iterator[None]:
        temperature.fill_(warmed_up(method.teacher_temp_start, method.teacher_temp, progress, method.temp_warmup))
        head.last.weight.requires_grad_(progress >= method.frozen)
        yield
        follow(model.teacher, model.student, cosine(method.ema, 1.0, progress))

    def loss(model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        with in_float32(images):
            global_views, local_views = views(images)
        return model(global_views, local_views, temperature)

    tracked = tracker(spec.data, method.tracking, lambda module: module.teacher[0], context)
    trained = _train(spec, method.recipe, model, loss, context, evaluate=tracked, around_step=around_step)
    return _pretrained(trained, model.teacher[0])


@computes(MaeTeacher)
def train_mae(spec: MaeTeacher, context: Context) -> Result:
    method = spec.method
    seed_everything(spec.seed, context.device)
    encoder = _built(spec, method.recipe, 0)
    model = MaskedAutoencoder(
        encoder,
        decoder_dim=method.decoder_dim,
        decoder_depth=method.decoder_depth,
        decoder_heads=method.decoder_heads,
        mask_ratio=method.mask_ratio,
    )
    patches = encoder.patch_embed.num_patches

    @mean_over_images
    def loss(model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        with in_float32(images):
            crops = resized_crop(images, spec.data.image_size, method.scale)
        return model(crops, torch.rand(len(images), patches, device=images.device))

    tracked = tracker(spec.data, method.tracking, lambda module: module.encoder, context)
    trained = _train(spec, method.recipe, model, loss, context, evaluate=tracked)
    return _pretrained(trained, encoder)


def in_float32(images: Tensor) -> AbstractContextManager:
    """No lower precision within: in bf16 the places of a 224 px crop would be as coarse as its pixels."""
    return torch.autocast(images.device.type, enabled=False)


class Views:
    """Two global and several local views of a normalised batch, as DINO draws them: crops, jitter, greyscale, then solarisation.

    Source of the order: DataAugmentationDINO in main_dino.py.
    """

    def __init__(self, sizes: MultiCrop, data: Data, device: str):
        self.sizes = sizes
        self.mean, self.std = channel_constants(data, torch.device(device))

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Global (2 B, C, H, W) and local (L B, C, h, w) views, view after view."""
        pictures, sizes = images * self.std + self.mean, self.sizes
        first, second = (resized_crop(pictures, sizes.global_size, sizes.global_scale) for _ in range(2))
        local = resized_crop(pictures.repeat(sizes.local_views, 1, 1, 1), sizes.local_size, sizes.local_scale)
        first, second = self._coloured(torch.cat([first, second])).chunk(2)
        return self._normalised(torch.cat([first, solarised(second, 0.2)])), self._normalised(self._coloured(local))

    def _coloured(self, pictures: Tensor) -> Tensor:
        return greyscale(colour_jitter(pictures, 0.8, self.sizes.jitter), 0.2)

    def _normalised(self, pictures: Tensor) -> Tensor:
        return (pictures - self.mean) / self.std


def tracker(data: Data, tracking: Tracking, backbone: Callable[[nn.Module], nn.Module], context: Context) -> Evaluate:
    """k-NN accuracy of `backbone(model)` on evenly spaced images, by class token and by mean of patches."""
    counts = {"train": tracking.bank, "test": tracking.queries}
    sets = [test_batches(data, device=context.device, data_dir=context.data_dir, split=split, count=n) for split, n in counts.items()]
    labels = [labels_of(batches) for batches in sets]

    def tracked(model: nn.Module) -> dict[str, float]:
        network = backbone(model)
        bank, queries = (outputs(network, batches, features_read) for batches in sets)
        pairs = zip(readouts(network), bank, queries, strict=True)
        return {f"knn {name}": knn_accuracy(known, labels[0], asked, labels[1]) for name, known, asked in pairs}

    return tracked


def _built(spec: Pretrained, recipe: Recipe, num_classes: int, *, any_size: bool = False) -> nn.Module:
    sizes = {"image_size": spec.data.image_size, "channels": spec.data.channels, "num_classes": num_classes}
    return build(spec.model, **sizes, drop_path=recipe.drop_path, any_size=any_size)


def _train(
    spec: Pretrained, recipe: Recipe, model: nn.Module, loss: Loss, context: Context, *, num_classes: int | None = None, **options
) -> Trained:
    batches = training_batches(spec.data, recipe, seed=spec.seed, device=context.device, data_dir=context.data_dir)
    return train(model, batches, loss, recipe, num_classes=num_classes, context=context, **options)


def _pretrained(trained: Trained, model: nn.Module) -> Result:
    return Result(trained.metrics, trained.history, weights=weights_of(model), measured=trained.measured)
