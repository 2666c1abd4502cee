"""Guess the role of each column, each guess with its reason."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from spinney.core.config.cross_checks import KEY_TYPES
from spinney.core.config.value_types import INTEGERS, is_number
from spinney.core.config_proposal.column_statistics import ColumnStatistics, parse_times
from spinney.core.config_proposal.number_times import YEARS, are_days, are_years, guess_epoch_unit
from spinney.core.config_proposal.odd_values import as_doubles
from spinney.core.errors import ContractError
from spinney.core.records.time_parsing import DAY, EPOCH, YEAR, date_of_text, unit_description
from spinney.core.similar_names import did_you_mean

TARGET_NAMES = ("label", "target", "outcome", "class")
TIME_NAMES = ("event_time", "timestamp", "time", "datetime", "date", "created_at", "at", "ts")
PERIOD_NAMES = ("month", "period")
ID_NAMES = ("event_id", "id", "uuid", "key")
NAME_ENDINGS = (
    *("id", "uuid", "key", "code", "zip", "zipcode", "postcode", "plz"),
    *("no", "nr", "number", "phone", "sku", "ean", "isbn"),
)
"""Last words of columns whose numbers name things."""

MOST_CLASSES = 20
_MOSTLY = 0.9
ROWS_PER_GROUP = 20
"""A group needs about as many rows as ``recipe.min_rows`` to get a model of its own."""


@dataclass(frozen=True)
class Guess:
    """A guess of a column's role.

    columns: the guessed columns; empty if the data has none. reason: for a comment beside them. unit: "s", "ms", "us",
    "ns", "d" or "year" if the column is a time given as a number; else None.
    """

    columns: tuple[ColumnStatistics, ...]
    reason: str
    unit: str | None = None

    @property
    def sources(self) -> tuple[str, ...]:
        """The columns' names in the file."""
        return tuple(column.source for column in self.columns)


def find_column(columns: Sequence[ColumnStatistics], name: str, option: str) -> ColumnStatistics:
    """Return the column that a person named. Raises ContractError if there is none."""
    for column in columns:
        if column.source == name:
            return column
    known = [column.source for column in columns]
    nearest = did_you_mean(name, known)
    raise ContractError(f"init --from: {option}: expected a column of the data; got {name!r}. {nearest}")


def guess_event_time(columns: Sequence[ColumnStatistics]) -> Guess:
    """Guess the event time: timestamps, dates, or numbers since 1970 under a time's name."""
    old = [column for column in columns if column.type in ("timestamp", "date") and _is_before_1970(column)]
    columns = [column for column in columns if column not in old]
    times = [column for column in columns if column.type == "timestamp"]
    full = [column for column in times if column.filled == column.rows]
    best = _find_by_name(full or times, TIME_NAMES) or next(iter(full), None) or next(iter(times), None)
    if best is not None:
        others = ", ".join(column.source for column in times if column is not best)
        reason = f"a timestamp{', as are ' + others if others else ', the only one'}"
        return Guess((best,), reason + rejected_times_note(best))
    numbers = [column for column in columns if column.type in ("bigint", "double") or column.has_whole_texts]
    numbers = [column for column in numbers if _is_named(column.source, TIME_NAMES)]
    for column in numbers:
        if (unit := guess_epoch_unit(column)) is not None:
            return Guess((column,), f"{unit_description(unit)}, by its size", unit)
    days = next((column for column in numbers if "date" in _words(column.source) and are_days(column)), None)
    if days is not None:
        return Guess((days,), f"{unit_description(DAY)}, by its name and size: each is taken as its midnight", DAY)
    basic = [column for column in columns if _is_named(column.source, TIME_NAMES) and are_basic_dates(column)]
    if basic:
        return Guess((basic[0],), "dates without dashes, by its name: each is taken as its midnight")
    dates = [column for column in columns if column.type == "date" and column.filled == column.rows]
    if dates:
        best = _find_by_name(dates, TIME_NAMES) or dates[0]
        return Guess((best,), "dates: each is taken as its midnight" + rejected_times_note(best))
    named = [column for column in columns if _is_named(column.source, (*TIME_NAMES, *PERIOD_NAMES))]
    almost = [column for column in named if is_mostly_times(column, _MOSTLY) and not _is_before_1970(column)]
    if almost:
        return Guess((almost[0],), f"a time by its name{rejected_times_note(almost[0])}")
    years = [column for column in columns if _is_named_year(column) and are_years(column)]
    if years:
        return years_guess(years[0], "years, by their name")
    before = f"; {', '.join(repr(column.source) for column in old)}: only before 1970, where events are rejected"
    hints = f"{before if old else ''}{_time_name_hint(columns)}{years_hint(columns)}"
    return Guess((), f"no column reads as ISO 8601 times: add one{hints}")


