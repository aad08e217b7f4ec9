"""SNIP, ReFer and AFR pruning of pretrained transformers.

specs.py holds settings and runs, compute/ how they are computed, tables.py and figures.py what is shown,
takeaway.py what leaves the store, entry.toml the grid, the profiles and the claims, published.csv the document's numbers. The
equations are in vitlib/methods/pruning: saliency.py (1-4) and masks.py.
"""

from vitlib.papers import lazily
from vitlib.papers.afr_pruning.specs import *  # noqa: F403

__getattr__, __dir__ = lazily.shown_by(__name__, "explore", "figures", "tables", "takeaway")
