"""Teachers out of the store and into the package, and the check that what was shipped still measures what the manifest says.

`ship` is for whoever trains them; `verify` is for anyone who has the images.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from vitlib.grid.cells import Cell
from vitlib.inputs.models import Vit
from vitlib.inputs.sources import Data
from vitlib.papers.teachers.measure import AttentionDistances, AttentionUnevenness, Quality
from vitlib.runs.execute import execute
from vitlib.runs.plan import Executor, Mode, Place
from vitlib.runs.reading.stored import Stored
from vitlib.runs.store import Store
from vitlib.spec import RunSpec, SpecError
from vitlib.studies.study import Study
from vitlib.teachers import shipped
from vitlib.teachers.pretrain import Pretrained, SupervisedTeacher
from vitlib.teachers.teacher import Shipped, Teacher

DRAWS = 8  # untrained networks that a teacher's attention is told apart from
LOOKED_AT = 500  # test images


def ship(study: Study, executor: Executor = "local") -> pd.DataFrame:
    """Write the stored teachers of a study, one of each method, in half precision; measure them; enter both in the manifest.

    Raises:
        SpecError: if a teacher of the grid is not stored with its weights, or a method has several models or seeds.
    """
    cells = [cell for cell in study.cells if cell.table == "pretraining"]
    names = [cell.point["method"] for cell in cells]
    if len(set(names)) < len(names):
        raise SpecError(f"ship: profile {study.profile!r} has several teachers of one method; allowed: one model and one seed of each")
    stored = {cell.point["method"]: _stored(study.place, cell.spec) for cell in cells}
    for cell in cells:
        name = cell.point["method"]
        shipped.write(name, stored[name].weights, _facts(cell, stored[name]))
    trained, untrained = (_measured(names, study.place, executor, untrained=control) for control in (False, True))
    for name in names:
        shipped.amend(name, {"measured": trained[name], "untrained": untrained[name]})
    look(names, study.place, executor)
    return _comparison(trained)


def look(names: list[str], place: Place, executor: Executor = "local") -> None:
    """Enter in the manifest whether the attention of shipped transformers can be told apart from that of the same network untrained.

    Mean over test images, heads and the last third of the blocks: the attention distance in pixels, and `attention_unevenness`; beside
    them the mean of `DRAWS` networks as they are drawn, and the 95 % interval in which one more of these would lie. A teacher's attention
    is told apart if it lies outside.
    """
    for name in names:
        teacher = Teacher(origin=Shipped(shipped=name))
        if isinstance(teacher.model, Vit):
            shipped.amend(name, {"attention": _attention(teacher, _data(name, place), place, executor)})


def told_apart(trained: float, untrained: np.ndarray) -> dict[str, float | bool]:
    """A trained network's value beside those of untrained ones, with the 95 % prediction interval of one more of them."""
    count, mean = len(untrained), float(untrained.mean())
    half = float(stdtrit(count - 1, 0.975) * untrained.std(ddof=1) * np.sqrt(1 + 1 / count))
    found = {"trained": trained, "untrained": mean, "low": mean - half, "high": mean + half}
    return {name: round(value, 4) for name, value in found.items()} | {"told apart": abs(trained - mean) > half}


def _attention(teacher: Teacher, data: Data, place: Place, executor: Executor) -> dict[str, Any]:
    networks = [teacher, *(teacher.untrained(seed) for seed in range(DRAWS))]
    found: dict[str, Any] = {"images": LOOKED_AT, "untrained networks": DRAWS}
    for name, kind in (("distance", AttentionDistances), ("unevenness", AttentionUnevenness)):
        specs = [kind(teacher=network, data=data, images=LOOKED_AT) for network in networks]
        stored = execute(specs, place, executor=executor)
        values = np.array([_deep(stored[spec.id].arrays[name]) for spec in specs])
        found[name] = told_apart(float(values[0]), values[1:])
    return found


def _deep(values: np.ndarray) -> float:
    """Mean of (images, blocks, heads) over the last third of the blocks."""
    return float(values[:, -values.shape[1] // 3 :].mean(dtype=np.float64))


def verify(place: Place, executor: Executor = "local") -> pd.DataFrame:
    """The manifest's figures beside those measured now, one row each."""
    return _comparison(_measured(list(shipped.manifest()), place, executor, mode="force"))


def _comparison(found: dict[str, dict[str, float]]) -> pd.DataFrame:
    stated = {name: shipped.entry(name)["measured"] for name in found}
    rows = [
        {"teacher": name, "figure": key, "manifest": value, "measured": found[name][key]}
        for name, figures in stated.items()
        for key, value in figures.items()
    ]
    return pd.DataFrame(rows).assign(difference=lambda frame: frame["measured"] - frame["manifest"])


def _measured(
    names: list[str], place: Place, executor: Executor, *, untrained: bool = False, mode: Mode = "cached"
) -> dict[str, dict[str, float]]:
    """Quality of shipped teachers, or of the same networks untrained, on the data that they were trained on."""
    specs = {name: _quality(name, untrained, place) for name in names}
    stored = execute(specs.values(), place, executor=executor, mode=mode)
    return {name: stored[spec.id].metrics for name, spec in specs.items()}


def _quality(name: str, untrained: bool, place: Place) -> Quality:
    teacher = Teacher(origin=Shipped(shipped=name))
    return Quality(teacher=teacher.untrained() if untrained else teacher, data=_data(name, place))


def _data(name: str, place: Place) -> Data:
    """The files as they are read here: the manifest's fingerprint is that of how they were read when the teacher was trained."""
    return Data.parse(shipped.entry(name)["data"]).pinned(place.data_dir)


def _stored(place: Place, spec: RunSpec) -> Stored:
    store = Store(place.results_dir, writable=False)
    if spec.id not in store or (stored := store.read(spec.id)).weights is None:
        raise SpecError(f"ship: {spec.id} is not stored with its weights in {place.results_dir}; run the study first")
    return stored


def _facts(cell: Cell, stored: Stored) -> dict:
    spec: Pretrained = cell.spec
    method = {"recipe": spec.recipe} if isinstance(spec, SupervisedTeacher) else {"method": spec.method}
    return {
        "run": spec.id,
        "version": spec.version,
        "model": spec.model.model_dump(mode="json"),
        "input": spec.data.model_dump(mode="json", include={"image_size", "mean", "std"}),
        "data": spec.data.model_dump(mode="json"),
        "seed": spec.seed,
        **{name: part.model_dump(mode="json") for name, part in method.items()},
        **{name: stored.provenance[name] for name in ("commit", "device", "finished", "versions")},
        "training_seconds": round(stored.provenance["measured"]["training_seconds"]),
    }
