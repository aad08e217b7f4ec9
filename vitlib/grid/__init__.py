"""A document's grid of runs: from its entry and what overrides change of it to the results that fill it."""
