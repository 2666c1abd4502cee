"""The configuration `fleet.toml`: the models of its keys, and `parse`, which checks a text."""

from __future__ import annotations

from spinney.core.config.effective import Setting
from spinney.core.config.reading import parse
from spinney.core.config.record_schema import RecordSchema
from spinney.core.config.sections import (
    Config,
    Fleet,
    Gate,
    Gateway,
    Intervals,
    Kafka,
    Recipe,
    RecipeParents,
    Retention,
    Storage,
    Tracking,
)
from spinney.core.config.staleness_sections import Budget, Drift, ErrorRise, Staleness

__all__ = [
    "Budget",
    "Config",
    "Drift",
    "ErrorRise",
    "Fleet",
    "Gate",
    "Gateway",
    "Intervals",
    "Kafka",
    "Recipe",
    "RecipeParents",
    "RecordSchema",
    "Retention",
    "Setting",
    "Staleness",
    "Storage",
    "Tracking",
    "parse",
]
