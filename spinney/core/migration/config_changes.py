"""What an edit of the configuration means for a running fleet: when each changed key takes effect, or why it cannot."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from spinney.core.config import Config, Fleet
from spinney.core.config.cross_checks import OBSERVED_AT
from spinney.core.config.effective import leaves
from spinney.core.config.toml_formatting import to_toml
from spinney.core.migration.loss_function_history import are_convertible
from spinney.core.migration.mismatch_advice import IF_RENAMED, MIGRATING, renaming
from spinney.core.migration.type_widening import is_widening

GROUP, TARGET, LOSS = "fleet.group", "fleet.target", "fleet.loss"
MAX_CHARACTERS = 80
"""Longest value in a message; the rest is cut off."""


class Effect(StrEnum):
    """When an edited key takes effect."""

    REFUSED = "refused"
    NEXT_START = "at the next start of the stream"
    AT_AN_OFFSET = "from the first record that neither ingest nor score has begun; both start together"
    NEXT_FIT = "group by group, when each is refitted next; all at once: spinney retrain --all"
    NEXT_FIT_UNCOMPARED = (
        "for new groups at once; a group with a model keeps it, since nothing can be compared without the feature; "
        "all at once: spinney retrain --all --unproven"
    )
    NEXT_FIT_WITH_NEWER_ROWS = (
        "group by group, once a group has rows newer than its model to compare on, since rows beyond a shorter window "
        "are not read; all at once: spinney retrain --all --unproven"
    )
    NEXT_VERDICT = "at the next start of the stream, and in the next retrain"
    NEXT_TIDY = "at the next spinney tidy, and in the stream from its next start on"
    NEXT_ANSWER = "at the next start of the stream and of spinney serve"
    NEXT_SERVE = "at the next start of spinney serve"
    NEW_NAME = "at the next start; in MLflow it is another experiment, and spinney register writes another model"


@dataclass(frozen=True)
class ConfigChange:
    """One edited key. before, now: as TOML; empty if not set. why, remedy: of a refused change."""

    key: str
    before: str
    now: str
    effect: Effect
    why: str = ""
    remedy: str = ""

    def __str__(self) -> str:
        what = f"{self.key} was {self.before or 'not there'} and is {self.now or 'gone'}"
        return f"{what}: {self.why}" if self.why else f"{what}: {self.effect}"


ANOTHER_ROOT = (
    "begin a new fleet under another storage.root and give it the history: spinney load ROOT/tables/events, for late "
    "labels also spinney load ROOT/tables/outcomes --outcomes"
)
WHY_FIXED = {
    GROUP: "every stored key, model and decision is of the old groups",
    "fleet.event_id": "stored events are identified by the old field",
    "fleet.event_time": "stored events are dated by the old field",
    TARGET: "stored labels and models are of the old target",
    "fleet.task": "stored models and errors are of the old task",
    LOSS: "stored errors are in the old loss, and are compared with new ones",
    "fleet.clock": "ages and windows of stored rows count by the old clock",
    "fleet.shards": "stored rows and the streams' state are divided by the old number",
    "kafka.events": "the checkpoints hold offsets of the old topic",
    "kafka.outcomes": "the checkpoints hold offsets of the old topic",
}
"""Why a fixed key stays as it is; changes of `fleet.columns` are explained column by column."""

_EFFECT_BY_PREFIX = (
    ("fleet.ranges", Effect.AT_AN_OFFSET),
    ("fleet.columns", Effect.AT_AN_OFFSET),  # the unit of a time
    ("fleet.fields", Effect.AT_AN_OFFSET),
    ("fleet.coerce", Effect.AT_AN_OFFSET),
    ("fleet.missing", Effect.AT_AN_OFFSET),
    ("fleet.features", Effect.NEXT_FIT),
    ("fleet.parents", Effect.NEXT_VERDICT),
    ("fleet.label_delay", Effect.NEXT_VERDICT),
    ("fleet.name", Effect.NEW_NAME),
    # Not parts of the recipe: they make no model another one, so that no group becomes due by them.
    ("recipe.time_limit", Effect.NEXT_VERDICT),
    ("recipe.memory_limit_mib", Effect.NEXT_VERDICT),
    ("recipe.parents", Effect.NEXT_VERDICT),
    ("shadow", Effect.NEXT_VERDICT),
    ("recipe", Effect.NEXT_FIT),
    ("intervals", Effect.NEXT_ANSWER),
    ("gateway", Effect.NEXT_SERVE),
    ("kafka", Effect.NEXT_START),
    ("staleness", Effect.NEXT_VERDICT),
    ("budget", Effect.NEXT_VERDICT),
    ("gate", Effect.NEXT_VERDICT),
    ("retention", Effect.NEXT_TIDY),
)
"""Beginning of a key -> effect of a change; the first entry that matches counts. Every key has an entry unless it is
fixed or not compared.
"""

_NOT_COMPARED = ("storage", "kafka.options", "spark", "tracking")
"""Sections that are not compared: the root itself, and options that are not stored because they may hold credentials.
"""


def config_changes(
    config: Config, fixed: Mapping[str, Any], last: Config | None, renamed: Mapping[str, str] | None = None
) -> list[ConfigChange]:
    """Return the differences from the configuration that the fleet's tables were created and last used with.

    fixed: dotted key -> value of keys that must not change. last: the configuration that the fleet last ran with; None
    if unknown, so that only `fixed` is compared. renamed: old -> new name of migrated columns.
    """
    by_role = _renamed_by_role(config, fixed)
    refused = [change for key, before in fixed.items() for change in _compare_fixed(config, key, before, by_role)]
    return refused + ([] if last is None else list(_compare_editable(config, last, fixed, renamed or {})))


def fixed_columns(fleet: Fleet, columns: Mapping[str, str]) -> dict[str, str]:
    """Return the declared columns whose type is fixed, without those that are declared only for their unit, which may
    change.
    """
    same = _columns_of_fixed_type(fleet)
    return {name: str(kind) for name, kind in columns.items() if name not in same}


def _renamed_by_role(config: Config, fixed: Mapping[str, Any]) -> dict[str, str]:
    """Return old -> new name of the target and of the columns of the group, if as many columns are the group."""
    pairs = [(fixed.get(TARGET), config.fleet.target)]
    group = fixed.get(GROUP) or ()
    if len(group) == len(config.fleet.group):
        pairs += zip(group, config.fleet.group, strict=True)
    return {old: new for old, new in pairs if old is not None and old != new}


def _compare_fixed(config: Config, key: str, before: Any, renamed: Mapping[str, str]) -> Iterator[ConfigChange]:
    """Yield the refused changes of a key. renamed: as `_renamed_by_role` returns it."""
    section, _, name = key.partition(".")
    now = getattr(getattr(config, section, None), name, None)
    if key == "fleet.columns":
        was, now = (fixed_columns(config.fleet, of) for of in (before, config.fleet.columns))
        yield from _compare_columns(was, now, renamed)
        return
    now = list(now) if isinstance(now, tuple) else now
    if now != before and key == LOSS and are_convertible(str(before), str(now)):
        yield ConfigChange(key, _display(before), _display(now), Effect.REFUSED, *_about_loss(before))
    elif now != before:
        remedy = (
            f"Put {to_toml(before)} back, or {ANOTHER_ROOT}."
            if before is not None
            else f"Remove it, or {ANOTHER_ROOT}."
        )
        if key in (TARGET, GROUP):
            remedy = f"{IF_RENAMED} Otherwise: {remedy}"
        elif key == "fleet.event_id":
            remedy = (
                f"If only messages call it {_display(now)} now, keep the name and add to [fleet.fields]: "
                f"{before} = {_display(now)}. Otherwise: {remedy}"
            )
        yield ConfigChange(
            key,
            _display(before),
            _display(now),
            Effect.REFUSED,
            WHY_FIXED.get(key, "what is stored would mean another thing"),
            remedy,
        )


def _about_loss(before: Any) -> tuple[str, str]:
    """Why a change of the loss needs a migration, and what it does."""
    why = "stored losses are by the old one; those of single rows give the new one, means do not"
    return why, f"{MIGRATING} converts what can be converted and restarts the means. Or put {to_toml(before)} back."


def _columns_of_fixed_type(fleet: Fleet) -> tuple[str, ...]:
    """Return the fields that always have the same type, and are declared only for their unit."""
    return (fleet.event_id, fleet.event_time, OBSERVED_AT)


def _compare_columns(
    before: Mapping[str, str], now: Mapping[str, str], renamed: Mapping[str, str]
) -> Iterator[ConfigChange]:
    gone = [name for name in before if name not in now]
    new = [name for name in now if name not in before]
    twins = _likely_twins(before, now, renamed)
    for name in gone:
        yield _dropped_column(name, before[name], twins.get(name))
    for name in new:
        why = "the tables have no such column yet"
        remedy = f"{MIGRATING} adds it, null in the rows that are there. Or remove it: such a field is ignored."
        yield ConfigChange(f"fleet.columns.{name}", "", to_toml(now[name]), Effect.REFUSED, why, remedy)
    for name, kind in before.items():
        if name in now and now[name] != kind:
            yield _retyped_column(name, kind, now[name])


def _likely_twins(before: Mapping[str, str], now: Mapping[str, str], renamed: Mapping[str, str]) -> dict[str, str]:
    """Return old -> new name of columns that may have been renamed: by their role, or the only two of their type.

    renamed: as `_renamed_by_role` returns it.
    """
    twins = {old: new for old, new in renamed.items() if old in before.keys() - now and new in now.keys() - before}
    gone = [name for name in before if name not in now and name not in twins]
    new = [name for name in now if name not in before and name not in twins.values()]
    for name in gone:
        alike = [added for added in new if now[added] == before[name]]
        if len(alike) == 1 and sum(before[other] == before[name] for other in gone) == 1:
            twins[name] = alike[0]
    return twins


def _dropped_column(name: str, kind: str, twin: str | None) -> ConfigChange:
    why = "the tables have the column, and models may have been fitted on it"
    remedy = f"{MIGRATING} lets it go. Or declare it again; a column need not be in fleet.features."
    if twin is not None:
        why += f"; `{twin}` of the same type is new"
        remedy = (
            f"{renaming(name, twin)} If only messages call it `{twin}` now, keep the column and add to "
            f"[fleet.fields]: {name} = {to_toml(twin)}."
        )
    return ConfigChange(f"fleet.columns.{name}", to_toml(kind), "", Effect.REFUSED, why, remedy)


def _retyped_column(name: str, before: str, now: str) -> ConfigChange:
    why = "the tables hold the old type"
    remedy = f"Put {to_toml(before)} back, or {ANOTHER_ROOT}."
    if is_widening(before, now):
        remedy = f"{MIGRATING} writes them again, each value as it is. Or put {to_toml(before)} back."
    return ConfigChange(f"fleet.columns.{name}", to_toml(before), to_toml(now), Effect.REFUSED, why, remedy)


def _compare_editable(
    config: Config, last: Config, fixed: Mapping[str, Any], renamed: Mapping[str, str]
) -> Iterator[ConfigChange]:
    kept = fixed.get("fleet.columns", {})
    same_type = [
        name for name, kind in kept.items() if config.fleet.columns.get(name) == last.fleet.columns.get(name) == kind
    ]
    columns = {f"fleet.columns.{name}" for name in (*same_type, *_columns_of_fixed_type(config.fleet))}
    before, now = (_compared_values(edition, fixed, columns) for edition in (last, config))
    for key in {**before, **now}:
        if before.get(key) != now.get(key):
            effect = next(effect for start, effect in _EFFECT_BY_PREFIX if _is_within(key, start))
            was_features = {renamed.get(name, name) for name in last.fleet.features}
            if key == "fleet.features" and was_features - set(config.fleet.features):
                effect = Effect.NEXT_FIT_UNCOMPARED
            if key in _shortened_windows(config, last):
                effect = Effect.NEXT_FIT_WITH_NEWER_ROWS
            yield ConfigChange(key, _shorten(before.get(key, "")), _shorten(now.get(key, "")), effect)


def _shortened_windows(config: Config, last: Config) -> set[str]:
    """Return the keys of windows that are shorter than before: the earlier recipe cannot be fitted again."""
    names = ("window", "window_rows")
    return {f"recipe.{name}" for name in names if getattr(config.recipe, name) < getattr(last.recipe, name)}


def _compared_values(config: Config, fixed: Mapping[str, Any], columns: set[str]) -> dict[str, str]:
    """Return each compared key with its value as TOML; an empty table counts as not set.

    fixed: keys that may never change, compared elsewhere. columns: keys of the columns whose units are compared.
    """
    left_out = (*_NOT_COMPARED, *fixed)
    return {
        key: to_toml(value)
        for key, value in leaves(config)
        if value not in ({}, None) and (key in columns or not any(_is_within(key, section) for section in left_out))
    }


def _is_within(key: str, section: str) -> bool:
    return f"{key}.".startswith(f"{section}.")


def _display(value: Any) -> str:
    return "" if value is None else _shorten(to_toml(value))


def _shorten(text: str) -> str:
    return text if len(text) <= MAX_CHARACTERS else f"{text[: MAX_CHARACTERS - 1]}…"
