"""Overrides from the environment: ``SPINNEY_<SECTION>__<KEY>``, with further ``__`` for deeper keys.

A value is used as it is if a string is expected, otherwise it is parsed as TOML. Tables are merged with the file's, so
that a secret can come from the environment and the rest from the file. Other ``SPINNEY_…`` variables are ignored, but
an override with too few underscores is refused, since it would have no effect.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from typing import Any

from spinney.core.config.findings import TABLE_OF_STRINGS, describe_type, field_at, model_at
from spinney.core.config.sections import Config
from spinney.core.errors import Finding
from spinney.core.similar_names import did_you_mean

PREFIX = "SPINNEY_"


def apply_overrides(
    data: dict[str, Any], environment: Mapping[str, str]
) -> tuple[dict[str, Any], dict[str, str], list[Finding]]:
    """Return `data` with the overrides, dotted key -> variable for each of them, and the findings about them.

    data: as `tomllib` returns it; not changed.
    """
    merged = _deep_copy(data)
    origins: dict[str, str] = {}
    findings: list[Finding] = []
    for variable in sorted(environment):
        if not variable.startswith(PREFIX):
            continue
        name_part = variable.removeprefix(PREFIX)
        if "__" not in name_part:
            findings += _too_few_underscores(variable, name_part)
            continue
        path = [part.lower() for part in name_part.split("__")]
        if finding := _unknown_key_finding(variable, path):
            findings.append(finding)
            continue
        value = _parse_value(path, environment[variable])
        _set_value(merged, path, value)
        for inner in value if isinstance(value, dict) else ():
            origins[".".join([*path, inner])] = variable
        if not isinstance(value, dict):
            origins[".".join(path)] = variable
    return merged, origins, findings


def _deep_copy(data: Any) -> Any:
    return {name: _deep_copy(value) for name, value in data.items()} if isinstance(data, dict) else data


def _set_value(data: dict[str, Any], path: list[str], value: Any) -> None:
    for part in path[:-1]:
        if not isinstance(data.get(part), dict):
            data[part] = {}
        data = data[part]
    present = data.get(path[-1])
    are_tables = isinstance(present, dict) and isinstance(value, dict)
    data[path[-1]] = {**present, **value} if are_tables and present is not None else value


def _parse_value(path: list[str], text: str) -> Any:
    if _is_text(path):
        return text
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _is_text(path: list[str]) -> bool:
    info = field_at(Config, path)
    if info is None:
        return False
    is_whole_key = len(path) == _section_depth(path) + 1
    return describe_type(info.annotation) == ("a string" if is_whole_key else TABLE_OF_STRINGS)


def _section_depth(path: list[str]) -> int:
    """Return how many parts of the path name sections; the rest names the key itself."""
    depth = 0
    while depth < len(path) - 1 and model_at(Config, path[: depth + 1]) is not None:
        depth += 1
    return depth


def _unknown_key_finding(variable: str, path: list[str]) -> Finding | None:
    depth = _section_depth(path)
    for parts in range(min(depth + 1, len(path))):
        model = model_at(Config, path[:parts])
        if model is not None and path[parts] not in model.model_fields:
            names = [PREFIX + "__".join([*path[:parts], name]).upper() for name in model.model_fields]
            suggestion = did_you_mean(PREFIX + "__".join(path[: parts + 1]).upper(), names)
            expected = f"{PREFIX}<SECTION>__<KEY> of a key that exists"
            return Finding("environment", None, variable, expected, f"`{'.'.join(path)}`", suggestion)
    return None


def _too_few_underscores(variable: str, name_part: str) -> list[Finding]:
    for section in Config.model_fields:
        model = model_at(Config, [section])
        for name in model.model_fields if model else ():
            if name_part.lower() == f"{section}_{name}":
                suggestion = f"{PREFIX}{section}__{name}".upper()
                expected = "two underscores between section and key"
                return [Finding("environment", None, variable, expected, "one", f"Did you mean `{suggestion}`?")]
    return []
