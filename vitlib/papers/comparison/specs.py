"""The comparison of all methods: which run fills which point of the grid."""

from __future__ import annotations

from vitlib.papers.comparison.left.measured import Exported, Measured
from vitlib.papers.comparison.models import MODELS
from vitlib.papers.comparison.settings import Settings
from vitlib.spec import RunSpec, require


def run_measured(settings: Settings, *, model: str, seed: int) -> Measured:
    """A row at a seed."""
    return Measured(model=_left(settings, model, seed))


def run_exported(settings: Settings, *, model: str, seed: int) -> Exported:
    """A row as an ONNX file."""
    return Exported(model=_left(settings, model, seed))


def _left(settings: Settings, model: str, seed: int) -> RunSpec:
    require("model", model, MODELS)
    return MODELS[model](settings, seed)
