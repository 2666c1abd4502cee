"""A first `fleet.toml` for data that somebody has: guesses, each with its reason, for a person to correct."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd

from spinney.core.errors import ContractError
from spinney.core.proposal import guesses
from spinney.core.proposal.guesses import Guess
from spinney.core.proposal.names import fleet_name, stored_names
from spinney.core.proposal.seen import Column, look, usable
from spinney.core.proposal.window import fitting
from spinney.core.proposal.writing import Plan, lines, why_left_out

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
    time = _chosen_time(good, choices.time) if choices.time is not None else guesses.event_time(good)
    spoken_for = {*time.sources, *choices.group, choices.identity}
    target = _chosen(good, choices.target, "--target")
    if target is None:
        free = [column for column in good if column.source not in spoken_for and not column.is_index]
        target = guesses.target([column for column in free if not guesses.is_named_like_an_id(column)] or free)
    spoken_for |= {*target.sources}
    if choices.group:
        group = guesses.chosen_group(good, choices.group)
    else:
        group = guesses.group([column for column in good if column.source not in spoken_for])
    rest = [column for column in good if column.source not in {*time.sources, *target.sources, *group.sources}]
    identity = _chosen(good, choices.identity, "--id") or guesses.event_id(rest, group.columns)
    own = {*time.sources, *identity.sources}
    features = [
        column
        for column in rest
        if column.source not in own and not column.is_index and not _is_a_name(column)
    ]  # fmt: skip
    if not features:
        raise ContractError("init --from: expected a column besides id, time, target and group for the model to see")
    used = [column for column in good if column in (*features, *group.columns, *target.columns)]
    columns = {column.source for column in used} | own
    allowed = dict.fromkeys(target.sources, "label") | dict.fromkeys(time.sources, "event_time")
    allowed |= dict.fromkeys(identity.sources, "event_id")
    names = stored_names([column.source for column in seen if column.source in columns], allowed)
    types = _types(used, group, target, names)
    if time.unit is not None:
        types = {names[time.sources[0]]: f"timestamp({time.unit})", **types}
    left_out = tuple((column, why_left_out(column)) for column in seen if column.source not in columns)
    rows = target.columns[0].values.notna()
    task = "classification" if guesses.is_classes(target.columns[0]) else "regression"
    return Plan(
        name, group, identity, time, target, task, tuple(features), names, types, left_out,
        _words_for_nothing(used), fitting(time, group, rows),
    )  # fmt: skip


def _types(used: list[Column], group: Guess, target: Guess, names: dict[str, str]) -> dict[str, str]:
    """Column → type: keys that are whole numbers are integers, though pandas may have them as floats."""
    types = {names[column.source]: column.type for column in used}
    for column in group.columns:
        if column.type == "double":
            types[names[column.source]] = "bigint"
    classified = target.columns[0]
    if guesses.is_classes(classified) and classified.type in ("date", "timestamp"):
        types[names[classified.source]] = "string"
    return types


def _words_for_nothing(used: list[Column]) -> tuple[str, ...]:
    """Words that mean no value, unless they are a value of some column of text."""
    words = {word for column in used for word in column.nothing}
    values: set[Any] = set()
    for column in used:
        if column.type == "string":
            values |= set(column.values.dropna().unique()) & words
    return tuple(sorted(words - values))


def _chosen(columns: list[Column], name: str | None, option: str) -> Guess | None:
    return None if name is None else Guess((guesses.named(columns, name, option),), "as you said")


def _chosen_time(columns: list[Column], name: str) -> Guess:
    """Raises ContractError: the column is not there, or holds no times."""
    column = guesses.named(columns, name, "--time")
    unit = guesses.epoch_unit(column)
    if column.type not in ("timestamp", "date") and unit is None:
        example = str(column.values.dropna().iloc[0])[:40]
        raise ContractError(
            "init --from: --time: expected ISO 8601 times, or numbers of s, ms or us since 1970; "
            f"{name} has values like {example!r}"
        )
    return Guess((column,), "as you said" + (f"; numbers of {unit} since 1970" if unit else ""), unit)


def _is_a_name(column: Column) -> bool:
    """Whether it only tells rows apart."""
    return column.unique and column.type in ("string", "bigint")
