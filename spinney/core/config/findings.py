"""From what pydantic says to findings: which key, on which line, expected, got, what to do."""

from __future__ import annotations

import difflib
import re
import types
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from spinney.core import durations
from spinney.core.config.secrets import shown
from spinney.core.config.toml_text import toml
from spinney.core.errors import Finding
from spinney.core.similar_names import did_you_mean

V = TypeVar("V")
STRINGS = "a table: name = a string"


@dataclass(frozen=True)
class Places:
    """Where keys come from. source: the file's name. environment: dotted key -> variable."""

    source: str
    lines: dict[str, int] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)

    def finding(self, key: str, expected: str, got: str, remedy: str = "") -> Finding:
        variable = self.nearest(key, self.environment)
        if variable:
            return Finding("environment", None, variable, expected, got, remedy)
        return Finding(self.source, self.nearest(key, self.lines), key, expected, got, remedy)

    def origin(self, key: str) -> str | None:
        """``fleet.toml:12``, ``environment SPINNEY_…``, or None where the key was not set."""
        if variable := self.nearest(key, self.environment):
            return f"environment {variable}"
        return f"{self.source}:{self.lines[key]}" if key in self.lines else None

    @staticmethod
    def nearest(key: str, known: dict[str, V]) -> V | None:
        """Return the entry of the key, else of what it stands in."""
        while key:
            if key in known:
                return known[key]
            key = re.sub(r"(\[[0-9]+\]|\.?[^.\[\]]*)$", "", key)
        return None


def of_errors(errors: Sequence[ErrorDetails], section: str, kind: Any, places: Places) -> list[Finding]:
    """Return a finding for each of pydantic's errors in one section."""
    return [_of_error(error, section, kind, places) for error in errors]


def _of_error(error: ErrorDetails, section: str, kind: Any, places: Places) -> Finding:
    key = dotted((section, *error["loc"]))
    context = error.get("ctx", {})
    if error["type"] == "refused":
        return places.finding(key, context["expected"], shown(key, context["got"]), context["remedy"])
    parent = model_at(kind, error["loc"][:-1])
    if error["type"] == "extra_forbidden" and parent is not None:
        names = list(parent.model_fields)
        where = dotted((section, *error["loc"][:-1]))
        remedy = did_you_mean(str(error["loc"][-1]), names)
        return places.finding(key, f"a key of [{where}]", f"`{error['loc'][-1]}`, which it does not have", remedy)
    expected = expectation(field_at(kind, error["loc"]))
    if error["type"] == "missing":
        finding = places.finding(dotted((section, *error["loc"][:-1])), expected, "nothing")
        return Finding(finding.file, finding.line, key, expected, "nothing", f"Add `{error['loc'][-1]}`.")
    remedy = ""
    choices = _choices(field_at(kind, error["loc"]))
    if choices and isinstance(error["input"], str):
        near = difflib.get_close_matches(error["input"].lower(), choices, n=1)
        remedy = f'Did you mean "{near[0]}"?' if near else ""
    return places.finding(key, expected, shown(key, error["input"]), remedy)


def dotted(loc: Sequence[str | int]) -> str:
    """Return ``fleet.parents[0]`` for ("fleet", "parents", 0)."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc if part != "[key]")
    return text.removeprefix(".")


def model_at(kind: Any, loc: Sequence[str | int]) -> type[BaseModel] | None:
    """Return the model that stands at `loc` below the section `kind`, or None if something else does."""
    for part in loc:
        if not (isinstance(kind, type) and issubclass(kind, BaseModel)) or part not in kind.model_fields:
            return None
        kind = kind.model_fields[str(part)].annotation
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def field_at(kind: Any, loc: Sequence[str | int]) -> FieldInfo | None:
    """Return the deepest model field on the way to `loc`."""
    found = None
    for part in loc:
        if not (isinstance(kind, type) and issubclass(kind, BaseModel)) or part not in kind.model_fields:
            break
        found = kind.model_fields[str(part)]
        kind = found.annotation
    return found


def expectation(info: FieldInfo | None) -> str:
    """Return in words what values a field takes."""
    if info is None:
        return STRINGS
    words = type_words(info.annotation)
    limits = [text for limit in info.metadata if (text := _limit(limit))]
    return ", ".join([words, *limits])


def type_words(kind: Any, *, many: bool = False) -> str:
    """Return a type in the words of the docs (``"list of strings"``)."""
    origin, inside = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return type_words(inside[0], many=many)
    if origin in (Union, types.UnionType):
        return type_words(next(part for part in inside if part is not type(None)), many=many)
    if origin is Literal:
        return " or ".join(toml(choice) for choice in inside)
    if origin is tuple:
        if inside[-1] is not Ellipsis:
            return "[lowest, highest]"
        return f"{'lists' if many else 'a list'} of {type_words(inside[0], many=True)}"
    if origin is dict:
        return "a table" if inside[1] is Any else f"a table: name = {type_words(inside[1])}"
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return "a table"
    one, several = _WORDS.get(kind, ("a value", "values"))
    return several if many else one


_WORDS: dict[Any, tuple[str, str]] = {
    str: ("a string", "strings"),
    int: ("a whole number", "whole numbers"),
    float: ("a number", "numbers"),
    bool: ("true or false", "true or false"),
    timedelta: (durations.EXPECTED, "durations"),
}


def _choices(info: FieldInfo | None) -> list[str]:
    if info is None or get_origin(info.annotation) is not Literal:
        return []
    return [str(choice) for choice in get_args(info.annotation)]


_LIMITS = {
    "ge": "at least {}",
    "gt": "more than {}",
    "le": "at most {}",
    "lt": "less than {}",
    "min_length": "at least {} of them",
    "max_length": "at most {} of them",
    "pattern": "of the form {}",
}


def _limit(limit: Any) -> str:
    for name, words in _LIMITS.items():
        value = getattr(limit, name, None)
        if value is not None:
            return "not empty" if (name, value) == ("min_length", 1) else words.format(value)
    return ""
