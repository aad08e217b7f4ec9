"""Two teachers in files, the joint training of one step with them, and the smoke study: as described, and its results."""

import csv
from types import SimpleNamespace

import pytest
import torch
from safetensors.numpy import save_file
from timm.models.vision_transformer import VisionTransformer

from tests.papers.dual_ssl_kd.support import DIGITS, MICRO, ONE_STEP, PUBLISHED, STUDENT, drawn
from tests.support import context
from vitlib import load_study
from vitlib.inputs.models import build, weights_of
from vitlib.papers.dual_ssl_kd import compute
from vitlib.papers.dual_ssl_kd.joint import TwoTeachers
from vitlib.papers.dual_ssl_kd.specs import Joint
from vitlib.teachers.task import with_fresh_head
from vitlib.teachers.teacher import Checkpoint, Teacher


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    """A folder with the weights of two teachers of twelve blocks, all drawn at random, whose heads attend unevenly."""
    folder = tmp_path_factory.mktemp("dual")
    torch.manual_seed(0)
    for name in ("cl", "mim"):
        module = drawn(build(MICRO, image_size=8, channels=1, num_classes=0))
        save_file(weights_of(module), folder / f"{name}.safetensors")
    return folder


@pytest.fixture(scope="session")
def spec(files):
    """The document's joint training, of one step."""
    common = {"model": MICRO, "image_size": 8, "mean": (0.3,), "std": (0.4,)}
    cl, mim = (Teacher(origin=Checkpoint(file=f"{name}.safetensors", **common).pinned(files)) for name in ("cl", "mim"))
    return Joint(student=STUDENT, cl=cl, mim=mim, data=DIGITS, recipe=ONE_STEP, seed=0, lambda_1=0.5, lambda_2=0.0)


@pytest.fixture
def where(files):
    """Makes a context in the teachers' folder."""
    return lambda **fields: context(files, **fields)


@pytest.fixture
def model(spec, where):
    """The three networks as the joint training starts from them, but with a student whose heads attend unevenly."""
    cl, mim = (with_fresh_head(teacher, spec.data, spec.seed, where()) for teacher in (spec.cl, spec.mim))
    for teacher in (cl, mim):
        compute.adapt(teacher, "partial1")
    return TwoTeachers(drawn(compute.scratch(spec, where())), cl, mim)


@pytest.fixture
def watched(monkeypatch):
    """The weights before and after each training that a run does, and what it trained."""
    seen, train = [], compute.train

    def watch(model, batches, loss, recipe, **options):
        before = weights_of(model)
        trained = train(model, batches, loss, recipe, **options)
        seen.append(SimpleNamespace(model=model, before=before, after=weights_of(model), steps=batches.steps * recipe.epochs))
        return trained

    monkeypatch.setattr(compute, "train", watch)
    return seen


@pytest.fixture(scope="session")
def study():
    return load_study("dual_ssl_kd", "smoke")


@pytest.fixture(scope="session")
def results(finished):
    return finished("dual_ssl_kd").execute(mode="read-only")


@pytest.fixture(scope="session")
def printed():
    with PUBLISHED.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(params=[False, True], ids=["plain", "qk_norm"])
def network(request):
    sizes = {"img_size": 8, "patch_size": 4, "in_chans": 1, "num_classes": 5, "embed_dim": 12, "depth": 3, "num_heads": 3}
    return drawn(VisionTransformer(**sizes, qk_norm=request.param)).eval()


@pytest.fixture
def networks(spec, where):
    """Makes the three networks of a spec, with a student whose heads attend unevenly."""

    def make(**changes):
        made = compute.three_networks(spec.changed(**changes), where())
        drawn(made.student)
        return made

    return make
