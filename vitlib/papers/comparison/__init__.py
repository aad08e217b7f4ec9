"""All methods on equal footing: every kind of compressed model of the suite beside its dense original. Not a document of its own.

settings.py has the settings, models.py the models, specs.py which of them fill the grid, left/ the model that a run leaves behind and
what is measured of it; tables.py, figures.py, findings.py and explore.py have what is shown.
"""

from vitlib.papers.comparison.explore import *  # noqa: F403
from vitlib.papers.comparison.figures import *  # noqa: F403
from vitlib.papers.comparison.findings import *  # noqa: F403
from vitlib.papers.comparison.settings import *  # noqa: F403
from vitlib.papers.comparison.specs import *  # noqa: F403
from vitlib.papers.comparison.tables import *  # noqa: F403
