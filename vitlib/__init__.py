"""Reproducible research on Vision Transformer compression: one document a notebook, one helper library."""

from vitlib.grid.entries import documents
from vitlib.grid.results import Results
from vitlib.spec import RunSpec, SpecError
from vitlib.studies.loading import load_study
from vitlib.studies.study import Study

__all__ = ["Results", "RunSpec", "SpecError", "Study", "documents", "load_study"]
