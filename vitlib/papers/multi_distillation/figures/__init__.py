"""Multi-distillation's figures, from results alone; the document prints none of results.

model.py draws the networks and what their loss is made of, search.py experiment 1, weights.py which weights matter, methods.py how the
methods end.
"""

from vitlib.papers.multi_distillation.figures.methods import *  # noqa: F403
from vitlib.papers.multi_distillation.figures.model import *  # noqa: F403
from vitlib.papers.multi_distillation.figures.search import *  # noqa: F403
from vitlib.papers.multi_distillation.figures.weights import *  # noqa: F403
