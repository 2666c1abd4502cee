"""Encode features as numbers for estimators.

======================  ==================================================================================
numbers, decimals       one float64 column; null, NaN and infinite are NaN, minus zero is zero
boolean                 one column of 0 and 1; null is NaN
timestamp               sine and cosine of the minute of the day, the day of the week (Monday first) and the
                        day of the year, in UTC; null is NaN
date                    the same without the minute of the day
string                  one column of 0 and 1 for each of the group's most frequent values, at most MAX_WORDS;
                        null and values not seen in fitting are 0 in all of them
======================  ==================================================================================

The columns of strings come after all others. Only these values are learned, from the group's own rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from spinney.core.errors import ContractError
from spinney.core.recipes.recipe import Feature

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

MAX_WORDS = 32
"""Most values of one string feature that get a column in a group."""

NULL_TIME = int(np.iinfo(np.int64).min)
"""A missing time, in microseconds: NumPy's NaT."""

DAY_US = 86_400_000_000
_MINUTE_US = 60_000_000
_CYCLES = (("minute_of_day", 1440), ("day_of_week", 7), ("day_of_year", 366))


def _sines_and_cosines(steps: int) -> Floats:
    angles = [2 * math.pi * step / steps for step in range(steps)]
    # A last row of NaN for index -1, a missing time.
    return np.array([[math.sin(angle), math.cos(angle)] for angle in angles] + [[math.nan, math.nan]])


# Looked up, not computed: vectorised sine may give different bits depending on a value's position in an array.
_TABLES = {name: _sines_and_cosines(steps) for name, steps in _CYCLES}


@dataclass(frozen=True)
class Columns:
    """A frame's features, each converted once: the input of every group's encoder.

    numbers: shape (n_rows, n_numbers), C order: all but the strings, in declared order.
    codes: shape (n_rows, n_strings): index into that feature's `words`, -1 where null.
    """

    features: tuple[Feature, ...]
    numbers: Floats
    codes: Integers
    words: tuple[tuple[str, ...], ...]

    def __len__(self) -> int:
        return len(self.numbers)

    def take(self, rows: npt.NDArray[Any] | slice) -> Columns:
        """Return the rows at these positions, under this mask or in this slice. Consecutive rows share this memory."""
        wanted = rows if isinstance(rows, slice) else as_slice(rows)
        return Columns(self.features, self.numbers[wanted], self.codes[wanted], self.words)

    def select(self, features: tuple[Feature, ...]) -> Columns:
        """These features only, in this order. Raises ContractError if one is missing."""
        if missing := [feature.name for feature in features if feature not in self.features]:
            raise ContractError(
                f"features: expected {missing} among them; got {[feature.name for feature in self.features]}"
            )
        begins, at = {}, 0
        for feature in self.features:
            begins[feature] = at
            at += 0 if feature.type == "string" else len(static_column_names((feature,)))
        numbers = [
            begins[feature] + n
            for feature in features
            if feature.type != "string"
            for n in range(len(_column_names(feature)))
        ]
        texts = [string_features(self.features).index(feature) for feature in string_features(features)]
        return Columns(features, self.numbers[:, numbers], self.codes[:, texts], tuple(self.words[j] for j in texts))


@dataclass(frozen=True)
class Encoder:
    """Encodes one group's features as a matrix. Plain data; equal encoders give equal matrices.

    vocabularies: for each string feature, in declared order, the values that have a column.
    """

    features: tuple[Feature, ...]
    vocabularies: tuple[tuple[str, ...], ...] = ()

    @classmethod
    def learn(cls, columns: Columns) -> Encoder:
        """Fit the encoder on a group's rows.

        Each string feature gets a column for each of its MAX_WORDS most frequent values, equal counts ordered by value.
        """
        return cls(
            columns.features,
            tuple(_most_frequent(columns.codes[:, j], words) for j, words in enumerate(columns.words)),
        )

    @property
    def width(self) -> int:
        """Columns of the matrix."""
        return len(static_column_names(self.features)) + sum(map(len, self.vocabularies))

    def matrix(self, columns: Columns) -> Floats:
        """Return the columns as a matrix, shape (n_rows, width), C order. It may share the memory of `columns`."""
        if not self.vocabularies:
            return columns.numbers
        parts = [columns.numbers]
        for j, vocabulary in enumerate(self.vocabularies):
            place = {word: at for at, word in enumerate(vocabulary)}
            at = np.array([place.get(word, -1) for word in columns.words[j]] + [-1], dtype=np.int64)
            parts.append((at[columns.codes[:, j], None] == np.arange(len(vocabulary))).astype(np.float64))
        return np.concatenate(parts, axis=1)

    def as_data(self) -> dict[str, Any]:
        """Return this encoder as a JSON object."""
        data: dict[str, Any] = {"features": [[feature.name, feature.type] for feature in self.features]}
        return {**data, "words": [list(words) for words in self.vocabularies]} if self.vocabularies else data

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Encoder:
        """Return the encoder from `as_data`. Raises KeyError, TypeError or ValueError for any other object."""
        features = tuple(Feature(str(name), str(type_)) for name, type_ in data["features"])
        words = tuple(tuple(map(str, vocabulary)) for vocabulary in data.get("words", ()))
        if len(words) != len(string_features(features)):
            raise ValueError(f"{len(string_features(features))} string features but {len(words)} vocabularies")
        return cls(features, words)


