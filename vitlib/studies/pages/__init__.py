"""Notebooks that show no document's study: what the batch command asks of them, and where their tables and figures go."""
