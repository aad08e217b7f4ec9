"""What a refusal says: one short line a refused field, with its value and what is allowed. Start from `explain` and `brief`."""

from __future__ import annotations

import logging
import reprlib
from difflib import get_close_matches
from typing import Any

from pydantic import BaseModel, ValidationError

LINES = 5  # of refused fields in one message
WIDTH = 100  # characters of an echoed value
LONGEST = 800  # characters of a line


class _Brief(reprlib.Repr):
    """Python's own shortening, safe for whole numbers too long to be printed."""

    def repr_int(self, value: int, level: int) -> str:
        return repr(value) if value.bit_length() <= 64 else f"a whole number of {value.bit_length()} bits"


_BRIEF = _Brief()
_BRIEF.maxstring, _BRIEF.maxother, _BRIEF.maxlevel = WIDTH, WIDTH, 3


def brief(value: Any) -> str:
    """The value as Python writes it, in one line, at most `WIDTH` characters of it."""
    text = " ".join(line.strip() for line in _BRIEF.repr(value).splitlines())
    return text if len(text) <= WIDTH else f"{text[: WIDTH - 1]}…"


def printable(text: str) -> str:
    """Text for a terminal: names of files may hold what moves its cursor or sets its title."""
    return "".join(letter if letter.isprintable() or letter in "\n\t" else "?" for letter in text)


class Terminal(logging.StreamHandler):
    """Log messages on standard error, as `printable` leaves them."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


def nearest(name: str, allowed: list[str]) -> str:
    """'; did you mean X?' where something close exists, and the list of what is allowed."""
    close = get_close_matches(name[:WIDTH], allowed, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ";"
    return f"{hint} allowed: {', '.join(sorted(allowed))}"


def explain(cls: type[BaseModel], error: ValidationError) -> str:
    """One line a refused field: name, value, what is allowed; of each union, only the member that knows most of the fields."""
    found = []
    for item in _own(error.errors()):
        path, owner, choices = _located(cls, item["loc"])
        found.append((choices, (item["type"] == "extra_forbidden", _explain_one(path or error.title, owner, item))))
    lines = [text for _, text in _of_best_members(found)]
    more = [f"... and {len(lines) - LINES} more"] if len(lines) > LINES else []
    return "\n".join([*map(_cut, lines[:LINES]), *more])


def _cut(line: str) -> str:
    """Validators echo values of their own."""
    return line if len(line) <= LONGEST else f"{line[: LONGEST // 2]} … {line[-LONGEST // 2 :]}"


def _own(errors: list[Any]) -> list[Any]:
    """Without lists that pydantic calls too short because their items were refused."""
    places = [item["loc"] for item in errors]
    return [item for item in errors if item["type"] != "too_short" or not _any_below(places, item["loc"])]


def _any_below(places: list[tuple], above: tuple) -> bool:
    return any(len(place) > len(above) and place[: len(above)] == above for place in places)


def _explain_one(path: str, owner: type[BaseModel], item: dict[str, Any]) -> str:
    if item["type"] == "extra_forbidden":
        return f"{path}: unknown field{nearest(str(item['loc'][-1]), list(owner.model_fields))}"
    if item["type"] == "missing":
        return f"{path}: missing, and it has no default"
    if item["type"] == "value_error":
        cause = item["ctx"]["error"]
        reason = explain(BaseModel, cause) if isinstance(cause, ValidationError) else str(cause)
        whole = isinstance(item["input"], dict | BaseModel)  # one about several fields holds their values
        return f"{path}: {reason}" if whole else f"{path}: got {brief(item['input'])}; {reason}"
    return f"{path}: got {brief(item['input'])}; {item['msg']}"


def _of_best_members(lines: list[tuple[list[tuple[str, str]], tuple[bool, str]]]) -> list[tuple[bool, str]]:
    """Lines outside unions, and of each union those of the member with the fewest unknown fields; unions within it likewise."""
    kept = [line for choices, line in lines if not choices]
    unions: dict[str, dict[str, list]] = {}
    for choices, line in lines:
        if choices:
            (union, member), *inner = choices
            unions.setdefault(union, {}).setdefault(member, []).append((inner, line))
    for members in unions.values():
        kept += min(map(_of_best_members, members.values()), key=lambda found: (sum(unknown for unknown, _ in found), len(found)))
    return kept


def _located(cls: type[BaseModel], steps: tuple) -> tuple[str, type[BaseModel], list[tuple[str, str]]]:
    """Path without pydantic's names of union members, the class that its last step is in, and each union passed with its member."""
    path, owners, choices = [], [cls], []
    for step in steps:
        name = str(step).rstrip("]").rpartition(" ")[2]  # a member with a validator: 'function-after[check(), Member]'
        chosen = [owner for owner in owners if owner.__name__ == name] if len(owners) > 1 else []
        if chosen:
            owners = chosen
            choices.append((".".join(path), name))
            continue
        path.append(str(step) if len(str(step)) <= WIDTH else f"{str(step)[:WIDTH]}…")
        info = owners[0].model_fields.get(step)
        inner = _classes(info.annotation) if info else []
        owners = [each for each in inner if isinstance(each, type) and issubclass(each, BaseModel)] or owners
    return ".".join(path), owners[0], choices


def _classes(annotation: Any) -> list[Any]:
    return [annotation, *(inner for arg in getattr(annotation, "__args__", ()) for inner in _classes(arg))]