def _is_before_1970(column: ColumnStatistics) -> bool:
    """Return whether all times of a column are before 1970: with it as event time every row would be rejected."""
    return bool(parse_times(column).max() < EPOCH)


def are_basic_dates(column: ColumnStatistics) -> bool:
    """Return whether all values are texts like 20240531. Numbers of a file with types are not ISO 8601 texts."""
    texts = column.values.dropna().unique()
    return len(texts) > 0 and all(
        isinstance(text, str) and len(text) == len("20240531") and date_of_text(text) is not None for text in texts
    )


def is_mostly_times(column: ColumnStatistics, share: float) -> bool:
    """Return whether at least this share of the values are times, although the column is text."""
    return column.type == "string" and int(parse_times(column).notna().sum()) >= share * column.filled


def rejected_times_note(column: ColumnStatistics) -> str:
    """Return a note about rows that are rejected for their time; empty if there are none."""
    if column.type not in ("string", "timestamp", "date"):
        return ""
    at = parse_times(column)
    unread, old = column.values.notna() & at.isna(), at < EPOCH
    words = f"; {_rejected_rows(int(unread.sum()))}: no ISO 8601 time" if unread.any() else ""
    return words + (f"; {_rejected_rows(int(old.sum()))}: before 1970" if old.any() else "")


def _rejected_rows(rows: int) -> str:
    return "1 row is rejected" if rows == 1 else f"{rows} rows are rejected"


def guess_event_id(columns: Sequence[ColumnStatistics], group: Sequence[ColumnStatistics]) -> Guess:
    """Guess the event id: a column that is unique, or unique within each group if it is named like an id."""
    named_so = [column for column in columns if column.type == "bigint" and is_named_like_an_id(column)]
    unique = [column for column in columns if column.is_name or column in named_so]
    best = _find_by_name(unique, ID_NAMES) or _find_by_ending(unique) or next(
        (column for column in unique if column.type == "string" and not column.has_whole_texts), None
    )  # fmt: skip
    best = best or next((column for column in unique if not column.is_index), None)
    if best is None:
        inside = [column for column in columns if _is_id_in(column, group)]
        if found := _find_by_name(inside, ID_NAMES) or _find_by_ending(inside):
            return Guess((found,), "different in each row of a group")
        best = next(iter(unique), None)
    if best is None:
        return _nearly_complete_id(columns) or Guess((), _why_no_id(columns))
    index = "; it numbers the rows of this file, so give later events ids of their own" if best.is_index else ""
    return Guess((best,), f"different in each of {best.rows} rows{index}")


def _nearly_complete_id(columns: Sequence[ColumnStatistics]) -> Guess | None:
    """Return an id that a few rows lack, for example a row of totals; None if there is none."""
    filled = [column for column in columns if column.type in ("string", "bigint") and column.distinct == column.filled]
    filled = [column for column in filled if _MOSTLY * column.rows <= column.filled < column.rows]
    found = _find_by_name(filled, ID_NAMES) or _find_by_ending(filled)
    if found is None:
        return None
    return Guess((found,), f"different in each row that has one; {_rejected_rows(found.rows - found.filled)}: no id")


def _why_no_id(columns: Sequence[ColumnStatistics]) -> str:
    amounts = [column.source for column in columns if column.is_like_amounts]
    if not amounts:
        return "no column is unique"
    return f"only columns like amounts are unique: {', '.join(amounts)}; or name one of these with --id"


def _is_id_in(column: ColumnStatistics, group: Sequence[ColumnStatistics]) -> bool:
    if not group or column.type not in ("string", "bigint") or column.filled < column.rows:
        return False
    return _is_different_in(column, group)


def _is_different_in(column: ColumnStatistics, group: Sequence[ColumnStatistics]) -> bool:
    """Return whether no two rows of a group have the same value."""
    keys = pd.DataFrame({at: part.values for at, part in enumerate((*group, column))})
    return not bool(keys.astype(str).duplicated().any())


def is_time_an_id(time: Guess, group: Sequence[ColumnStatistics]) -> bool:
    """Return whether the time can be the event id: unique in each group, and not a number with a fraction."""
    if not time.columns or not group:
        return False
    (column,) = time.columns
    is_text = time.unit is None or column.is_whole or column.has_whole_texts
    return is_text and column.filled == column.rows and _is_different_in(column, group)


