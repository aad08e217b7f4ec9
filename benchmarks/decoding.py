"""How many images of ImageNet's kind does a core decode and augment in a second, and how many cores does a GPU ask for?

Generated JPEGs of 500 x 375 pixels and about 110 kB, read from memory-cached files by Pillow, through the very transforms that training
and evaluation use. In draft mode Pillow decodes a JPEG at half its size, which is faster and another picture: vitlib does not use it.
"""

from __future__ import annotations

import io
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import _paired
import numpy as np
import torch
from PIL import Image

from vitlib.inputs.models import Vit
from vitlib.inputs.pictures import eight_bit, open_image
from vitlib.inputs.sources import Data
from vitlib.inputs.transforms import transform_of
from vitlib.recipe import Augment
from vitlib.studies.costs.speed.rates import SHIPPED
from vitlib.training.work.layers import backward_flops, forward_flops, transformer

WIDTH, HEIGHT, KILOBYTES = 500, 375, 110
IMAGES, ROUNDS = 48, 9
DATA = Data(source="folder/imagenet", image_size=224, resident=False)
AUGMENT = Augment(crop_area=0.08, flip=0.5)
DEIT = Augment(crop_area=0.08, flip=0.5, randaugment="rand-m9-mstd0.5-inc1")
STUDENTS = {
    "DeiT-Ti": Vit(embed_dim=192, depth=12, num_heads=3, patch_size=16),
    "DeiT-S": Vit(embed_dim=384, depth=12, num_heads=6, patch_size=16),
    "DeiT-B": Vit(embed_dim=768, depth=12, num_heads=12, patch_size=16),
}


def photograph(seed: int) -> Image.Image:
    """Noise whose amplitude falls with frequency, as that of photographs does."""
    generator = np.random.default_rng(seed)
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(WIDTH), np.fft.fftfreq(HEIGHT))) + 1 / WIDTH
    planes = [np.fft.ifft2(np.fft.fft2(generator.normal(size=(HEIGHT, WIDTH))) / frequency).real for _ in range(3)]
    grey = planes[0]
    colours = np.stack([grey + 0.3 * plane for plane in planes], axis=2)
    levels = 128 + 50 * (colours - colours.mean()) / colours.std() + generator.normal(scale=4, size=colours.shape)
    return Image.fromarray(levels.clip(0, 255).astype(np.uint8))


def encoded(picture: Image.Image) -> bytes:
    """JPEG at the quality that comes nearest to the size."""

    def at(quality: int) -> bytes:
        stream = io.BytesIO()
        picture.save(stream, "JPEG", quality=quality)
        return stream.getvalue()

    return min((at(quality) for quality in range(50, 100, 3)), key=lambda content: abs(len(content) - 1000 * KILOBYTES))


def in_draft(path: Path) -> Image.Image:
    """At half its size; vitlib's conversion after it."""
    with Image.open(path) as image:
        image.draft("RGB", (WIDTH // 2, HEIGHT // 2))
        return eight_bit(image, 3)


def ways() -> dict[str, Callable[[Path], object]]:
    evaluation, training, deit = (transform_of(DATA, augment) for augment in (None, AUGMENT, DEIT))
    return {
        "decoded": lambda path: open_image(path, 3),
        "decoded for evaluation": lambda path: evaluation(open_image(path, 3)),
        "decoded, random crop, flip": lambda path: training(open_image(path, 3)),
        "decoded, random crop, flip, RandAugment": lambda path: deit(open_image(path, 3)),
        "decoded in draft mode": in_draft,
        "decoded in draft mode, random crop, flip": lambda path: training(in_draft(path)),
        "decoded in draft mode, random crop, flip, RandAugment": lambda path: deit(in_draft(path)),
    }


def measured(paths: list[Path]) -> dict[str, dict[str, float]]:
    """Images/s of CPU time by way, the ways in turn; CPU time leaves out what other processes take."""
    every, rates = ways(), {}
    for number in range(1 + ROUNDS):
        for name in list(every) if number % 2 else reversed(list(every)):
            began = time.process_time()
            for path in paths:
                every[name](path)
            if number:
                rates.setdefault(name, []).append(len(paths) / (time.process_time() - began))
    return {name: _spread(rates[name]) for name in every}


def _spread(values: list[float]) -> dict[str, float]:
    first, median, third = statistics.quantiles(values, n=4, method="inclusive")
    return {"median": median, "quartile_1": first, "quartile_3": third, "min": min(values), "max": max(values)}


def asked_for(model: Vit) -> float:
    """Images/s of training on an H100 as `python -m vitlib plan` assumes it, in bfloat16."""
    layers = transformer(model, DATA.image_size, 3, 1000).layers
    rates = SHIPPED["h100"]
    return 1 / (rates.half * (forward_flops(layers) + backward_flops(layers)) + rates.elements * 3 * sum(e.elements for e in layers) / 2)


def main() -> None:
    torch.set_num_threads(1)
    about = _paired.machine("cpu", "pillow", "timm", "torchvision")
    print(", ".join(f"{key} {value}" for key, value in about.items()), "| one thread")
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{number}.jpg" for number in range(IMAGES)]
        for number, path in enumerate(paths):
            path.write_bytes(encoded(photograph(number)))
        kilobytes = statistics.mean(path.stat().st_size for path in paths) / 1000
        rates = measured(paths)
    print(f"{IMAGES} images of {WIDTH} x {HEIGHT}, {kilobytes:.0f} kB on average; n {ROUNDS} rounds, CPU time")
    for name, spread in rates.items():
        print(f"  {name}: median {spread['median']:.0f} images/s, quartiles {spread['quartile_1']:.0f} .. {spread['quartile_3']:.0f}")
    core = rates["decoded, random crop, flip, RandAugment"]["median"]
    gpus = {name: {"images/s": asked_for(model), "cores": asked_for(model) / core} for name, model in STUDENTS.items()}
    for name, asked in gpus.items():
        print(f"  {name} on an H100, assumed: {asked['images/s']:,.0f} images/s, {asked['cores']:.0f} such cores")
    content = {"question": __doc__.splitlines()[0], "machine": about, "kilobytes": kilobytes, "images": IMAGES, "n": ROUNDS}
    _paired.write(__file__, content | {"images/s a core": rates, "an H100, assumed, asks for": gpus})


if __name__ == "__main__":
    main()
