"""What each class of runs of the documents does, a module a document: which chains it trains, and what it looks at."""

from vitlib.studies.costs.kinds import afr_pruning, comparison, deit, dual_ssl_kd, multi_distillation, teachers, wecolora  # noqa: F401
