"""Propose a first `fleet.toml` for given data: guesses, each with its reason, for a person to correct."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from spinney.core.config.cross_checks import KEY_TYPES
from spinney.core.config_proposal import guesses
from spinney.core.config_proposal.column_statistics import (
    ColumnStatistics,
    as_number,
    examine_column,
    parse_times,
    usable_columns,
)
from spinney.core.config_proposal.guesses import Guess
from spinney.core.config_proposal.number_times import are_days, are_years, guess_epoch_unit
from spinney.core.config_proposal.storable_names import fleet_name, stored_names
from spinney.core.config_proposal.toml_writer import EVENT_ID, EVENT_TIME, Proposal, proposal_lines, reason_left_out
from spinney.core.config_proposal.training_window import choose_window
from spinney.core.errors import ContractError
from spinney.core.records.time_parsing import DAY, unit_description

__all__ = ["Choices", "propose"]


@dataclass(frozen=True)
class Choices:
    """Columns that a person chose, by their names in the file; empty ones are guessed."""

    group: tuple[str, ...] = ()
    target: str | None = None
    identity: str | None = None
    time: str | None = None


def propose(
    sample: pd.DataFrame,
    name: str,
    texts: frozenset[str] = frozenset(),
    choices: Choices | None = None,
    *,
    is_beginning: bool = False,
) -> str:
    """Return a commented TOML text that `parse` accepts, if the data has the columns that a fleet needs.

    sample: some rows of the data, in any order; not changed. name: of the fleet, from the file's name. texts: columns
    that are text only because the file has no types. is_beginning: whether the data goes on after these rows. Raises
    ContractError: no rows, no column that could be the target or a group, or a chosen column that does not exist.
    """
    if sample.empty:
        raise ContractError("init --from: expected rows to look at; the file has none that can be read")
    known = _Known(fleet_name(name), choices or Choices(), is_beginning)
    plan = _make_plan(_examine(sample, texts), known)
    if plan.has_content_id:
        plan = _plan_without_copies(plan, sample, texts, known)
    return "\n".join(proposal_lines(plan)) + "\n"


@dataclass(frozen=True)
class _Known:
    """What is known beside the sample. name: of the fleet. is_beginning: as in `propose`."""

    name: str
    choices: Choices
    is_beginning: bool


def _examine(sample: pd.DataFrame, texts: frozenset[str]) -> list[ColumnStatistics]:
    return [examine_column(str(column), sample[column], is_text=str(column) in texts) for column in sample.columns]


def _plan_without_copies(plan: Proposal, sample: pd.DataFrame, texts: frozenset[str], known: _Known) -> Proposal:
    """Return the plan made from the sample without its repeated rows, if that gives them an id: an export may repeat
    rows.
    """
    copies = sample.map(str).duplicated()  # astype(str) would decode bytes
    if not copies.any():
        return plan
    without = _make_plan(_examine(sample[~copies].reset_index(drop=True), texts), known)
    if without.has_content_id:
        return plan
    note = guesses.copies_note(int(copies.sum()), len(sample))
    return replace(without, identity=replace(without.identity, reason=f"{without.identity.reason}{note}"))


def _make_plan(columns_seen: list[ColumnStatistics], known: _Known) -> Proposal:
    choices, good = known.choices, usable_columns(columns_seen)
    _refuse_two_roles(choices)
    time = _choose_time(good, choices)
    taken = {*time.sources, *choices.group, choices.identity}
    target = _choose_target(good, choices, taken)
    taken |= {*target.sources}
    if choices.group:
        group = guesses.chosen_group(good, choices.group)
    else:
        group = guesses.guess_group([column for column in good if column.source not in taken])
    rest = [column for column in good if column.source not in {*time.sources, *target.sources, *group.sources}]
    identity = _named_column(good, choices.identity, "--id") or guesses.guess_event_id(rest, group.columns)
    if not identity.columns and guesses.is_time_an_id(time, group.columns):
        identity = Guess(time.columns, "the time, since each group has one row for each")
    own = {*time.sources, *identity.sources}
    hashed = bool(time.columns) and not identity.columns and all(column.source != EVENT_ID for column in columns_seen)
    # Messages have the id and the time under these names where no column of the file is taken for them.
    expected = {name for guess, name in ((time, EVENT_TIME), (identity, EVENT_ID)) if not guess.columns}
    features = _choose_features([column for column in rest if column.source not in own | expected], time)
    chosen = {column.source: column for column in (*features, *group.columns, *target.columns)}
    used = [chosen[column.source] for column in good if column.source in {*chosen} - own]
    if hashed:
        identity = guesses.content_id([*used, *time.columns], identity.reason)
    columns = {column.source for column in used} | own
    allowed = dict.fromkeys(target.sources, "label") | dict.fromkeys(identity.sources, EVENT_ID)
    allowed |= dict.fromkeys(time.sources, EVENT_TIME)  # last, since the time may be the id too
    names = stored_names([column.source for column in columns_seen if column.source in columns], allowed)
    types = _column_types(used, group, target, names)
    if time.unit is not None:
        types = {names[time.sources[0]]: f"timestamp({time.unit})", **types}
    left_out = tuple(
        (column, reason_left_out(column, expected)) for column in columns_seen if column.source not in columns
    )
    task = "classification" if guesses.is_classes(target.columns[0]) else "regression"
    window = choose_window(time, group, target.columns[0].values.notna(), is_beginning=known.is_beginning)
    return Proposal(
        known.name, group, identity, time, target, task, tuple(features), names, types, left_out,
        _missing_words(used, (*group.columns, *target.columns)), window, hashed,
    )  # fmt: skip


def _choose_time(columns: list[ColumnStatistics], choices: Choices) -> Guess:
    if choices.time is not None:
        return _named_time(columns, choices.time)
    others = {*choices.group, choices.target, choices.identity}
    return guesses.guess_event_time([column for column in columns if column.source not in others])


def _choose_target(columns: list[ColumnStatistics], choices: Choices, taken: Collection[str | None]) -> Guess:
    """Return the target. taken: columns with another role."""
    target = _named_column(columns, choices.target, "--target")
    if target is None:
        free = [column for column in columns if column.source not in taken and not column.is_index]
        target = guesses.guess_target([column for column in free if not guesses.is_named_like_an_id(column)] or free)
    (column,) = target.columns
    return replace(target, columns=(as_number(column),)) if guesses.is_label_of_numbers(column) else target


def _refuse_two_roles(choices: Choices) -> None:
    """Raise ContractError if two options name the same column."""
    named = [("--group", name) for name in choices.group]
    named += [("--target", choices.target or ""), ("--id", choices.identity or ""), ("--time", choices.time or "")]
    option_of: dict[str, str] = {}
    for option, name in named:
        is_time_as_id = option == "--time" and option_of.get(name) == "--id"  # one row per group and time
        if name and name in option_of and not is_time_as_id:
            raise ContractError(f"init --from: {option}: expected another column than {option_of[name]}; got {name!r}")
        option_of[name] = option


def _column_types(used: list[ColumnStatistics], group: Guess, target: Guess, names: dict[str, str]) -> dict[str, str]:
    """Return column → type. Key columns of whole numbers are integers, even if pandas has them as floats; others are
    text.
    """
    types = {names[column.source]: column.type for column in used}
    for column in group.columns:
        if column.type not in KEY_TYPES:
            types[names[column.source]] = "bigint" if column.is_whole else "string"
    classified = target.columns[0]
    if guesses.is_classes(classified) and classified.type in ("date", "timestamp"):
        types[names[classified.source]] = "string"
    return types


def _missing_words(used: list[ColumnStatistics], kept: tuple[ColumnStatistics, ...]) -> tuple[str, ...]:
    """Return the words that mean no value in columns of numbers or times. kept: columns whose texts stay unchanged."""
    words = {word for column in used for word in column.missing_words}
    values: set[Any] = set()
    for column in kept:
        if column.type == "string":
            values |= set(column.values.dropna().unique()) & words
    return tuple(sorted(words - values))


def _named_column(columns: list[ColumnStatistics], name: str | None, option: str) -> Guess | None:
    return None if name is None else Guess((guesses.find_column(columns, name, option),), "as you said")


def _named_time(columns: list[ColumnStatistics], name: str) -> Guess:
    """Return the column that a person chose as time. Raises ContractError: it does not exist, or holds no times."""
    column = guesses.find_column(columns, name, "--time")
    unit = guess_epoch_unit(column, 0.5) or (DAY if are_days(column, 0.5) else None)
    is_time = column.type in ("timestamp", "date") or guesses.is_mostly_times(column, 0.5)
    is_time = is_time or guesses.are_basic_dates(column)
    if not is_time and unit is None and are_years(column):
        return guesses.years_guess(column, "as you said; years")
    if not is_time and unit is None:
        example = str(column.values[parse_times(column).isna()].dropna().iloc[0])[:40]
        raise ContractError(
            "init --from: --time: expected ISO 8601 times, numbers of s, ms, us, ns or days since 1970, or years; "
            f"{name} has values like {example!r}{guesses.years_hint([column])}"
        )
    note = f"; {unit_description(unit)}" if unit else guesses.rejected_times_note(column)
    return Guess((column,), f"as you said{note}", unit)


def _choose_features(columns: list[ColumnStatistics], time: Guess) -> list[ColumnStatistics]:
    """Return the columns that a model may use, with amounts converted to numbers; the time if there are no others.

    Raises ContractError if there is no time either.
    """
    kept = [column for column in columns if not column.is_index and not column.is_name]
    kept = [column for column in kept if not guesses.is_named_like_an_id(column)]
    features = [as_number(column) if guesses.is_measure(column) else column for column in kept]
    if not features:
        features = [*time.columns]  # a trend, and what repeats by day, week and year
    if not features:
        raise ContractError("init --from: expected a column other than id, target and group for the model to use")
    return features
