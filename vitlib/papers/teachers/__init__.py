"""The teachers that the documents start from: pretrained here, measured, and shipped. Not a document of its own.

specs.py holds settings and grid, measure.py the runs that look at a frozen teacher, compute.py how, entry.toml the recipes;
how a teacher is pretrained is in vitlib/teachers.
"""

from vitlib.papers.teachers.figures import *  # noqa: F403
from vitlib.papers.teachers.specs import *  # noqa: F403
from vitlib.papers.teachers.tables import *  # noqa: F403
