"""Tables of an own model: what was given, and what each model is worth and costs."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pandas as pd

from vitlib.compress.back.distances import Distances
from vitlib.compress.own.study import OwnModel, OwnResults
from vitlib.inputs.foreign.architecture import architecture
from vitlib.inputs.sources import class_names, listing, load
from vitlib.papers.comparison.left.forms import form_of
from vitlib.report.tables import DASH

MOST = 20  # classes that have a row of their own
TIMES = ["latency ms", "latency p90 ms"]


def table_photos(study: OwnModel) -> pd.DataFrame:
    """Photos by class and split."""
    names = class_names(study.data, study.place.data_dir)
    counts = {split: _counts(study, split) for split in ("train", "test")}
    rows = [{"class": name, "training photos": counts["train"][i], "test photos": counts["test"][i]} for i, name in enumerate(names)]
    shown = rows if len(rows) <= MOST else [*rows[: MOST - 1], _sum(f"{len(rows) - MOST + 1} other classes", rows[MOST - 1 :])]
    return pd.DataFrame([*shown, _sum("all", rows)])


def table_given(study: OwnModel) -> pd.DataFrame:
    """The networks, as they go in."""
    return pd.DataFrame([_facts(name, study) for name in study.rows if name not in study.candidates])


def table_models(results: OwnResults) -> pd.DataFrame:
    """Before and after: top-1 in percent with Wilson's 95 % interval over the test photos, and sizes; packed files leave zeros out."""
    return results.models.drop(columns=TIMES)


def table_times(results: OwnResults) -> pd.DataFrame:
    """Latency of one image on this machine, in milliseconds: median and 90th percentile."""
    return results.models[["model", "MACs", *TIMES]]


def table_distances(results: OwnResults) -> pd.DataFrame:
    """Attention distance in pixels by block, mean over heads and test photos, a column a model."""
    stored = distances(results)
    columns = {name: pd.Series(distance.mean(axis=(0, 2))) for name, distance in stored.arrays.items()}
    table = pd.DataFrame(columns).reindex(columns=list(results.study.distances))
    return table.assign(block=[block + 1 for block in table.index])[["block", *table.columns]]


def distances(results: OwnResults) -> Distances:
    """Of the models whose distances are stored."""
    known = {name: run for name, run in results.study.distances.items() if run.id in results.stored}
    return Distances(known, results.stored, "")


def _counts(study: OwnModel, split: str) -> Counter:
    data, folder = study.data, study.place.data_dir
    _, labels = listing(data, split, folder) if data.source.startswith("folder/") else load(data, split, folder)
    return Counter(np.asarray(labels).tolist())


def _sum(name: str, rows: list[dict]) -> dict[str, str | int]:
    return {"class": name} | {column: sum(row[column] for row in rows) for column in ("training photos", "test photos")}


def _facts(name: str, study: OwnModel) -> dict[str, str | int]:
    form = form_of(study.rows[name])
    found = architecture(form.model, form.data.image_size, form.data.channels)
    mean, std = form.data.normalisation
    return {
        "model": name,
        "timm's name": form.name,
        "differs from it by": ", ".join(f"{field}={value}" for field, value in form.options.items()) or "nothing",
        "blocks": found.depth or DASH,
        "heads": found.heads or DASH,
        "tokens": found.tokens or DASH,
        "mean": ", ".join(f"{value:.3f}" for value in mean),
        "std": ", ".join(f"{value:.3f}" for value in std),
    }
