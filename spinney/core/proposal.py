"""A first `fleet.toml` for data that somebody has: guesses, each with its reason, for a person to correct."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import pandas as pd
from pandas.api import types

from spinney.core.config.rules import KEY_TYPES, RESERVED, storable
from spinney.core.config.toml_text import toml, toml_key
from spinney.core.config.values import is_number
from spinney.core.errors import ContractError

TARGET_NAMES = ("label", "target", "y", "outcome", "class")
TIME_NAMES = ("event_time", "timestamp", "time", "datetime", "date", "created_at", "ts")
ID_NAMES = ("event_id", "id", "uuid", "key")
MOST_CLASSES = 20
LOOKED_AT = 100
"""Values of a column of text that are tried as times."""
ROWS_PER_GROUP = 20
"""A group needs about as many rows as ``recipe.min_rows`` to get a model of its own."""


@dataclass(frozen=True)
class Column:
    """What was seen of one column.

    distinct: different values; -1 if they cannot be told apart. filled: rows that have a value.
    """

    name: str
    type: str
    distinct: int
    filled: int
    rows: int

    @property
    def unique(self) -> bool:
        return self.filled == self.rows and self.distinct == self.rows


@dataclass(frozen=True)
class Guess:
    """A value, and why: the reason stands beside it as a comment."""

    value: str
    why: str


def propose(sample: pd.DataFrame, name: str) -> str:
    """Return a commented TOML text that `parse` accepts, if the data has the columns a fleet needs.

    sample: some rows of the data, any order; not changed. name: of the fleet, from the file's name.
    Raises ContractError: no rows, or no column that could be the target or a group.
    """
    if sample.empty:
        raise ContractError("init --from: expected rows to look at; the file has none")
    seen = [_seen(str(column), sample[column]) for column in sample.columns]
    usable = [column for column in seen if storable(column.name) and column.distinct >= 0]
    time = _event_time(usable)
    identity = _event_id(usable, time)
    own = (time.value, identity.value)
    columns = [column for column in usable if column.name not in own and not _taken(column, usable)]
    target = _target([column for column in columns if column.name.lower() not in RESERVED or column.name == "label"])
    rest = [column for column in columns if column.name != target.value and column.name.lower() not in RESERVED]
    group = _group(rest)
    if group is None:
        raise ContractError(
            "init --from: expected a column to group by, of text or integers with fewer values than rows; "
            f"got {', '.join(column.name for column in seen)}. Add one"
        )
    features = [column for column in rest if column.name != group.value and not _is_a_name(column)]
    if not features:
        raise ContractError("init --from: expected a column besides id, time, target and group for the model to see")
    kept = [column for column in columns if column in features or column.name in (target.value, group.value)]
    left_out = [column for column in seen if column not in kept and column.name not in own]
    kind = next(column for column in columns if column.name == target.value).type
    lines = [
        *_fleet(_name(name), (group, identity, time, target), "regression" if is_number(kind) else "classification"),
        f"features = {toml([column.name for column in features])}  # all the rest; remove what is not known in time",
        *_columns(kept, left_out),
        *_tail(_name(name), target.value),
    ]
    return "\n".join(lines) + "\n"


def _seen(name: str, values: pd.Series[Any]) -> Column:
    try:
        distinct = int(values.nunique())
    except TypeError:  # lists and tables in cells
        distinct = -1
    return Column(name, _type(values), distinct, int(values.notna().sum()), len(values))


def _type(values: pd.Series[Any]) -> str:
    if types.is_bool_dtype(values):
        return "boolean"
    if types.is_integer_dtype(values):
        return "bigint"
    if types.is_numeric_dtype(values):
        return "double"
    if types.is_datetime64_any_dtype(values):
        return "timestamp"
    texts = values.dropna().head(LOOKED_AT)
    kinds = {_type_of(value) for value in texts}
    return kinds.pop() if len(kinds) == 1 else "string"


def _type_of(value: object) -> str:
    """The type of one value of a column of text or of Python's dates."""
    if type(value) is date:
        return "date"
    if not isinstance(value, str) or not re.match(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", value):
        return "string"
    try:
        datetime.fromisoformat(value)
    except ValueError:
        return "string"
    return "date" if len(value) == len("2013-01-31") else "timestamp"


def _taken(column: Column, columns: Sequence[Column]) -> bool:
    """Whether an earlier column has this name but for its case: Spark would not tell them apart."""
    before = columns[: columns.index(column)]
    return any(other.name.lower() == column.name.lower() for other in before)


def _is_a_name(column: Column) -> bool:
    """Whether it only tells rows apart."""
    return column.unique and column.type in ("string", "bigint")


def _event_time(columns: Sequence[Column]) -> Guess:
    times = [column for column in columns if column.type == "timestamp"]
    best = _by_name(times, TIME_NAMES) or next((column for column in times if column.filled == column.rows), None)
    if best:
        others = ", ".join(column.name for column in times if column is not best)
        return Guess(best.name, f"a timestamp{', as are ' + others if others else ', the only one'}")
    return Guess("event_time", "no column reads as ISO 8601 times: add one")


def _event_id(columns: Sequence[Column], time: Guess) -> Guess:
    unique = [column for column in columns if column.unique and column.name != time.value and column.type != "double"]
    best = _by_name(unique, ID_NAMES) or next((column for column in unique if column.type == "string"), None)
    best = best or next(iter(unique), None)
    if best is None:
        return Guess("event_id", "no column is unique: add one to each event")
    note = "" if best.type == "string" else "; events must carry it as a string"
    return Guess(best.name, f"different in each of {best.rows} rows{note}")


def _target(columns: Sequence[Column]) -> Guess:
    named = [column for column in columns if _is_named(column.name, TARGET_NAMES) and column.type != "timestamp"]
    if named:
        return Guess(named[-1].name, "by its name")
    numbers = [column for column in columns if is_number(column.type)]
    if numbers:
        return Guess(numbers[-1].name, "the last number: is it what you want predicted?")
    classes = [column for column in columns if 2 <= column.distinct <= MOST_CLASSES]
    if classes:
        return Guess(classes[-1].name, f"no numbers here; it has {classes[-1].distinct} classes")
    raise ContractError("init --from: expected a column to predict, a number or a few classes; got none")


def _group(columns: Sequence[Column]) -> Guess | None:
    """The column with the most values that still leaves enough rows to each."""
    fit = [column for column in columns if column.type in KEY_TYPES and column.distinct > 1 and not column.unique]
    if not fit:
        return None
    enough = [column for column in fit if column.filled >= ROWS_PER_GROUP * column.distinct]
    texts = [column for column in enough if column.type == "string"]
    best = max(texts or enough, key=lambda column: column.distinct) if enough else min(fit, key=lambda c: c.distinct)
    each = best.filled // best.distinct
    others = ", ".join(column.name for column in fit if column is not best)
    also = f"; others that could be: {others}" if others else ""
    return Guess(best.name, f"{best.distinct} values, about {each} rows each{also}")


def _by_name(columns: Sequence[Column], names: Sequence[str]) -> Column | None:
    for name in names:
        for column in columns:
            if column.name.lower() == name:
                return column
    return None


def _is_named(name: str, words: Sequence[str]) -> bool:
    return bool(set(re.split(r"[^a-z]+", name.lower())) & set(words))


def _name(stem: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]+", "-", stem).strip("-_")[:40] or "fleet"


def _fleet(name: str, guesses: Sequence[Guess], task: str) -> Iterator[str]:
    group, identity, time, target = guesses
    yield "# Proposed by `spinney init --from`: guesses, each with its reason. Correct them, then run `spinney check`."
    yield "# Every key is explained in docs/configuration.md."
    yield ""
    yield "[fleet]"
    yield f"name = {toml(name)}"
    yield f"group = {toml([group.value])}  # one model for each: {group.why}"
    yield "parents = [[]]  # all groups together answer for new or thin ones"
    yield f"event_id = {toml(identity.value)}  # {identity.why}"
    yield f"event_time = {toml(time.value)}  # {time.why}"
    yield f"target = {toml(target.value)}  # {target.why}"
    yield f"task = {toml(task)}"


def _columns(kept: Sequence[Column], left_out: Sequence[Column]) -> Iterator[str]:
    yield ""
    yield "[fleet.columns]  # name = Spark SQL type"
    for column in kept:
        yield f"{toml_key(column.name)} = {toml(column.type)}{_gaps(column)}"
    for column in left_out:
        yield f"# left out: {toml(column.name)}, {_why_not(column)}"


def _why_not(column: Column) -> str:
    if not storable(column.name):
        return "a name that cannot be stored"
    if column.name.lower() in RESERVED:
        return "a name that the tables use themselves"
    return "different in each row" if column.unique else "a second of that name, or no plain value"


def _gaps(column: Column) -> str:
    return "" if column.filled == column.rows else f"  # missing in {column.rows - column.filled} of {column.rows} rows"


def _tail(name: str, target: str) -> Iterator[str]:
    yield ""
    yield "[kafka]"
    yield 'bootstrap_servers = "localhost:9092"'
    yield f'events = "{name}.events"'
    yield f'# outcomes = "{name}.outcomes"  # set it if {toml(target)} becomes known later than the event'
    yield f'predictions = "{name}.predictions"'
    yield ""
    yield "[storage]"
    yield f'root = "work/{name}"'
