"""Teachers out of the store and into the package, and the check that what was shipped still measures what the manifest says.

`ship` is for whoever trains them; `verify` is for anyone who has the images.
"""

from __future__ import annotations

import pandas as pd

from vitlib.grid.cells import Cell
from vitlib.inputs.sources import Data
from vitlib.papers.teachers.measure import Quality
from vitlib.runs.execute import execute
from vitlib.runs.plan import Executor, Mode, Place
from vitlib.runs.store import Store, Stored
from vitlib.spec import RunSpec, SpecError
from vitlib.studies.study import Study
from vitlib.teachers import shipped
from vitlib.teachers.pretrain import Pretrained, SupervisedTeacher
from vitlib.teachers.teacher import Shipped, Teacher


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
    return _comparison(trained)


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
    """On the files as they are read here: the manifest's fingerprint is that of how they were read when the teacher was trained."""
    teacher = Teacher(origin=Shipped(shipped=name))
    data = Data.parse(shipped.entry(name)["data"]).pinned(place.data_dir)
    return Quality(teacher=teacher.untrained() if untrained else teacher, data=data)


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