def content_id(columns: Sequence[ColumnStatistics], why: str) -> Guess:
    """Return the guess that the id is a hash of each row.

    columns: the declared columns. why: the reason why no column is the id, as part of a sentence.
    """
    rows = pd.DataFrame({at: column.values for at, column in enumerate(columns)}).astype(str)
    return Guess((), f"a hash of each row's values, since {why}{copies_note(int(rows.duplicated().sum()), len(rows))}")


def copies_note(copies: int, rows: int) -> str:
    """Return a note about rows that equal an earlier one; empty if there are none."""
    return f"; {copies} of {rows} rows equal an earlier one and count as its copies" if copies else ""


def guess_target(columns: Sequence[ColumnStatistics]) -> Guess:
    """Guess the target by its name, else the last number, else the last column with a few classes. Raises ContractError
    if there is none.
    """
    by_name = [column for column in columns if _is_target(column.source) and column.type != "timestamp"]
    if by_name:
        return Guess((by_name[-1],), "by its name")
    numbers = [column for column in columns if is_number(column.type)]
    if numbers:
        numbers = [column for column in numbers if column.distinct > 1] or numbers
        numbers = [column for column in numbers if not _is_no_measure(column)] or numbers
        return Guess((numbers[-1],), "the last number: is it what you want predicted?")
    if measures := [column for column in columns if is_measure(column)]:
        return Guess((measures[-1],), "the last texts of numbers: is it what you want predicted?")
    classes = [column for column in columns if 2 <= column.distinct <= MOST_CLASSES]
    if classes:
        return Guess((classes[-1],), f"no numbers here; it has {classes[-1].distinct} classes")
    raise ContractError(
        "init --from: expected a column to predict, a number or a few classes; got none. Add one, or name it: --target"
    )


def _is_no_measure(column: ColumnStatistics) -> bool:
    """Return whether a column of whole numbers holds years or names of things, judging by the column's name."""
    return column.is_whole and (_is_named_year(column) or _is_called_a_name(column))


def is_classes(column: ColumnStatistics) -> bool:
    """Return whether a target is classified rather than estimated: texts, booleans, or only 0 and 1."""
    if not is_number(column.type):
        return True
    return column.type in INTEGERS and set(column.values.dropna().unique()) <= {0, 1, "0", "1"}


def is_measure(column: ColumnStatistics) -> bool:
    """Return whether texts of whole numbers are amounts: too many for classes, and not named like a name."""
    return column.has_whole_texts and not _is_called_a_name(column) and column.distinct > MOST_CLASSES


def is_label_of_numbers(column: ColumnStatistics) -> bool:
    """Return whether a target of whole-number texts is numeric.

    It is not if its name contains "class" and it has few distinct values.
    """
    is_class = "class" in _words(column.source) and column.distinct <= MOST_CLASSES
    return column.has_whole_texts and not is_class


def guess_group(columns: Sequence[ColumnStatistics]) -> Guess:
    """Guess the group: the column with the most values that still leaves enough rows for each. Raises ContractError if
    there is none.
    """
    fit = [column for column in columns if column.type in KEY_TYPES and column.distinct > 1 and not column.is_unique]
    fit = [column for column in fit if not column.is_index] or _whole_keys(columns)
    fit = [column for column in fit if _typical_rows(column) > 1]
    fit = [column for column in fit if column.is_complete] or fit
    if not fit:
        got = ", ".join(column.source for column in columns) or "none that could be"
        raise ContractError(
            "init --from: expected a column to group by, of text or integers, with several rows for most values; "
            f"got {got}. Add one, or name it: --group"
        )
    enough = [column for column in fit if _has_enough_rows(column)]
    names = [column for column in enough if _names_things(column)]
    best = max(names or enough, key=lambda column: column.distinct) if enough else min(fit, key=lambda c: c.distinct)
    others = ", ".join(column.source for column in fit if column is not best)
    return Guess((best,), _group_sizes((best,)) + (f"; others that could be: {others}" if others else ""))


def _names_things(column: ColumnStatistics) -> bool:
    """Return whether a column holds labels, not quantities: texts, or numbers under a name like that of a code
    (`store_id`).
    """
    return _is_called_a_name(column) or (column.type == "string" and not column.has_whole_texts)


