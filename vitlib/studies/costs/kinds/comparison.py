"""What the runs do that measure models which others leave behind."""

from __future__ import annotations

from collections.abc import Iterator

from vitlib.deploy.session import BATCH
from vitlib.deploy.speed import BATCHES, REPEATS, WARM_UP
from vitlib.papers.comparison.left.forms import form_of
from vitlib.papers.comparison.left.measured import Exported, Latency, Measured, Written
from vitlib.spec import RunSpec
from vitlib.training.work.declared import Work, looking, network_on, timing
from vitlib.training.work.layers import Chain
from vitlib.training.work.registry import Sets, does

COUNTED = 1  # the image that multiply-accumulates are counted on
LATENCIES = 45  # passes of one image with those to warm up
EAGER = REPEATS + WARM_UP + (BATCHES + 1) * BATCH  # images that PyTorch sees while it is timed beside ONNX Runtime


@does(Measured)
def measured(spec: Measured, sets: Sets) -> Iterator[Work]:
    chain = _left(spec.model, sets)
    yield looking(spec.model.data, "test", chain)
    yield timing(COUNTED, chain)


@does(Latency)
def latency(spec: Latency, sets: Sets) -> Iterator[Work]:
    yield timing(LATENCIES, _left(spec.model, sets))


@does(Written)
def written(spec: Written, sets: Sets) -> Iterator[Work]:
    yield looking(spec.model.data, "test", _left(spec.model, sets), most=spec.images)


@does(Exported)
def exported(spec: Exported, sets: Sets) -> Iterator[Work]:
    yield timing(EAGER, _left(spec.model, sets))


def _left(run: RunSpec, sets: Sets) -> Chain:
    """The layers of the model as it is left."""
    form = form_of(run)
    network = network_on(form.model, run.data, sets.classes(run.data))
    blocks = network.blocks if form.depth is None else network.blocks[: form.depth]
    return network.front + sum(blocks, ()) + network.end
