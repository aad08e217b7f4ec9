"""Specs: what a run is, and the name that follows from it.

A run is a frozen, typed description of one result. Its identity is the SHA-256 of its class name, its `version`, its
non-default fields and its parents (a RunSpec among its fields, at any depth, is a parent). Device, executor and folders are not
in it. Start from `RunSpec`; `Part` is for the groups of fields inside one (data, model, recipe).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache, cached_property, wraps
from pathlib import Path
from typing import Any, ClassVar, Concatenate, ParamSpec, Protocol, Self, TypeVar
from unicodedata import category

from pydantic import BaseModel, ConfigDict, ValidationError

from vitlib.messages import brief, explain, nearest

DEEPEST = 12  # levels of nested settings
LONGEST = 2**16  # letters of a text among them
Kept, Given, Made = TypeVar("Kept", bound="Part"), ParamSpec("Given"), TypeVar("Made")
_REQUIRED = object()  # in place of a default
_PLAIN = (str, int, float, bool, type(None))


class SpecError(ValueError):
    """A field that cannot be accepted; the message names the field, the value and what is allowed."""


class Demand(Protocol):
    """Something that is checked when a study is loaded: hashable, so that what many runs demand is checked once."""

    def check(self, data_dir: Path) -> None:
        """Raise a SpecError if it does not hold."""


class Part(BaseModel):
    """A frozen group of strictly typed fields; unknown names and non-finite numbers are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False, validate_default=True)

    @classmethod
    def parse(cls, fields: dict[str, Any]) -> Self:
        """Build from JSON-like data (as TOML or a notebook parameter gives it).

        Raises:
            SpecError: naming each refused field, its value, and what is allowed (nearest name for an unknown one).
        """
        require_plain(fields)
        with refusing(cls):
            return cls.model_validate_json(json.dumps(fields))

    @classmethod
    def made(cls, **fields: Any) -> Self:
        """Build from values of the fields' own types; same errors as `parse`."""
        with refusing(cls):
            return cls(**fields)

    def changed(self, **fields: Any) -> Self:
        """A copy with some fields replaced, validated again; the same copy for the same plain values."""
        if not all(map(_is_plain, fields.values())):
            return self._changed(fields)
        key = repr(fields)
        if key not in self._copies:
            self._copies[key] = self._changed(fields)
        return self._copies[key]

    def _changed(self, fields: dict[str, Any]) -> Self:
        with refusing(type(self)):
            return type(self).model_validate({name: getattr(self, name) for name in type(self).model_fields} | fields)

    def demands(self) -> Iterable[Demand]:
        """What must hold of models and data before a run is computed, or with any settings; a run's parents say theirs themselves."""
        return ()

    def canonical(self) -> dict[str, Any]:
        """Class name and non-default fields, sorted: what the identity is made of."""
        return json.loads(self._text)

    @cached_property
    def _copies(self) -> dict[str, Self]:
        return {}

    @cached_property
    def _made(self) -> dict[Any, Any]:
        """See `remembered`."""
        return {}

    @cached_property
    def _text(self) -> str:
        """The same as JSON, made once of each object: many runs share their groups of fields."""
        return _table({type(self).__name__: self._fields_text()})

    def _fields_text(self) -> str:
        own = self.__dict__
        return _table({name: _json(own[name]) for name, default in _defaults(type(self)) if default is _REQUIRED or own[name] != default})

    @cached_property
    def _runs(self) -> tuple[RunSpec, ...]:
        """Those among the fields, but for those that belong to other runs."""
        values = (getattr(self, name) for name in type(self).model_fields)
        return tuple(run for value in values if isinstance(value, _HOLDERS) for run in _runs_in(value))


@contextmanager
def refusing(cls: type[Part]) -> Iterator[None]:
    try:
        yield
    except ValidationError as error:
        raise SpecError(explain(cls, error)) from None
    except ArithmeticError as error:
        raise SpecError(f"{cls.__name__}: a number is too large or too small to compute with ({error}); allowed: closer to 1") from None


class RunSpec(Part):
    """One run: what is asked for. How it is computed says the function that `vitlib.computing` knows for its class.

    Changing what a run computes, or a default, means raising `version`: identities leave defaults out.
    """

    version: ClassVar[int] = 1
    timed: ClassVar[bool] = False  # True: its result is a time, so nothing may run beside it
    divisible: ClassVar[bool] = False  # True: its loss is a mean over images, so several processes may share each batch

    @cached_property
    def _text(self) -> str:
        return _table({type(self).__name__: self._fields_text(), "version": _json(self.version)})

    @cached_property
    def id(self) -> str:
        digest = hashlib.sha256(self._text.encode()).hexdigest()
        vars(self).pop("_text", None)  # which runs that start from this one make again, and keep: most runs are nobody's parents
        return f"{type(self).__name__.lower()}-{digest[:16]}"

    def parents(self) -> list[RunSpec]:
        """The runs among the fields, inside groups, tuples and tables too."""
        return list(self._runs)

    def family(self) -> Iterator[RunSpec]:
        """Ancestors first, each once, then the run itself."""
        yield from families([self]).values()


