"""Teachers out of the store and into the package, and the check that what was shipped still measures what the manifest says.

`ship` is for whoever trains them; `verify` is for anyone who has the images.
"""

from __future__ import annotations

import pandas as pd

from vitlib.inputs.sources import Data
from vitlib.papers.teachers.measure import Quality
from vitlib.runs.execute import Place, execute
from vitlib.runs.store import Store, Stored
from vitlib.runs.study import Cell, Study
from vitlib.spec import RunSpec, SpecError
from vitlib.teachers import shipped
from vitlib.teachers.pretrain import Pretrained, SupervisedTeacher
from vitlib.teachers.teacher import Shipped, Teacher


def ship(study: Study) -> pd.DataFrame:
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
    for name in names:
        shipped.amend(name, {"measured": _measured(name, study.place), "untrained": _measured(name, study.place, pretrained=False)})
    return comparison(study.place, names, mode="cached")


def verify(place: Place) -> pd.DataFrame:
    """The manifest's figures beside those measured now, one row each."""
    return comparison(place, list(shipped.manifest()), mode="force")


def comparison(place: Place, names: list[str], mode: str) -> pd.DataFrame:
    rows = []
    for name in names:
        found = _measured(name, place, mode=mode)
        stated = shipped.entry(name)["measured"]
        rows += [{"teacher": name, "figure": key, "manifest": stated[key], "measured": found[key]} for key in stated]
    return pd.DataFrame(rows).assign(difference=lambda frame: frame["measured"] - frame["manifest"])


def _measured(name: str, place: Place, *, pretrained: bool = True, mode: str = "cached") -> dict[str, float]:
    data = Data.parse(shipped.entry(name)["data"])
    spec = Quality(teacher=Teacher(origin=Shipped(shipped=name)), data=data, pretrained=pretrained)
    return execute([spec], place, mode=mode)[spec.id].metrics


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
        "model": spec.model.model_dump(mode="json"),
        "input": spec.data.model_dump(mode="json", include={"image_size", "mean", "std"}),
        "data": spec.data.model_dump(mode="json"),
        "seed": spec.seed,
        **{name: part.model_dump(mode="json") for name, part in method.items()},
        **{name: stored.provenance[name] for name in ("commit", "device", "finished", "versions")},
        "training_seconds": round(stored.provenance["measured"]["training_seconds"]),
    }