def _whole_keys(columns: Sequence[ColumnStatistics]) -> list[ColumnStatistics]:
    """Return the columns of whole numbers that a program stored as fractions, as pandas does where some are missing."""
    return [column for column in columns if column.is_whole and column.distinct > 1 and not column.is_unique]


def _has_enough_rows(column: ColumnStatistics) -> bool:
    """Return whether groups have about as many rows as a model needs: on average, and half of them
    in the median group.
    """
    return column.filled >= ROWS_PER_GROUP * column.distinct and _typical_rows(column) >= ROWS_PER_GROUP / 2


def _typical_rows(column: ColumnStatistics) -> float:
    """Return the number of rows of the median value."""
    return float(column.values.value_counts().median())


def chosen_group(columns: Sequence[ColumnStatistics], names: Sequence[str]) -> Guess:
    """Return the columns that a person chose as group. Raises ContractError: one does not exist, or cannot be a key."""
    found = tuple(find_column(columns, name, "--group") for name in names)
    for column in found:
        if column.type not in KEY_TYPES and not column.is_whole and not column.has_text:
            raise ContractError(
                f"init --from: --group: expected a column of {', '.join(KEY_TYPES)}; got {column.source} of type "
                f"{column.type}"
            )
    return Guess(found, _group_sizes(found))


def _group_sizes(columns: Sequence[ColumnStatistics]) -> str:
    if len(columns) == 1:
        distinct, filled = columns[0].distinct, columns[0].filled
    else:
        keys = pd.DataFrame({at: part.values for at, part in enumerate(columns)}).dropna().astype(str)
        distinct, filled = len(keys.drop_duplicates()), len(keys)
    return f"{distinct} values, about {filled // max(1, distinct)} rows each"


def _time_name_hint(columns: Sequence[ColumnStatistics]) -> str:
    """Return a hint about a column that is named like a time but holds no times; empty if there is none."""
    texts = [column for column in columns if column.type in ("string", "bigint")]
    texts = [column for column in texts if _is_named(column.source, TIME_NAMES)]
    if not texts:
        return ""
    example = str(texts[0].values.dropna().iloc[0])[:40]
    printable = "".join(character if character.isprintable() else "?" for character in example)
    return f"; {texts[0].source!a} has values like {printable!a}, which is no such time"


def years_guess(column: ColumnStatistics, reason: str) -> Guess:
    """Return the guess of a time that is a year, with a note about rows that are rejected."""
    old = int((as_doubles(column.values) < EPOCH.year).sum())
    note = f"; {_rejected_rows(old)}: before 1970" if old else ""
    return Guess((column,), f"{reason}: each is taken as its beginning{note}", YEAR)


def years_hint(columns: Sequence[ColumnStatistics]) -> str:
    """Return a hint about a column of years most of which are before 1970; empty if there is none."""
    for column in columns:
        has_years = as_doubles(column.values).dropna().between(*YEARS).all() if column.is_whole else False
        if has_years and column.filled and _is_named_year(column):
            return f"; {column.source!a} has years, most of them before 1970, where events are rejected"
    return ""


def _is_named_year(column: ColumnStatistics) -> bool:
    return _words(column.source)[-1:] in (["year"], ["yr"], ["jahr"])


def _find_by_name(columns: Sequence[ColumnStatistics], names: Sequence[str]) -> ColumnStatistics | None:
    for name in names:
        for column in columns:
            if column.source.lower() == name:
                return column
    return None


def _find_by_ending(columns: Sequence[ColumnStatistics]) -> ColumnStatistics | None:
    return next((column for column in columns if _words(column.source)[-1:] in (["id"], ["uuid"], ["key"])), None)


def is_named_like_an_id(column: ColumnStatistics) -> bool:
    """Return whether a column is unique and named like an id. By its numbers alone, an id may look like an amount."""
    if not column.is_unique:
        return False
    named_so = _find_by_name([column], ID_NAMES) or _find_by_ending([column])
    return named_so is not None or (column.type == "bigint" and _is_called_a_name(column))


def _is_called_a_name(column: ColumnStatistics) -> bool:
    return bool({*_words(column.source)[-1:]} & {*NAME_ENDINGS})


def _is_target(name: str) -> bool:
    return name in ("y", "Y") or _is_named(name, TARGET_NAMES)


def _is_named(name: str, words: Sequence[str]) -> bool:
    return bool(set(_words(name)) & set(words)) or name.lower() in words


def _words(name: str) -> list[str]:
    return [word for word in re.split(r"[^a-z]+", re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()) if word]