def families(specs: Iterable[RunSpec]) -> dict[str, RunSpec]:
    """The runs and all that they start from by id, ancestors first, each once."""
    found: dict[str, RunSpec] = {}

    def visit(run: RunSpec) -> None:
        if run.id not in found:
            for parent in run.parents():
                visit(parent)
            found[run.id] = run

    for spec in specs:
        visit(spec)
    return found


def remembered(function: Callable[Concatenate[Kept, Given], Made]) -> Callable[Concatenate[Kept, Given], Made]:
    """A function of settings and plain values: what it gave is kept with the settings, so that one run is one object wherever it stands."""

    name = f"{function.__module__}.{function.__qualname__}"

    @wraps(function)
    def once(settings: Kept, *given: Given.args, **named: Given.kwargs) -> Made:
        made, key = settings._made, (name, repr(given), repr(named)) if given or named else name
        if key not in made:
            made[key] = function(settings, *given, **named)
        return made[key]

    return once


def require(name: str, value: str, allowed: Iterable[str]) -> None:
    """Refuse a value that is none of those allowed."""
    allowed = list(allowed)
    if value not in allowed:
        raise SpecError(f"{name}: got {brief(value)}{nearest(str(value), allowed)}")


def require_plain(value: Any, path: str = "", depth: int = 0) -> None:
    """Refuse what JSON and TOML cannot say alike, and what is too deep or too large to be a setting.

    Raises:
        SpecError: naming the place, the value and what is allowed.
    """
    if depth > DEEPEST:
        raise SpecError(f"{path[:40]}…: nested deeper than {DEEPEST} levels; allowed: tables and lists as in the entry")
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        for key, item in value.items():
            require_plain(key, f"a name in {path or 'the settings'}", depth)
            require_plain(item, f"{path}.{key}".lstrip("."), depth + 1)
    elif isinstance(value, list | tuple):
        for position, item in enumerate(value):
            require_plain(item, f"{path}.{position}", depth + 1)
    elif isinstance(value, str):
        if len(value) > LONGEST:
            raise SpecError(f"{path[:40]}: got a text of {len(value)} letters; allowed: at most {LONGEST}")
        if {category(letter) for letter in value} & {"Cc", "Cs", "Zl", "Zp"}:
            raise SpecError(f"{path}: got {brief(value)}; allowed: text in one line, without control characters and unpaired surrogates")
    elif isinstance(value, int) and value.bit_length() > 63:
        raise SpecError(f"{path}: got {brief(value)}; allowed: whole numbers below 2^63")
    elif not isinstance(value, int | float | None):
        raise SpecError(f"{path}: got {brief(value)}; allowed: plain numbers, strings, lists, and tables with names as keys")


def _is_plain(value: Any) -> bool:
    return type(value) in _PLAIN or (type(value) is tuple and all(type(item) in _PLAIN for item in value))


@cache
def _defaults(cls: type[Part]) -> tuple[tuple[str, Any], ...]:
    """Names of fields, sorted, each with its default."""
    fields = sorted(cls.model_fields.items())
    return tuple((name, _REQUIRED if field.is_required() else field.get_default(call_default_factory=True)) for name, field in fields)


def _json(value: Any) -> str:
    """What `json.dumps` makes of a value with sorted keys, groups of fields by their canonical form."""
    if isinstance(value, Part):
        return value._text
    if isinstance(value, dict):
        return _table({key: _json(item) for key, item in value.items()})
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(_json, value))}]"
    return _plainly(value)


def _table(texts: dict[str, str]) -> str:
    return f"{{{', '.join(f'{_name(name)}: {texts[name]}' for name in sorted(texts))}}}"


_plainly = json.JSONEncoder().encode
_name = cache(_plainly)


def _runs_in(value: Any) -> Iterator[RunSpec]:
    if isinstance(value, RunSpec):
        yield value
    elif isinstance(value, Part):
        yield from value._runs
    elif isinstance(value, dict | tuple | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _runs_in(item)


_HOLDERS = (Part, dict, tuple, list)
