"""Parse text and environment to a checked `Config`, or to all findings at once."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import TypeAdapter, ValidationError

from spinney.core.config import cross_checks
from spinney.core.config.environment import apply_overrides
from spinney.core.config.findings import KeyLocations, findings_of_errors
from spinney.core.config.sections import Config
from spinney.core.config.toml_lines import key_lines
from spinney.core.errors import ConfigError, Finding
from spinney.core.similar_names import did_you_mean

_FLAT_TABLES = (("kafka", "options"), ("storage", "options"), ("spark",))
"""Tables whose names have dots in them; `spark.driver.memory = "2g"` may be written without quotes."""


def parse(text: str, source: str, environment: Mapping[str, str]) -> Config:
    """Return the configuration given by a TOML text and the overrides in `environment`.

    source: the file's name, for messages. environment: as `os.environ`; unrelated variables are ignored. Raises
    ConfigError with all findings, in the order of the file.
    """
    data = _parse_toml(text, source)
    data, variables, findings = apply_overrides(data, environment)
    locations = KeyLocations(source, key_lines(text), variables)
    for path in _FLAT_TABLES:
        _flatten(data, path)
    for name in data.keys() - Config.model_fields.keys():
        remedy = did_you_mean(name, Config.model_fields)
        findings.append(locations.finding(name, "a section of this file", f"`{name}`, which does not exist", remedy))
    sections: dict[str, Any] = {}
    ignored: set[str] = set()
    for name, info in Config.model_fields.items():
        if name not in data and info.is_required():
            findings.append(Finding(source, None, name, f"a section [{name}]", "nothing", f"Add [{name}]."))
            continue
        model, errors = _validate_section(info.annotation, data.get(name, {}), ignored, name)
        findings += findings_of_errors(errors, name, info.annotation, locations)
        if model is not None:
            sections[name] = model
    for problem in cross_checks.find_problems(sections):
        if not any(_is_within(key, ignored) for key in (problem.key, *problem.also)):
            findings.append(locations.finding(problem.key, problem.expected, problem.got, problem.remedy))
    if findings:
        raise ConfigError(sorted(findings, key=lambda finding: (finding.line or 0, finding.key)))
    config = Config(**sections)
    config._text = text
    config._origins = _origins(data, locations)
    return config


def _parse_toml(text: str, source: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        at = re.search(r"line ([0-9]+)", str(error))
        line = int(at[1]) if at else text.count("\n") + 1
        what = re.sub(r"\s*\(at .*\)$", "", str(error))
        remedy = "Strings need quotes, and each key may occur once."
        raise ConfigError([Finding(source, line, "", "TOML", what, remedy)]) from error


def _validate_section(kind: Any, data: Any, ignored: set[str], name: str) -> tuple[Any, Sequence[Any]]:
    """Return the section, or None, and pydantic's errors.

    A section with errors is validated again without the wrong keys, so that the checks between the other keys run too.
    The keys left out are added to `ignored`.
    """
    adapter: TypeAdapter[Any] = TypeAdapter(kind)
    try:
        return adapter.validate_python(data), []
    except ValidationError as error:
        errors = error.errors(include_url=False)
    for found in errors:
        ignored.add(".".join(str(part) for part in (name, *found["loc"]) if isinstance(part, str)))
        data = _without_key(data, found["loc"])
    try:
        return adapter.validate_python(data), errors
    except ValidationError:
        return None, errors


def _without_key(data: Any, loc: Sequence[str | int]) -> Any:
    if not isinstance(data, dict) or not loc or loc[0] not in data:
        return data
    rest = {name: value for name, value in data.items() if name != loc[0]}
    inner = data[loc[0]]
    if len(loc) > 1 and isinstance(inner, dict) and loc[1] in inner:
        return {**rest, loc[0]: _without_key(inner, loc[1:])}
    return rest


def _is_within(key: str, ignored: set[str]) -> bool:
    plain = re.sub(r"\[[0-9]+\]", "", key)
    return any(plain == other or plain.startswith(f"{other}.") or other.startswith(f"{plain}.") for other in ignored)


def _flatten(data: dict[str, Any], path: Sequence[str]) -> None:
    for part in path[:-1]:
        if not isinstance(data.get(part), dict):
            return
        data = data[part]
    if isinstance(data.get(path[-1]), dict):
        data[path[-1]] = dict(_leaves(data[path[-1]]))


def _leaves(table: dict[str, Any], before: str = "") -> list[tuple[str, Any]]:
    leaves: list[tuple[str, Any]] = []
    for name, value in table.items():
        leaves += _leaves(value, f"{before}{name}.") if isinstance(value, dict) else [(f"{before}{name}", value)]
    return leaves


def _origins(data: dict[str, Any], locations: KeyLocations) -> dict[str, str]:
    origins = {}
    for section, table in data.items():
        for name, _ in _leaves(table):
            key = f"{section}.{name}"
            if origin := locations.origin(key):
                origins[key] = origin
    return origins
