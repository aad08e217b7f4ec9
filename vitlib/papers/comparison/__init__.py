"""All methods on equal footing: every kind of compressed model of the suite beside its dense original. Not a document of its own.

settings.py has the settings, models.py the models, specs.py which of them fill the grid, left/ the model that a run leaves behind and
what is measured of it; tables.py, figures.py, findings.py and explore.py have what is shown.
"""

from vitlib.papers import lazily
from vitlib.papers.comparison.settings import *  # noqa: F403
from vitlib.papers.comparison.specs import *  # noqa: F403

__getattr__, __dir__ = lazily.shown_by(__name__, "explore", "figures", "findings", "tables")
