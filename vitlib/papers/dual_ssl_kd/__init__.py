"""Distillation from two self-supervised teachers, contrastive (DINO) and masked-image (MAE).

specs.py holds settings and runs, compute.py, ends.py and joint.py how they are computed (ends.py: teachers in two parts; joint.py:
equation 4), tables.py and figures.py what is shown, entry.toml the grid, the profiles and the claims, published.csv the
document's numbers. The other equations are in vitlib/methods: distillation/losses.py (1 and 3) and attention.py (2, attention distance).
"""

from vitlib.papers import lazily
from vitlib.papers.dual_ssl_kd.specs import *  # noqa: F403

__getattr__, __dir__ = lazily.shown_by(__name__, "explore", "figures", "tables")
