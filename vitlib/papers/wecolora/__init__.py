"""WeCoLoRA with SVD-initialised LoRA and staged distillation (after arXiv 2404.09326).

specs.py holds settings and runs, compute/ how they are computed, tables.py, shares.py and figures.py what is shown,
takeaway.py the answer and what leaves, entry.toml the grid, the profiles and the claims, published.csv the document's numbers. The
equations are in vitlib/methods/adapters: lora.py (2 and 3) and weight_copy.py (1).
"""

from vitlib.papers import lazily
from vitlib.papers.wecolora.specs import *  # noqa: F403

__getattr__, __dir__ = lazily.shown_by(__name__, "explore", "figures", "shares", "tables", "takeaway")