def as_slice(rows: npt.NDArray[Any]) -> npt.NDArray[Any] | slice:
    """Positions as a slice if they are consecutive, since a slice of an array copies nothing; else as they are."""
    if rows.dtype == np.bool_ or not len(rows) or int(rows[-1]) - int(rows[0]) + 1 != len(rows):
        return rows
    return slice(int(rows[0]), int(rows[-1]) + 1) if rows[0] >= 0 and (np.diff(rows) == 1).all() else rows


def to_columns(frame: pd.DataFrame, features: Sequence[Feature]) -> Columns:
    """Convert a frame's features to Columns. The frame may have other columns and is left unchanged.

    Raises ContractError if a feature is missing, of an unknown type, or has a value that its type does not allow.
    """
    features = tuple(features)
    require_features(list(frame.columns), features)
    numbers = [part for feature in features if feature.type != "string" for part in _converted(frame, feature)]
    factors = [_factorized(frame[feature.name]) for feature in string_features(features)]
    return Columns(
        features,
        np.column_stack(numbers) if numbers else np.empty((len(frame), 0)),
        np.column_stack([codes for codes, _ in factors]) if factors else np.empty((len(frame), 0), dtype=np.int64),
        tuple(words for _, words in factors),
    )


def require_features(columns: Sequence[str], features: Sequence[Feature]) -> None:
    """Raise ContractError if a feature is not among the columns."""
    if missing := [feature.name for feature in features if feature.name not in columns]:
        raise ContractError(f"features: expected {missing} as columns; got {list(columns)}")


@lru_cache(maxsize=64)
def static_column_names(features: tuple[Feature, ...]) -> tuple[str, ...]:
    """Return the names of the matrix' columns that are the same in every group: all but those of strings."""
    return tuple(name for feature in features for name in _column_names(feature))


@lru_cache(maxsize=64)
def string_features(features: tuple[Feature, ...]) -> tuple[Feature, ...]:
    """Return the features of type string, in declared order."""
    return tuple(feature for feature in features if feature.type == "string")


def to_float64(values: pd.Series[Any]) -> Floats:
    """Numbers, booleans or decimals as float64: null, NaN and infinity become NaN, minus zero becomes zero."""
    out = values.to_numpy(dtype=np.float64, na_value=np.nan, copy=True) + 0.0
    out[~np.isfinite(out)] = np.nan
    return out


def to_microseconds(values: pd.Series[Any]) -> Integers:
    """Timestamps or dates as microseconds since 1970 in UTC, NULL_TIME where null. Naive ones are read as UTC."""
    if isinstance(values.dtype, pd.DatetimeTZDtype):
        values = values.dt.tz_convert("UTC").dt.tz_localize(None)
    if isinstance(values.dtype, np.dtype) and values.dtype.kind == "M":
        return values.to_numpy().astype("datetime64[us]").astype(np.int64)
    return np.array([_naive(value) for value in values], dtype="datetime64[us]").astype(np.int64)


