"""Your model as a notebook shows it (notebooks/your_model.ipynb): `load`, and what is drawn, told and saved of its results."""

from vitlib.compress.own.away import take_away
from vitlib.compress.own.loading import load
from vitlib.compress.own.show.explore import explore_steps
from vitlib.compress.own.show.figures import figure_distances, figure_sizes, figure_times, show_photos
from vitlib.compress.own.show.tables import table_distances, table_given, table_models, table_photos, table_times
from vitlib.compress.own.show.words import finding_answer, recipe

__all__ = [
    "explore_steps", "figure_distances", "figure_sizes", "figure_times", "finding_answer", "load", "recipe", "show_photos",
    "table_distances", "table_given", "table_models", "table_photos", "table_times", "take_away",
]  # fmt: skip
