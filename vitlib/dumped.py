"""Runs as JSON: written, built anew, and compared with the run that they should be."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from vitlib.messages import brief
from vitlib.spec import Part, RunSpec, SpecError, refusing, remembered


def dump(spec: RunSpec) -> dict[str, Any]:
    """Every field, defaults too, with the class of each run, so that `rebuild` can read it back."""
    return {
        "type": f"{type(spec).__module__}:{type(spec).__name__}",
        "version": spec.version,
        "fields": {name: _dump(getattr(spec, name)) for name in type(spec).model_fields},
    }


def rebuild(dumped: dict[str, Any]) -> RunSpec:
    """Inverse of `dump`; a field that came later has its default. Nothing outside vitlib is imported for it.

    Raises:
        SpecError: for a class that is not known here, or fields that it does not take.
    """
    cls = _class_of(dumped["type"])
    with refusing(cls):
        return cls.model_validate(_rebuilt(dumped["fields"]), strict=False)


def identity(dumped: dict[str, Any]) -> str:
    """The identity of a dumped run, computed from its fields, whatever it says of itself.

    Raises:
        SpecError: for what is no dumped run, or one that this version of the code does not compute.
    """
    if not is_dumped(dumped):
        raise SpecError(f"spec: got {brief(dumped)}; allowed: type, version and fields of a run")
    try:
        run = rebuild(dumped)
    except (RecursionError, TypeError, AttributeError, KeyError) as error:
        raise SpecError(f"spec: not to be read as a {brief(dumped['type'])} ({type(error).__name__})") from None
    if dumped["version"] != run.version:
        raise SpecError(f"version: got {brief(dumped['version'])} of {type(run).__name__}; allowed: {run.version}, which is computed here")
    return run.id


def is_dumped(value: Any) -> bool:
    """Whether a value has the outer shape that `dump` gives a run."""
    return isinstance(value, dict) and isinstance(value.get("type"), str) and isinstance(value.get("fields"), dict) and "version" in value


def agrees(dumped: Any, asked: Any) -> bool:
    """Whether a run as it was dumped, at whatever time, is the one asked for: fields that came since have their defaults.

    Fields that are gone since are passed over, as no identity holds them. What was dumped by today's code is compared as a whole, sooner.
    """
    if isinstance(asked, RunSpec) and isinstance(dumped, dict) and dump(asked).items() <= dumped.items():
        return True
    if isinstance(asked, RunSpec):
        same = is_dumped(dumped) and dumped["type"].rpartition(":")[2] == type(asked).__name__ and dumped["version"] == asked.version
        return same and _fields_agree(dumped["fields"], asked)
    if isinstance(asked, Part):
        return isinstance(dumped, dict) and _fields_agree(dumped, asked)
    if isinstance(asked, dict):
        return isinstance(dumped, dict) and dumped.keys() == asked.keys() and all(agrees(dumped[key], asked[key]) for key in asked)
    if isinstance(asked, tuple | list):
        return isinstance(dumped, list) and len(dumped) == len(asked) and all(map(agrees, dumped, asked))
    return dumped == asked


@remembered
def _dump_once(part: Part) -> dict[str, Any]:
    """Of what many runs share: their parents and groups of fields."""
    if isinstance(part, RunSpec):
        return dump(part)
    return {name: _dump(getattr(part, name)) for name in type(part).model_fields}


def _dump(value: Any) -> Any:
    if isinstance(value, Part):
        return _dump_once(value)
    if isinstance(value, dict):
        return {key: _dump(item) for key, item in value.items()}
    return [_dump(item) for item in value] if isinstance(value, tuple | list) else value


def _rebuilt(value: Any) -> Any:
    if isinstance(value, dict):
        is_run = set(value) == {"type", "version", "fields"}
        return rebuild(value) if is_run else {key: _rebuilt(item) for key, item in value.items()}
    return [_rebuilt(item) for item in value] if isinstance(value, list) else value


def _fields_agree(dumped: dict[str, Any], asked: Part) -> bool:
    fields = type(asked).model_fields
    return all(
        agrees(dumped[name], value) if name in dumped else value == fields[name].get_default(call_default_factory=True)
        for name, value in ((name, getattr(asked, name)) for name in fields)
    )


def _class_of(named: str) -> type[RunSpec]:
    """The class that a dump names; one that moved since is found by its name, which is all that identities hold of it."""
    module, _, name = named.partition(":")
    if module not in sys.modules and module.partition(".")[0] == "vitlib":
        with suppress(ImportError, ValueError):
            importlib.import_module(module)
    found = getattr(sys.modules.get(module), name, None)
    if isinstance(found, type) and issubclass(found, RunSpec):
        return found
    moved = [cls for cls in _subclasses(RunSpec) if cls.__name__ == name]
    if len(moved) != 1:
        raise SpecError(f"type: got {brief(named)}; allowed: run classes inside vitlib")
    return moved[0]


def _subclasses(cls: type[RunSpec]) -> Iterator[type[RunSpec]]:
    for inner in cls.__subclasses__():
        yield inner
        yield from _subclasses(inner)
