"""Multi-distillation: searching the nine weights of a model that combines three kinds of distillation.

specs.py holds the runs, compute.py which function computes which, tables.py and figures.py what is shown, findings.py what it says,
takeaway.py the best setting as a file, entry.toml the grid, the profiles and the claims, published.csv the document's Table 1. In
search/: space.py the weights and their ranges, settings.py which run fills which point, proposals.py how weights are chosen,
importance.py which of them matter, surrogate.py what explore.py predicts with. In training/: reading.py the total loss as fields,
objective.py its terms, curriculum.py experiment 2, networks.py how networks are trained, cost.py what that costs. The losses
themselves are in vitlib/methods/distillation: relations.py (rkd) and self_distillation.py (skd), over the networks of exits.py.
"""

from vitlib.papers import lazily
from vitlib.papers.multi_distillation.search.settings import *  # noqa: F403
from vitlib.papers.multi_distillation.specs import *  # noqa: F403

__getattr__, __dir__ = lazily.shown_by(__name__, "explore", "figures", "findings", "tables", "takeaway")
