"""Paper name: label smoothing, after C. Szegedy et al. (arXiv 1512.00567).

specs.py holds settings and runs, compute.py how they are computed, tables.py and figures.py what is shown, entry.toml the grid, the
profiles and the claims, published.csv the document's numbers.
"""

from vitlib.papers import lazily
from vitlib.papers.paper_name.specs import *  # noqa: F403

__getattr__, __dir__ = lazily.shown_by(__name__, "figures", "tables")
