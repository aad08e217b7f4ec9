"""Reproducible research on Vision Transformer compression: one document a notebook, one helper library."""

from typing import TYPE_CHECKING, Any

from vitlib.grid.entries import documents
from vitlib.grid.results import Results
from vitlib.spec import RunSpec, SpecError
from vitlib.studies.loading import load_study
from vitlib.studies.study import Study

if TYPE_CHECKING:
    from vitlib.compress.doors import attention_distance, distill, prune, weight_copy

__all__ = [
    "Results", "RunSpec", "SpecError", "Study", "attention_distance", "distill", "documents", "load_study", "prune", "weight_copy",
]  # fmt: skip
__version__ = "0.2.0"
DOORS = {"attention_distance", "distill", "prune", "weight_copy"}  # of vitlib.compress, which loads every document


def __getattr__(name: str) -> Any:
    if name not in DOORS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from vitlib.compress import doors

    return getattr(doors, name)
