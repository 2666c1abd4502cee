"""A configuration with some keys of another file in place of its own, as a candidate of a backtest."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from spinney.core.config.reading import parse
from spinney.core.config.sections import Config
from spinney.core.config.toml_formatting import to_toml, to_toml_key
from spinney.core.config.toml_lines import key_lines
from spinney.core.errors import ConfigError, Finding
from spinney.core.similar_names import did_you_mean

OVERLAID = ("recipe", "staleness", "gate", "budget")
"""The sections whose keys are taken from the other file."""


def parse_overlay(config: Config, text: str, source: str, environment: Mapping[str, str]) -> Config:
    """Return the configuration with the keys that a TOML text has in the sections OVERLAID.

    `recipe.params` is replaced as a whole, and dropped if the text names an estimator without them. Other sections are
    not read, except that a section [fleet] must equal the configuration's own. source: the text's file, for messages.
    environment: as for `parse`. Raises ConfigError.
    """
    overlay = _load(text, source)
    own = tomllib.loads(config.text)
    merged = {**own, **{name: _merged(own.get(name, {}), overlay[name]) for name in OVERLAID if name in overlay}}
    if "estimator" in overlay.get("recipe", {}):
        merged["recipe"] = {**merged["recipe"], "params": overlay["recipe"].get("params", {})}
    lines = key_lines(text)
    try:
        found = parse(_written(merged), source, environment)
        if "fleet" in overlay and parse(_written({**own, "fleet": overlay["fleet"]}), source, {}).fleet != config.fleet:
            raise ConfigError(
                [Finding(source, None, "fleet", "the fleet of the other file", "another", "Leave [fleet] out.")]
            )
    except ConfigError as error:
        raise ConfigError([replace(finding, line=lines.get(finding.key)) for finding in error.findings]) from error
    return found


def _load(text: str, source: str) -> dict[str, Any]:
    """The tables of the text. Raises ConfigError: not TOML, an unknown section, or none of OVERLAID."""
    try:
        overlay = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError([Finding(source, None, "", "a TOML file", str(error), "")]) from error
    unknown = [name for name in overlay if name not in Config.model_fields]
    findings = [
        Finding(source, key_lines(text).get(name), name, "a section of a configuration", f"`{name}`",
                did_you_mean(name, Config.model_fields))
        for name in unknown
    ]  # fmt: skip
    if not findings and not set(overlay) & set(OVERLAID):
        wanted = ", ".join(f"[{name}]" for name in OVERLAID)
        findings = [Finding(source, None, "", f"one of {wanted}", "none", "Write the keys that should differ.")]
    if findings:
        raise ConfigError(findings)
    return overlay


def _merged(own: Any, other: Any) -> Any:
    if not isinstance(own, dict) or not isinstance(other, dict):
        return other
    merged = {name: _merged(own[name], value) if name in own else value for name, value in other.items()}
    if "params" in other:
        merged["params"] = other["params"]
    return {**own, **merged}


def _written(data: Mapping[str, Any]) -> str:
    """The data as TOML: a table for each section, nested tables inline."""
    lines: list[str] = []
    for name, section in data.items():
        lines.append(f"[{to_toml_key(name)}]")
        lines += [f"{to_toml_key(key)} = {to_toml(value)}" for key, value in section.items()]
    return "\n".join(lines) + "\n"
