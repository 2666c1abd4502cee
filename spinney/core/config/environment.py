"""Overrides from the environment: ``SPINNEY_<SECTION>__<KEY>``, deeper keys with further ``__``.

A value is taken as it stands where a string is expected, else read as TOML. Tables are merged into the file's,
so that a secret can come from here and the rest from the file. Other ``SPINNEY_…`` variables are not ours,
but one that is an override with too few underscores is refused, because it would do nothing in silence.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from typing import Any

from spinney.core.config.findings import STRINGS, field_at, model_at, type_words
from spinney.core.config.models import Config
from spinney.core.errors import Finding
from spinney.core.similar_names import did_you_mean

PREFIX = "SPINNEY_"


def overlay(
    data: dict[str, Any], environment: Mapping[str, str]
) -> tuple[dict[str, Any], dict[str, str], list[Finding]]:
    """Return `data` with the overrides put in, dotted key -> variable for each of them, and what is wrong with them.

    data: as `tomllib` gives it; not changed.
    """
    merged = _copied(data)
    origins: dict[str, str] = {}
    findings: list[Finding] = []
    for variable in sorted(environment):
        if not variable.startswith(PREFIX):
            continue
        word = variable.removeprefix(PREFIX)
        if "__" not in word:
            findings += _too_few_underscores(variable, word)
            continue
        path = [part.lower() for part in word.split("__")]
        if finding := _unknown(variable, path):
            findings.append(finding)
            continue
        value = _read(path, environment[variable])
        _put(merged, path, value)
        for deeper in value if isinstance(value, dict) else ():
            origins[".".join([*path, deeper])] = variable
        if not isinstance(value, dict):
            origins[".".join(path)] = variable
    return merged, origins, findings


def _copied(data: Any) -> Any:
    return {name: _copied(value) for name, value in data.items()} if isinstance(data, dict) else data


def _put(data: dict[str, Any], path: list[str], value: Any) -> None:
    for part in path[:-1]:
        if not isinstance(data.get(part), dict):
            data[part] = {}
        data = data[part]
    there = data.get(path[-1])
    both = isinstance(there, dict) and isinstance(value, dict)
    data[path[-1]] = {**there, **value} if both and there is not None else value


def _read(path: list[str], text: str) -> Any:
    if _wants_text(path):
        return text
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _wants_text(path: list[str]) -> bool:
    info = field_at(Config, path)
    if info is None:
        return False
    exact = len(path) == _depth(path) + 1
    return type_words(info.annotation) == ("a string" if exact else STRINGS)


def _depth(path: list[str]) -> int:
    """How many parts of the path lead through sections: what is left names the key itself."""
    depth = 0
    while depth < len(path) - 1 and model_at(Config, path[: depth + 1]) is not None:
        depth += 1
    return depth


def _unknown(variable: str, path: list[str]) -> Finding | None:
    depth = _depth(path)
    for known in range(min(depth + 1, len(path))):
        model = model_at(Config, path[:known])
        if model is not None and path[known] not in model.model_fields:
            names = [PREFIX + "__".join([*path[:known], name]).upper() for name in model.model_fields]
            meant = did_you_mean(PREFIX + "__".join(path[: known + 1]).upper(), names)
            expected = f"{PREFIX}<SECTION>__<KEY> of a key that exists"
            return Finding("environment", None, variable, expected, f"`{'.'.join(path)}`", meant)
    return None


def _too_few_underscores(variable: str, word: str) -> list[Finding]:
    for section in Config.model_fields:
        model = model_at(Config, [section])
        for name in model.model_fields if model else ():
            if word.lower() == f"{section}_{name}":
                meant = f"{PREFIX}{section}__{name}".upper()
                expected = "two underscores between section and key"
                return [Finding("environment", None, variable, expected, "one", f"Did you mean `{meant}`?")]
    return []
