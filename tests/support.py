"""What tests share: runs of a millisecond, comparisons to the bit, a tiny image folder, a transformer drawn at random."""

from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from vitlib import load_study
from vitlib.computing import Context, Result, computes
from vitlib.inputs.models import Vit, build
from vitlib.runs.execute import execute
from vitlib.spec import RunSpec

ROOT = Path(__file__).parents[1]
MICRO = Vit(embed_dim=8, depth=2, num_heads=2, patch_size=4)
MICRO_SIZES = {"image_size": 8, "channels": 1, "num_classes": 3}
EXAMPLE = {"seeds": [0], "recipe": {"epochs": 8}}  # of docs/exploring.md and of every parameters cell


def context(data_dir: Path = Path(), **fields) -> Context:
    """Where a run is computed on the CPU: nothing to go on from and no parents, unless told otherwise."""
    return Context("cpu", data_dir, **{"scratch": None, "parent": lambda run: None, **fields})


class Killed(BaseException):
    """Nothing of ours may catch this."""


def killing(after: list[int]):
    """A `tick` that kills a training again and again: each time after so many updates more."""

    def tick(*_):
        if after:
            after[0] -= 1
            if after[0] == 0:
                after.pop(0)
                raise Killed

    return tick


class Number(RunSpec):
    """A number, with one of everything that a run can leave behind."""

    value: int
    scale: float = 1.0


@computes(Number)
def compute_number(spec: Number, context: Context) -> Result:
    leave_trace(spec, context)
    context.tick(0, 1, 10)
    return all_of_a_number(spec.value, spec.scale)


def all_of_a_number(value: int, scale: float = 1.0) -> Result:
    generator = np.random.default_rng(value)
    return Result(
        {"value": scale * value, "count": value, "name": "a number"},
        pd.DataFrame({"epoch": [1, 2], "loss": generator.random(2), "top1": [np.nan, 1e-17]}),
        {"noise": generator.random((2, 3)), "flags": np.array([True, False]), "none": np.zeros((0, 4), np.float16)},
        {"weight": generator.random((3, 2)).astype(np.float32).T, "step": np.array(7)},
        {"seconds": 0.5},
    )


class Total(RunSpec):
    """The sum of two other runs."""

    left: "Number | Total"
    right: "Number | Total"


@computes(Total)
def compute_total(spec: Total, context: Context) -> Result:
    leave_trace(spec, context)
    return Result({"value": sum(context.parent(parent).metrics["value"] for parent in (spec.left, spec.right))})


def leave_trace(spec: RunSpec, context: Context) -> None:
    """One line for each computation; a file `break-ID` makes the run fail."""
    with (context.data_dir / "computed").open("a") as log:
        log.write(f"{spec.id}\n")
    if (context.data_dir / f"break-{spec.id}").exists():
        raise ArithmeticError("told to fail")


def computed(place) -> list[str]:
    log = place.data_dir / "computed"
    return log.read_text().splitlines() if log.exists() else []


def execute_numbers(count: int, order: int, place, start) -> None:
    """For a process of its own: the first `count` numbers in a shuffled order, begun when all processes are there."""
    specs = [Number(value=value) for value in np.random.default_rng(order).permutation(count).tolist()]
    start.wait()
    execute(specs, place)


def smoke_study(results_dir: Path):
    return load_study("deit", "smoke", results_dir=str(results_dir), device="cpu")


def execute_smoke(results_dir: Path) -> None:
    smoke_study(results_dir).execute()


def execute_backwards(results_dir: Path, paper: str, overrides: dict | None) -> None:
    """A smoke study, its last runs first as far as what they start from allows: numbers do not depend on the order."""
    study = load_study(paper, "smoke", overrides=overrides, results_dir=str(results_dir), device="cpu")
    execute(study.computable()[::-1], study.place)


def files_below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def assert_same_result(one, other) -> None:
    """Equal metrics, history, arrays and weights, to the bit."""
    assert one.metrics == other.metrics
    if one.history is None or other.history is None:
        assert one.history is other.history
    else:
        pd.testing.assert_frame_equal(one.history, other.history, check_exact=True)
    assert_same_arrays(one.arrays, other.arrays)
    assert (one.weights is None) == (other.weights is None)
    assert_same_arrays(one.weights or {}, other.weights or {})


def assert_same_arrays(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> None:
    assert one.keys() == other.keys()
    for name in one:
        assert one[name].dtype == other[name].dtype, name
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)


def flip_a_byte(path: Path, generator: np.random.Generator) -> None:
    content = bytearray(path.read_bytes())
    content[generator.integers(len(content))] ^= int(generator.integers(1, 256))
    path.write_bytes(content)


def drawn_vit(spec: Vit = MICRO, **sizes):
    """A transformer in eval mode all of whose parameters are drawn at random; `sizes` replace some of MICRO_SIZES."""
    import torch  # which most tests that share this file do without

    generator = torch.Generator().manual_seed(3)
    model = build(spec, **MICRO_SIZES | sizes).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3, generator=generator)
    return model


def make_images(root: Path, classes=("cat", "dog"), splits=("train", "test"), images: int = 3) -> Path:
    """root/SPLIT/CLASS/N.png: grey noise of 8 x 8 pixels, different in every file."""
    generator = np.random.default_rng(0)
    for split in splits:
        for name in classes:
            folder = root / split / name
            folder.mkdir(parents=True)
            for number in range(images):
                Image.fromarray(generator.integers(0, 256, (8, 8), dtype=np.uint8)).save(folder / f"{number}.png")
    return root


def make_picture(path: Path, seed: int = 0) -> None:
    """Grey noise of 8 x 8 pixels in a file of any format, its folder made with it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (8, 8), dtype=np.uint8)).save(path)
