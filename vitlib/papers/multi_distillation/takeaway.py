"""Multi-distillation: the best setting of a search, as a file for `python -m vitlib run multi_distillation --from FILE`."""

from __future__ import annotations

import json
from pathlib import Path

from vitlib import durable
from vitlib.grid.results import Results
from vitlib.papers.multi_distillation.search.proposals import best_weights
from vitlib.papers.multi_distillation.search.settings import searched
from vitlib.spec import SpecError


def save_best(results: Results, path: Path | str, search: str = "random") -> Path:
    """Write the setting with the highest held-out accuracy, read as its search read it, as settings that add the method `best`.

    Of the selections, one a trial seed, it takes the first.

    Raises:
        SpecError: for an unknown search, or one that is not stored whole.
    """
    if search not in ("random", "tpe"):
        raise SpecError(f"search: got {search!r}; allowed: random, tpe")
    trials = searched(results.study.settings, search, results.study.settings.seeds_of_trials[0])
    stored = [results.stored[trial.id] for trial in trials if trial.id in results.stored]
    if len(stored) < len(trials):
        raise SpecError(f"search: {len(stored)} of the {len(trials)} trials of {search!r} are stored; execute the study first")
    settings, profile, weights = results.study.settings, results.study.profile, best_weights(stored)
    data, reading = settings.data, settings.reading.model_dump(exclude_defaults=True)
    lines = [
        f"# Best of {len(trials)} trials ({search}) by held-out accuracy, the first of {len(settings.seeds)} selections; "
        f"{data.source}, {data.image_size} px, profile {profile}.",
        f"# python -m vitlib run multi_distillation --profile {profile} --from THIS_FILE",
        *(f"methods.best.objective.{name} = {json.dumps(value)}" for name, value in reading.items()),
        "[methods.best.objective.weights]",
        *(f"{letter} = {value}" for letter, value in weights.model_dump().items()),
    ]
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with durable.whole(path) as file:
        file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path
