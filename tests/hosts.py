"""`torchrun ... -m tests.hosts RESULTS DATA`: one run of 200 steps, a checkpoint after each."""

import sys
from pathlib import Path

from vitlib.inputs.models import Vit
from vitlib.inputs.sources import Data
from vitlib.papers.deit.specs import Student
from vitlib.recipe import Recipe
from vitlib.runs.execute import execute
from vitlib.runs.plan import Place

RUN = Student(
    data=Data(source="digits", image_size=8, per_class=8, mean=(0.304,), std=(0.375,)),
    model=Vit(embed_dim=16, depth=2, num_heads=2, patch_size=2, init="xavier"),
    recipe=Recipe(epochs=200, batch_size=80, lr=1e-3, eval_every=200),
    seed=0,
)


def main(results: str, data_dir: str) -> None:
    execute([RUN], Place(Path(results), Path(data_dir), device="cpu", checkpoint_every=0.0))


if __name__ == "__main__":
    main(*sys.argv[1:])
