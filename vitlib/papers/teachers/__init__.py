"""The teachers that the documents start from: pretrained here, measured, and shipped. Not a document of its own.

specs.py holds settings and grid, measure.py the runs that look at a frozen teacher, compute.py how, entry.toml the recipes;
how a teacher is pretrained is in vitlib/teachers.
"""

from vitlib.papers import lazily
from vitlib.papers.teachers.specs import *  # noqa: F403

__getattr__, __dir__ = lazily.shown_by(__name__, "figures", "tables")
