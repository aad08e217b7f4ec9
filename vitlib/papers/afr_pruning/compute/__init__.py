"""How AFR's runs are computed: pruning with fine-tuning, and what the criteria have in common."""

from vitlib.papers.afr_pruning.compute import diagnosis, pruning  # noqa: F401