def minutes_of_week(cycle_columns: Floats) -> Integers:
    """Decode the minute of the week, from Monday 00:00 UTC, of an encoded timestamp or date; -1 if it is missing.

    cycle_columns: shape (n_rows, 6) of a timestamp, (n_rows, 4) of a date, as `to_columns` makes them.
    """
    steps = dict(_CYCLES)
    cycles = ("minute_of_day", "day_of_week") if cycle_columns.shape[1] == 6 else ("day_of_week",)
    missing = np.isnan(cycle_columns).any(axis=1)
    of = {}
    for at, name in enumerate(cycles):
        sine, cosine = (
            np.where(missing, 0.0, cycle_columns[:, 2 * at]),
            np.where(missing, 1.0, cycle_columns[:, 2 * at + 1]),
        )
        of[name] = np.rint(np.arctan2(sine, cosine) / (2 * math.pi) * steps[name]).astype(np.int64) % steps[name]
    minutes = of["day_of_week"] * steps["minute_of_day"] + of.get(
        "minute_of_day", np.zeros(len(cycle_columns), np.int64)
    )
    return np.where(missing, -1, minutes)


def _naive(value: object) -> datetime | date | None:
    if value is None or value is pd.NaT or value is pd.NA or value != value:  # noqa: PLR0124 - NaN
        return None
    if isinstance(value, datetime):  # a pandas Timestamp too
        return value.astimezone(UTC).replace(tzinfo=None) if value.tzinfo else value
    if isinstance(value, date):
        return value
    raise TypeError(f"expected a timestamp or date; got {type(value).__name__}")


def _converted(frame: pd.DataFrame, feature: Feature) -> list[Floats]:
    kind = encoding_kind(feature)
    try:
        if kind == "number":
            return [to_float64(frame[feature.name])]
        return encode_times(to_microseconds(frame[feature.name]), with_minutes=kind == "timestamp")
    except (TypeError, ValueError, OverflowError) as error:
        raise ContractError(f"feature {feature.name}: expected {feature.type}; got {error}") from error


def encoding_kind(feature: Feature) -> str:
    """Return number, timestamp or date. Raises ContractError for a type that no feature has; not for strings."""
    plain = feature.type.partition("(")[0]
    if plain in {"boolean", "tinyint", "smallint", "int", "bigint", "float", "double", "decimal"}:
        return "number"
    if plain in {"timestamp", "date"}:
        return plain
    raise ContractError(
        f"feature {feature.name}: expected a number, boolean, string, date or timestamp; got {feature.type}"
    )


def _column_names(feature: Feature) -> tuple[str, ...]:
    if feature.type == "string":
        return ()
    if encoding_kind(feature) == "number":
        return (feature.name,)
    cycles = _CYCLES if feature.type == "timestamp" else _CYCLES[1:]
    return tuple(f"{feature.name}.{cycle}.{part}" for cycle, _ in cycles for part in ("sin", "cos"))


def encode_times(times: Integers, *, with_minutes: bool) -> list[Floats]:
    """Return the cyclic columns of timestamps: a sine and a cosine for each period, which are day, week and year.

    times: microseconds since 1970, NULL_TIME: missing. with_minutes: False for dates, which have no time of day.
    """
    null = times == NULL_TIME
    days = np.where(null, 0, times // DAY_US)
    stamps = days.astype("datetime64[D]")
    steps: dict[str, Callable[[], Integers]] = {
        "minute_of_day": lambda: (times - days * DAY_US) // _MINUTE_US,
        "day_of_week": lambda: (days + 3) % 7,  # 1970 began on a Thursday
        "day_of_year": lambda: (stamps - stamps.astype("datetime64[Y]").astype("datetime64[D]")).astype(np.int64),
    }
    if not with_minutes:
        del steps["minute_of_day"]
    pairs = [_TABLES[name][np.where(null, -1, step())] for name, step in steps.items()]
    return [pair[:, part] for pair in pairs for part in (0, 1)]


def _factorized(values: pd.Series[Any]) -> tuple[Integers, tuple[str, ...]]:
    codes, words = pd.factorize(values.to_numpy(dtype=object))
    return codes.astype(np.int64), tuple(map(str, words))


def _most_frequent(codes: Integers, words: Sequence[str]) -> tuple[str, ...]:
    present_codes, counts = np.unique(codes[codes >= 0], return_counts=True)
    ranked = sorted(
        zip(counts.tolist(), present_codes.tolist(), strict=True), key=lambda pair: (-pair[0], words[pair[1]])
    )
    return tuple(words[code] for _, code in ranked[:MAX_WORDS])
