"""Teachers that a setting gives by the run that pretrains them, or by the name of a timm model."""

from __future__ import annotations

from typing import Any

from vitlib.grid.cells import cells
from vitlib.grid.entries import merged, read_entry
from vitlib.messages import brief, nearest
from vitlib.papers import teachers
from vitlib.spec import SpecError
from vitlib.teachers.teacher import named


def with_teachers(fields: Any) -> Any:
    """Origins `{run = {profile, method, model, seed}}` replaced by that pretraining run of the study `teachers`, named models by timm's."""
    if not isinstance(fields, dict):
        return fields
    origin = fields.get("origin")
    if isinstance(origin, dict) and isinstance(origin.get("run"), dict):
        if len(origin) > 1:
            others = ", ".join(sorted(set(origin) - {"run"}))
            raise SpecError(f"teacher.origin: got {brief(others)} beside run; allowed: run alone, or an origin of another kind")
        return fields | {"origin": _pretraining(origin["run"])}
    if isinstance(origin, dict) and "model" in origin:
        return fields | {"origin": named(origin)}
    return {key: with_teachers(value) for key, value in fields.items()}


def _pretraining(wanted: dict[str, Any]) -> dict[str, Any]:
    entry = read_entry("teachers")
    profile, known = wanted.get("profile", ""), list(entry["profile"])
    if profile not in known:
        raise SpecError(f"teacher.origin.run.profile: got {brief(profile)}{nearest(str(profile), known)}")
    settings = teachers.Settings.parse(merged(entry["base"], entry["profile"][profile]))
    runs = [cell for cell in cells(entry, teachers, settings) if cell.table == "pretraining"]
    found = [cell.spec for cell in runs if {"profile": profile, **cell.point} == wanted]
    if not found:
        raise SpecError(f"teacher.origin.run: got {brief(wanted)}; allowed with that profile: {'; '.join(str(c.point) for c in runs)}")
    return found[0].model_dump(mode="json")
