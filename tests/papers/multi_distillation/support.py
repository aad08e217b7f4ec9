"""Networks, weights and runs of one step that tests of multi-distillation share."""

from types import SimpleNamespace

from vitlib import load_study
from vitlib.computing import result_of
from vitlib.inputs.models import ResNet, Vit, weights_of
from vitlib.inputs.sources import Data
from vitlib.papers.multi_distillation.search.space import LETTERS, Weights
from vitlib.papers.multi_distillation.specs import Alone, Combined, Objective
from vitlib.recipe import Recipe
from vitlib.runs.workers.one import one_thread
from vitlib.studies.study import Study

DIGITS = Data(source="digits", image_size=8, per_class=4, mean=(0.3,), std=(0.4,))  # 30 images to train on, 10 held out
NETWORK = ResNet(width=4, blocks=(1, 1, 1, 1))
TRANSFORMER = Vit(embed_dim=8, depth=4, num_heads=2, patch_size=4)
ONE_STEP = Recipe(epochs=1, batch_size=30, lr=0.05, optimizer="momentum", weight_decay=0.0, min_lr=0.0)
WEIGHTS = Weights(a=0.3, b=0.7, c=0.9, d=1.0, e=2.0, f=0.5, g=0.2, h=0.4, i=0.6)
NOTHING = Weights(**dict.fromkeys(LETTERS, 0.0))
SPEC = Combined(
    model=NETWORK, data=DIGITS, recipe=ONE_STEP, seed=0, objective=Objective(weights=WEIGHTS), held_out=0.1, measured_on="held-out"
)
TEACHER = Alone(model=NETWORK, data=DIGITS, recipe=ONE_STEP, seed=7, held_out=0.1, measured_on="test")


def smoke_of(folder, **options) -> Study:
    return load_study("multi_distillation", "smoke", results_dir=str(folder), device="cpu", **options)


def study_of(**overrides) -> Study:
    """The smoke study to look at, without results."""
    return smoke_of("/nowhere", overrides=overrides)


def computed(spec, context):
    with one_thread("cpu"):
        return result_of(spec, context)


def taught_by(network):
    """What the store would answer: the teacher's weights."""
    return lambda run: SimpleNamespace(weights=weights_of(network))
