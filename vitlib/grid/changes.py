"""What a study changes of its profile: how it is given, listed, put into a line, and made into the name of a folder."""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from pathlib import Path
from typing import Any

from vitlib.messages import brief
from vitlib.spec import Part, SpecError, require_plain

LONGEST = 60  # characters of a folder's name before its hash takes over
LARGEST, DOTS = 2**20, 2000  # bytes of a file of settings, and dots in it
LINE = 70  # characters of changes that fit into a stamp


def read_overrides(given: Any) -> dict[str, Any]:
    """Overrides as a table, or as JSON text, which is what papermill's `-p` and a command line make of them.

    Raises:
        SpecError: for what is no table, or holds what no setting can be.
    """
    allowed = 'allowed: a table of settings such as {"seeds": [0]}'
    if isinstance(given, str) and len(given) > LARGEST:
        raise SpecError(f"overrides: got a text of {len(given)} letters; {allowed}, at most {LARGEST}")
    if isinstance(given, str) and given:
        try:
            given = json.loads(given, object_pairs_hook=_distinct)
        except (ValueError, RecursionError) as error:
            reason = str(error) if isinstance(error, ValueError) else "nested too deep"
            raise SpecError(f"overrides: got the text {brief(given)}; {allowed}, or its JSON (with papermill -y): {reason}") from None
    if not isinstance(given, dict | None) and given != "":
        raise SpecError(f"overrides: got {brief(given)}; {allowed}, nested as in the entry")
    require_plain(given or {})
    return given or {}


def read_settings(path: Path) -> dict[str, Any]:
    """Overrides from a TOML file.

    Python's reader takes memory with the square of the levels of a dotted name: 200 kB of `a.a.a` would take 40 GB.

    Raises:
        OSError, ValueError: for what cannot be read, is no TOML, or is larger than settings are.
    """
    with path.open("rb") as file:
        packed = file.read(LARGEST + 1)
    text = packed.decode("utf-8-sig")
    if len(packed) > LARGEST or text.count(".") > DOTS:
        raise ValueError(f"larger than settings are: at most {LARGEST} bytes with {DOTS} dots")
    return read_overrides(tomllib.loads(text))


def changes_of(overrides: dict[str, Any], before: Any, after: Any) -> dict[str, Any]:
    """The settings that overrides change, by dotted name in alphabetical order; values equal to the profile's own are none.

    Args:
        before, after: the settings without and with the overrides.
    """
    return dict(sorted(_changed(overrides, before, after)))


def in_a_line(changed: dict[str, Any]) -> str:
    """The changes where they fit into a line, otherwise their number and the file that lists them."""
    text = ", ".join(f"{name}={_plainly(value)}" for name, value in changed.items())
    count = f"{len(changed)} setting{'s' * (len(changed) > 1)}"
    return text if len(text) <= LINE else f"{count}, see changes.json"


def folder_name(profile: str, changed: dict[str, Any]) -> str:
    """A name that any file system can hold, the same for the same changes: `quick-recipe.epochs=8,seeds=0`.

    What does not fit, or would be changed or confused by a file system, is told apart by eight digits of a hash.
    """
    if not changed:
        return profile
    text = ",".join(f"{name}={_plainly(value)}" for name, value in changed.items())
    safe = re.sub(r"[^a-z0-9._=,+-]", "-", text.lower())[:LONGEST].rstrip(".,-")
    digest = hashlib.sha256(json.dumps(changed, sort_keys=True).encode()).hexdigest()[:8]
    told_apart = safe == text and all(map(_is_plain, changed.values()))
    return f"{profile}-{safe}" if told_apart else f"{profile}-{safe}-{digest}"


def _changed(overrides: dict[str, Any], before: Any, after: Any, path: str = "") -> list[tuple[str, Any]]:
    found = []
    for name, given in overrides.items():
        old, new = _inside(before, name), _inside(after, name)
        if old == new:
            continue
        if isinstance(given, dict) and name != "origin" and type(old) is type(new):
            found += _changed(given, old, new, f"{path}{name}.")
        else:
            found += _leaves(f"{path}{name}", given if isinstance(given, dict) else new)
    return found


def _inside(settings: Any, name: str) -> Any:
    return settings.get(name) if isinstance(settings, dict) else getattr(settings, name, None)


def _leaves(path: str, value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        return [leaf for name, item in value.items() for leaf in _leaves(f"{path}.{name}", item)]
    return [(path, _json(value))]


def _json(value: Any) -> Any:
    if isinstance(value, Part):
        return value.model_dump(mode="json")
    return [_json(item) for item in value] if isinstance(value, list | tuple) else value


def _is_plain(value: Any) -> bool:
    """Whether no other value reads the same in the name of a folder."""
    if isinstance(value, list):
        return all(isinstance(item, int | float) for item in value)
    if isinstance(value, str):
        return re.fullmatch(r"[a-z][a-z0-9._-]*", value) is not None and value not in ("none", "true", "false")
    return value is not None and not isinstance(value, dict)


def _plainly(value: Any) -> str:
    if isinstance(value, list):
        return "+".join(map(_plainly, value))
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    twice = [name for name, _ in pairs if [other for other, _ in pairs].count(name) > 1]
    if twice:
        raise ValueError(f"{twice[0]!r} is given twice")
    return dict(pairs)
