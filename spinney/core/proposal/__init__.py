"""A first `fleet.toml` for data that somebody has: guesses, each with its reason, for a person to correct."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from spinney.core.config.rules import KEY_TYPES
from spinney.core.errors import ContractError
from spinney.core.proposal import guesses
from spinney.core.proposal.column_statistics import Column, as_number, look, times_of, usable
from spinney.core.proposal.guesses import Guess
from spinney.core.proposal.names import fleet_name, stored_names
from spinney.core.proposal.window import fitting
from spinney.core.proposal.writing import EVENT_ID, EVENT_TIME, Plan, lines, why_left_out

__all__ = ["Choices", "propose"]


@dataclass(frozen=True)
class Choices:
    """Columns that a person named, as the file calls them; nothing: to be guessed."""

    group: tuple[str, ...] = ()
    target: str | None = None
    identity: str | None = None
    time: str | None = None


def propose(
    sample: pd.DataFrame, name: str, texts: frozenset[str] = frozenset(), choices: Choices | None = None
) -> str:
    """Return a commented TOML text that `parse` accepts, if the data has the columns a fleet needs.

    sample: some rows of the data, any order; not changed. name: of the fleet, from the file's name. texts: columns that
    are text only because the file has no types.
    Raises ContractError: no rows, no column that could be the target or a group, or a choice that is not there.
    """
    if sample.empty:
        raise ContractError("init --from: expected rows to look at; the file has none")
    seen = [look(str(column), sample[column], is_text=str(column) in texts) for column in sample.columns]
    return "\n".join(lines(_plan(seen, fleet_name(name), choices or Choices()))) + "\n"


def _plan(seen: list[Column], name: str, choices: Choices) -> Plan:
    good = usable(seen)
    _refuse_two_roles(choices)
    time = _time(good, choices)
    spoken_for = {*time.sources, *choices.group, choices.identity}
    target = _target(good, choices, spoken_for)
    spoken_for |= {*target.sources}
    if choices.group:
        group = guesses.chosen_group(good, choices.group)
    else:
        group = guesses.group([column for column in good if column.source not in spoken_for])
    rest = [column for column in good if column.source not in {*time.sources, *target.sources, *group.sources}]
    identity = _chosen(good, choices.identity, "--id") or guesses.event_id(rest, group.columns)
    own = {*time.sources, *identity.sources}
    # Messages have the id and the time under these names where no column of the file is taken for them.
    expected = {name for guess, name in ((time, EVENT_TIME), (identity, EVENT_ID)) if not guess.columns}
    features = _features([column for column in rest if column.source not in own | expected])
    if not features and time.columns:
        features = [*time.columns]  # a trend, and what repeats by day, week and year
    if not features:
        raise ContractError("init --from: expected a column besides id, target and group for the model to see")
    chosen = {column.source: column for column in (*features, *group.columns, *target.columns)}
    used = [chosen[column.source] for column in good if column.source in {*chosen} - own]
    columns = {column.source for column in used} | own
    allowed = dict.fromkeys(target.sources, "label") | dict.fromkeys(time.sources, "event_time")
    allowed |= dict.fromkeys(identity.sources, "event_id")
    names = stored_names([column.source for column in seen if column.source in columns], allowed)
    types = _types(used, group, target, names)
    if time.unit is not None:
        types = {names[time.sources[0]]: f"timestamp({time.unit})", **types}
    left_out = tuple((column, why_left_out(column, expected)) for column in seen if column.source not in columns)
    rows = target.columns[0].values.notna()
    task = "classification" if guesses.is_classes(target.columns[0]) else "regression"
    return Plan(
        name, group, identity, time, target, task, tuple(features), names, types, left_out,
        _words_for_nothing(used, (*group.columns, *target.columns)), fitting(time, group, rows),
    )  # fmt: skip


def _time(columns: list[Column], choices: Choices) -> Guess:
    if choices.time is not None:
        return _chosen_time(columns, choices.time)
    others = {*choices.group, choices.target, choices.identity}
    return guesses.event_time([column for column in columns if column.source not in others])


def _target(columns: list[Column], choices: Choices, spoken_for: Collection[str | None]) -> Guess:
    """spoken_for: columns with another role."""
    target = _chosen(columns, choices.target, "--target")
    if target is None:
        free = [column for column in columns if column.source not in spoken_for and not column.is_index]
        target = guesses.target([column for column in free if not guesses.is_named_like_an_id(column)] or free)
    (column,) = target.columns
    return replace(target, columns=(as_number(column),)) if guesses.is_label_of_numbers(column) else target


def _refuse_two_roles(choices: Choices) -> None:
    """Raises ContractError: two options name the same column."""
    said = [("--group", each) for each in choices.group]
    said += [("--target", choices.target or ""), ("--id", choices.identity or ""), ("--time", choices.time or "")]
    option_of: dict[str, str] = {}
    for option, name in said:
        if name and name in option_of:
            raise ContractError(f"init --from: {option}: expected another column than {option_of[name]}; got {name!r}")
        option_of[name] = option


def _types(used: list[Column], group: Guess, target: Guess, names: dict[str, str]) -> dict[str, str]:
    """Column → type: keys that are whole numbers are integers, though pandas may have them as floats, others text."""
    types = {names[column.source]: column.type for column in used}
    for column in group.columns:
        if column.type not in KEY_TYPES:
            types[names[column.source]] = "bigint" if column.is_whole else "string"
    classified = target.columns[0]
    if guesses.is_classes(classified) and classified.type in ("date", "timestamp"):
        types[names[classified.source]] = "string"
    return types


def _words_for_nothing(used: list[Column], kept: tuple[Column, ...]) -> tuple[str, ...]:
    """Words that mean no value in columns of numbers or times. kept: columns whose texts stay what they are."""
    words = {word for column in used for word in column.nothing}
    values: set[Any] = set()
    for column in kept:
        if column.type == "string":
            values |= set(column.values.dropna().unique()) & words
    return tuple(sorted(words - values))


def _chosen(columns: list[Column], name: str | None, option: str) -> Guess | None:
    return None if name is None else Guess((guesses.named(columns, name, option),), "as you said")


def _chosen_time(columns: list[Column], name: str) -> Guess:
    """Raises ContractError: the column is not there, or holds no times."""
    column = guesses.named(columns, name, "--time")
    unit = guesses.epoch_unit(column)
    is_time = column.type in ("timestamp", "date") or guesses.mostly_times(column, 0.5)
    if not is_time and unit is None:
        example = str(column.values[times_of(column).isna()].dropna().iloc[0])[:40]
        raise ContractError(
            "init --from: --time: expected ISO 8601 times, or numbers of s, ms or us since 1970; "
            f"{name} has values like {example!r}{guesses.of_years([column])}"
        )
    why = f"; numbers of {unit} since 1970" if unit else guesses.odd_times(column)
    return Guess((column,), f"as you said{why}", unit)


def _features(columns: list[Column]) -> list[Column]:
    """Those that the model may see, amounts among them as numbers."""
    kept = [column for column in columns if not column.is_index and not column.is_name]
    kept = [column for column in kept if not guesses.is_named_like_an_id(column)]
    return [as_number(column) if guesses.is_measure(column) else column for column in kept]
