"""DeiT: training data-efficient image transformers & distillation through attention (arXiv 2012.12877).

specs.py holds the runs, settings.py which of them fill the grid, compute.py how they are computed, tables.py and figures.py what is
shown, findings.py what that says in words, entry.toml the grid, the profiles and the claims, published.csv the document's numbers.
"""

from vitlib.papers import lazily
from vitlib.papers.deit.settings import *  # noqa: F403
from vitlib.papers.deit.specs import *  # noqa: F403

__getattr__, __dir__ = lazily.shown_by(__name__, "explore", "figures", "findings", "tables")
