"""A run of every kind of `tiny`, cut down, computes on a GPU. Skipped without a CUDA device."""

import math

import pytest
import torch

from tests import cut_down
from vitlib import load_study
from vitlib.computing import Context, result_of
from vitlib.grid.entries import studies

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]


@pytest.mark.filterwarnings("default")  # what a library says of a GPU is no failure
@pytest.mark.parametrize("document", studies())
def test_every_kind_of_run_of_tiny_computes_on_a_gpu(document, tmp_path):
    images, done = cut_down.folders(tmp_path / "images"), {}
    places = {"results_dir": str(tmp_path / "results"), "data_dir": str(images)}
    study = load_study(document, "tiny", overrides=cut_down.overrides(document, images), **places)
    for spec in cut_down.one_of_each_class(study):
        done[spec.id] = result_of(spec, Context("cuda", images, None, parent=lambda parent: done[parent.id]))
        losses = done[spec.id].history["loss"] if done[spec.id].history is not None and "loss" in done[spec.id].history else []
        assert all(map(math.isfinite, losses)), spec
