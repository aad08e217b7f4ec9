"""Trainings whose numbers go wrong, sets of images that are hardly any, and what must come of each."""

from pathlib import Path

import numpy as np
from PIL import Image

from vitlib.inputs.models import Vit
from vitlib.inputs.sources import Data
from vitlib.papers.deit.specs import Student
from vitlib.recipe import Recipe

VIT = Vit(embed_dim=8, depth=1, num_heads=2, patch_size=4, init="xavier")
DIGITS = Data(source="digits", image_size=8, per_class=2, mean=(0.3,), std=(0.4,))
RECIPE = Recipe(epochs=2, batch_size=8, lr=1e-2)
SOUND = Student(data=DIGITS, model=VIT, recipe=RECIPE, seed=0)
TAUGHT = {"teacher": SOUND.changed(seed=9), "objective": "soft"}
LOSS, OUTPUTS = "DivergedError: loss: not finite", "DivergedError: model: it gives values that are not finite"


def student(data=None, recipe=None, **fields) -> Student:
    """The sound run with some fields of its data, its recipe and its own changed."""
    return SOUND.changed(data=DIGITS.changed(**data or {}), recipe=RECIPE.changed(**recipe or {}), **fields)


def folder(root: Path, name: str, **splits: dict[str, int]) -> Data:
    """Grey pictures by split and class, so many of each, in data_dir/name."""
    generator = np.random.default_rng(0)
    for split, classes in splits.items():
        for label, images in classes.items():
            place = root / name / split / label
            place.mkdir(parents=True)
            for number in range(images):
                Image.fromarray(generator.integers(0, 256, (8, 8), dtype=np.uint8)).save(place / f"{number}.png")
    return Data(source=f"folder/{name}", image_size=8, mean=(0.5,), std=(0.25,))


WRONG = {
    "a rate that makes the loss not a number": (student(recipe={"lr": 1e30}), LOSS),
    "an exploding gradient without clipping": (student(recipe={"lr": 1e12, "optimizer": "sgd"}), LOSS),
    "an exploding momentum": (student(recipe={"lr": 1e12, "optimizer": "momentum"}), LOSS),
    "rates by layer that explode": (student(recipe={"lr": 1e30, "optimizer": "lars"}), LOSS),
    "weight decay that turns weights over": (student(recipe={"weight_decay": 1e30}), LOSS),
    "half precision that overflows": (student(recipe={"lr": 1e30, "precision": "bf16"}), LOSS),
    "images divided by next to nothing": (student({"std": (1e-40,)}), LOSS),
    "a temperature of next to nothing": (student(temperature=1e-40, **TAUGHT), LOSS),
    "parts of a batch that explode": (student(recipe={"lr": 1e30, "accumulate": 4}), LOSS),
    "images of numbers that are not": (student({"mean": (float("1e39"),)}), LOSS),
    "a last update that breaks the weights": (student(recipe={"lr": 3e38, "epochs": 1, "batch_size": 20}), OUTPUTS),
    "a moving average of broken weights": (student(recipe={"lr": 3e38, "epochs": 1, "batch_size": 20, "ema_decay": 0.0}), OUTPUTS),
}
RIGHT = {
    "an exploding gradient that is clipped": student(recipe={"lr": 0.1, "optimizer": "sgd", "clip_grad": 1e-3}),
    "mixing by next to nothing": student(recipe={"mixup": 1e-30}),
    "an image of each class": student({"per_class": 1}),
    "a batch of the whole set": student(recipe={"batch_size": 20}),
}
