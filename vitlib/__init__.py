"""Reproducible research on Vision Transformer compression: one document a notebook, one helper library."""

from vitlib.papers.entries import documents
from vitlib.runs.study import Results, Study, load_study
from vitlib.spec import RunSpec, SpecError

__all__ = ["Results", "RunSpec", "SpecError", "Study", "documents", "load_study"]
