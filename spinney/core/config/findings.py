"""Turn pydantic's errors into findings: which key, on which line, expected, got, what to do."""

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
from spinney.core.config.secrets import display_value
from spinney.core.config.toml_formatting import to_toml
from spinney.core.errors import Finding
from spinney.core.similar_names import did_you_mean

V = TypeVar("V")
TABLE_OF_STRINGS = "a table: name = a string"


@dataclass(frozen=True)
class KeyLocations:
    """Where keys were set. source: the file's name. lines: dotted key -> line. environment: dotted key -> variable."""

    source: str
    lines: dict[str, int] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)

    def finding(self, key: str, expected: str, got: str, remedy: str = "") -> Finding:
        """Return a finding about a key, with the place where the key, or the table around it, was set."""
        variable = self.nearest(key, self.environment)
        if variable:
            return Finding("environment", None, variable, expected, got, remedy)
        return Finding(self.source, self.nearest(key, self.lines), key, expected, got, remedy)

    def origin(self, key: str) -> str | None:
        """Return ``fleet.toml:12``, ``environment SPINNEY_…``, or None if the key was not set."""
        if variable := self.nearest(key, self.environment):
            return f"environment {variable}"
        return f"{self.source}:{self.lines[key]}" if key in self.lines else None

    @staticmethod
    def nearest(key: str, known: dict[str, V]) -> V | None:
        """Return the entry of a key, or else that of the innermost table around it."""
        while key:
            if key in known:
                return known[key]
            key = re.sub(r"(\[[0-9]+\]|\.?[^.\[\]]*)$", "", key)
        return None


def findings_of_errors(
    errors: Sequence[ErrorDetails], section: str, kind: Any, locations: KeyLocations
) -> list[Finding]:
    """Return a finding for each of pydantic's errors in one section. kind: the section's model."""
    return [_finding_of_error(error, section, kind, locations) for error in errors]


def _finding_of_error(error: ErrorDetails, section: str, kind: Any, locations: KeyLocations) -> Finding:
    key = dotted_key((section, *error["loc"]))
    context = error.get("ctx", {})
    if error["type"] == "refused":
        return locations.finding(key, context["expected"], display_value(key, context["got"]), context["remedy"])
    parent = model_at(kind, error["loc"][:-1])
    if error["type"] == "extra_forbidden" and parent is not None:
        names = list(parent.model_fields)
        where = dotted_key((section, *error["loc"][:-1]))
        remedy = did_you_mean(str(error["loc"][-1]), names)
        return locations.finding(key, f"a key of [{where}]", f"`{error['loc'][-1]}`, which it does not have", remedy)
    expected = describe_expected(field_at(kind, error["loc"]))
    if error["type"] == "missing":
        finding = locations.finding(dotted_key((section, *error["loc"][:-1])), expected, "nothing")
        return Finding(finding.file, finding.line, key, expected, "nothing", f"Add `{error['loc'][-1]}`.")
    remedy = ""
    choices = _choices(field_at(kind, error["loc"]))
    if choices and isinstance(error["input"], str):
        near = difflib.get_close_matches(error["input"].lower(), choices, n=1)
        remedy = f'Did you mean "{near[0]}"?' if near else ""
    return locations.finding(key, expected, display_value(key, error["input"]), remedy)


def dotted_key(loc: Sequence[str | int]) -> str:
    """Return ``fleet.parents[0]`` for ("fleet", "parents", 0)."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc if part != "[key]")
    return text.removeprefix(".")


def model_at(kind: Any, loc: Sequence[str | int]) -> type[BaseModel] | None:
    """Return the model at `loc` below the section `kind`; None if there is none."""
    for part in loc:
        if not (isinstance(kind, type) and issubclass(kind, BaseModel)) or part not in kind.model_fields:
            return None
        kind = kind.model_fields[str(part)].annotation
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def field_at(kind: Any, loc: Sequence[str | int]) -> FieldInfo | None:
    """Return the deepest model field on the path `loc`."""
    field_info = None
    for part in loc:
        if not (isinstance(kind, type) and issubclass(kind, BaseModel)) or part not in kind.model_fields:
            break
        field_info = kind.model_fields[str(part)]
        kind = field_info.annotation
    return field_info


def describe_expected(info: FieldInfo | None) -> str:
    """Describe the values that a field accepts."""
    if info is None:
        return TABLE_OF_STRINGS
    description = describe_type(info.annotation)
    limits = [text for limit in info.metadata if (text := _describe_limit(limit))]
    return ", ".join([description, *limits])


def describe_type(kind: Any, *, is_plural: bool = False) -> str:
    """Describe a type as the docs do (``"list of strings"``)."""
    origin, inside = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return describe_type(inside[0], is_plural=is_plural)
    if origin in (Union, types.UnionType):
        return describe_type(next(part for part in inside if part is not type(None)), is_plural=is_plural)
    if origin is Literal:
        return " or ".join(to_toml(choice) for choice in inside)
    if origin is tuple:
        if inside[-1] is not Ellipsis:
            return "[lowest, highest]"
        return f"{'lists' if is_plural else 'a list'} of {describe_type(inside[0], is_plural=True)}"
    if origin is dict:
        return "a table" if inside[1] is Any else f"a table: name = {describe_type(inside[1])}"
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return "a table"
    one, several = _TYPE_NAMES.get(kind, ("a value", "values"))
    return several if is_plural else one


_TYPE_NAMES: dict[Any, tuple[str, str]] = {
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


_LIMIT_TEXTS = {
    "ge": "at least {}",
    "gt": "more than {}",
    "le": "at most {}",
    "lt": "less than {}",
    "min_length": "at least {} of them",
    "max_length": "at most {} of them",
    "pattern": "of the form {}",
}


def _describe_limit(limit: Any) -> str:
    for name, words in _LIMIT_TEXTS.items():
        value = getattr(limit, name, None)
        if value is not None:
            return "not empty" if (name, value) == ("min_length", 1) else words.format(value)
    return ""
