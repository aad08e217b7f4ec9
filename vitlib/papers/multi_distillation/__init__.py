"""Multi-distillation: searching the nine weights of a model that combines three kinds of distillation.

space.py holds the weights and their ranges, specs.py the runs, settings.py which run fills which point, objective.py the total loss,
curriculum.py experiment 2, compute.py how networks are trained, search.py how weights are chosen, tables.py and figures.py what is
shown, surrogate.py what explore.py predicts with, takeaway.py the best setting as a file, entry.toml the grid, the profiles and the
claims, published.csv the document's Table 1. The losses themselves are in vitlib/methods: relations.py (rkd) and
self_distillation.py (skd), over the networks of exits.py.
"""

from vitlib.papers.multi_distillation.explore import *  # noqa: F403
from vitlib.papers.multi_distillation.figures import *  # noqa: F403
from vitlib.papers.multi_distillation.settings import *  # noqa: F403
from vitlib.papers.multi_distillation.specs import *  # noqa: F403
from vitlib.papers.multi_distillation.tables import *  # noqa: F403
from vitlib.papers.multi_distillation.takeaway import *  # noqa: F403
