"""What a notebook's parameters mean: the model, the photos, and a call of the front door for each step of compression."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from vitlib import paths
from vitlib.compress import doors
from vitlib.compress.back.result import Compressed
from vitlib.compress.call import INPUTS
from vitlib.compress.given import example
from vitlib.compress.given.photos import NAMED
from vitlib.compress.own.study import NAME, OwnModel
from vitlib.compress.students import METHODS as STUDENTS
from vitlib.grid.changes import read_overrides
from vitlib.grid.entries import merged
from vitlib.messages import brief
from vitlib.runs.store import require_writable
from vitlib.spec import SpecError, require
from vitlib.studies.loading import folder_of
from vitlib.studies.pages.page import changed
from vitlib.teachers.teacher import SUFFIXES

METHODS = ("afr", "wecolora", *STUDENTS)
REHEARSAL = {"afr": {"epochs": 2}, "wecolora": {"epochs": 2, "schedule": "plain", "finetune": {"epochs": 2}}, "multi": {"epochs": 2}}
OWN_STUDENT = {"epochs": 2, "finetune": {"epochs": 1}}
DEFAULTS: dict[str, Any] = {
    "model": "", "data": "", "method": "afr", "sparsities": [0.5, 0.8, 0.9], "reductions": [2, 3], "teachers": [], "tolerance": 5.0,
}  # fmt: skip


def load(
    profile: str = "quick",
    *,
    model: str = "",
    data: str = "",
    method: str = "afr",
    sparsities: Sequence[float] = (0.5, 0.8, 0.9),
    reductions: Sequence[int] = (2, 3),
    teachers: Sequence[str] = (),
    tolerance: float = 5.0,
    overrides: dict[str, Any] | str | None = None,
    results_dir: str = "",
    figures_dir: str = "",
    data_dir: str = "",
) -> OwnModel:
    """Your model and your photos, compressed in steps; nothing is computed before `execute`.

    Args:
        profile: 'smoke' trains for two epochs, to see that all runs; 'quick' as long as the photos ask for.
        model: a timm name or a checkpoint file; of a distillation, the student. Empty: a small transformer that comes with vitlib.
        data: a folder of photos, or a set by its name. Empty: a folder of handwritten digits, written below the results.
        method: afr (prunes weights), wecolora (drops blocks), or a kind of distillation: deit, one-teacher, two-teachers, multi.
        sparsities, reductions: the steps of afr and of wecolora.
        teachers: of a distillation.
        tolerance: points of top-1 that a model may lose and still be taken away.
        overrides: keywords of `vitlib.prune`, `weight_copy` or `distill`: epochs, lr, architecture, image_size, ...

    Raises:
        SpecError: one line that names what is refused and what is allowed.
        StoreError: for a place that cannot be written.
    """
    require("profile", profile, list(example.SIZES))
    require("method", method, METHODS)
    given = {"model": model, "data": data, "method": method, "sparsities": list(sparsities), "reductions": list(reductions)}
    given |= {"teachers": [teachers] if isinstance(teachers, str) else list(teachers), "tolerance": tolerance}
    _require_tolerance(tolerance)
    changes = changed(DEFAULTS, given | {"overrides": overrides})
    results = folder_of("results_dir", results_dir)
    require_writable("results_dir", results, "choose a folder you may write to: links to the photos lie in it")
    photos = _photos(data) if data else str(example.photos(results / INPUTS, example.SIZES[profile]))
    network = _network(model) if model else _example_model(method)
    given["teachers"] = [_network(teacher) for teacher in given["teachers"]]
    keywords = _recipe(profile, method, is_example=not model and not data) | read_overrides(overrides)
    keywords |= {"read_only": True, "results_dir": str(results), "data_dir": str(folder_of("data_dir", data_dir))}
    steps = {step: call(network, photos, keywords) for step, call in _calls(method, given).items()}
    return OwnModel(
        NAME, profile, next(iter(steps.values())).place, folder_of("figures_dir", figures_dir), changes,
        importlib.import_module("vitlib.compress.own"), "Your model", _about(method, model, data),
        frozenset({"method", "model", "data"}),
        method=method, tolerance=float(tolerance), steps=steps, is_example=not changes,
    )  # fmt: skip


def _calls(method: str, given: dict[str, Any]) -> dict[str, Callable[[str, str, dict[str, Any]], Compressed]]:
    """A call of the front door by the step that it makes."""
    if method == "afr":
        return {f"{value}": _pruned(value) for value in _steps("sparsities", given)}
    if method == "wecolora":
        return {f"{value}": _halved(value) for value in _steps("reductions", given)}
    return {method: lambda model, photos, keywords: doors.distill(model, photos, given["teachers"], method, **keywords)}


def _pruned(sparsity: float) -> Callable[[str, str, dict[str, Any]], Compressed]:
    return lambda model, photos, keywords: doors.prune(model, photos, sparsity=sparsity, **keywords)


def _halved(reduction: int) -> Callable[[str, str, dict[str, Any]], Compressed]:
    return lambda model, photos, keywords: doors.weight_copy(model, photos, reduction=reduction, **keywords)


def _steps(name: str, given: dict[str, Any]) -> list[Any]:
    if not given[name]:
        raise SpecError(f"{name}: got none; allowed: a list such as {DEFAULTS[name]}")
    return list(dict.fromkeys(given[name]))


def _photos(data: str) -> str:
    """A relative place starts at the checkout, whatever folder the notebook was started from; the name of a set is none."""
    return data if data == "digits" or data.startswith(NAMED) else str(paths.root() / Path(data).expanduser())


def _network(model: str) -> str:
    """The same of a file of weights."""
    place = paths.root() / Path(model).expanduser()
    return str(place) if model.endswith(SUFFIXES) or place.is_file() else model


def _example_model(method: str) -> str:
    if method in STUDENTS:
        raise SpecError(
            f"model: got none with method={method!r}, which trains a small model that timm knows by name; "
            "allowed: such as 'deit_tiny_distilled_patch16_224', with teachers"
        )
    return example.MODEL


def _recipe(profile: str, method: str, *, is_example: bool) -> dict[str, Any]:
    """The example's own, and the epochs of a rehearsal; otherwise what follows from the photos."""
    tuning = example.RECIPE | {"epochs": example.SIZES[profile].epochs}
    of_example = {"image_size": example.IMAGE_SIZE} | ({"finetune": tuning} if method == "wecolora" else tuning)
    rehearsed = REHEARSAL.get(method, OWN_STUDENT) if profile == "smoke" else {}
    return merged(of_example if is_example else {}, rehearsed)


def _about(method: str, model: str, data: str) -> str:
    named = Path(model).name if model else "shipped ViT of 12 blocks"
    return f"{method}, {named} · photos: {Path(data).name if data else 'handwritten digits'} · one training of each model"


def _require_tolerance(tolerance: Any) -> None:
    if isinstance(tolerance, bool) or not isinstance(tolerance, int | float) or not 0 <= tolerance <= 100:
        raise SpecError(f"tolerance: got {brief(tolerance)}; allowed: points of top-1 from 0 to 100")
