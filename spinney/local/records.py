"""Records of a file, ready to send: Parquet, CSV or JSON lines to (key, value, event time)."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from spinney.core import keys
from spinney.core.config import Config
from spinney.core.config.values import INTEGERS
from spinney.core.errors import ContractError

BATCH_ROWS = 10_000
SUFFIXES = (".parquet", ".csv", ".jsonl", ".ndjson", ".json")
_ARROW = {
    "string": pa.string(),
    "boolean": pa.bool_(),
    **dict.fromkeys(INTEGERS, pa.int64()),
    "float": pa.float64(),
    "double": pa.float64(),
    "date": pa.string(),
    "timestamp": pa.string(),
}


@dataclass(frozen=True)
class Record:
    """One message. time: UTC, the event's own or when an outcome was observed; None where the row has none."""

    key: bytes
    value: bytes
    time: datetime | None


def count(source: Path) -> int | None:
    """Return how many rows a Parquet file has; None for other files, which would have to be read."""
    return int(pa.parquet.ParquetFile(source).metadata.num_rows) if source.suffix.lower() == ".parquet" else None


def rows(source: Path, config: Config) -> Iterator[dict[str, Any]]:
    """Yield the rows of a file as they stand, column to value; CSV by the declared types, so that "007" stays text.

    Raises ContractError: another kind of file, or one that is not what its name says.
    """
    suffix = source.suffix.lower()
    if suffix not in SUFFIXES:
        raise ContractError(
            f"{source}: expected a file that ends in {', '.join(SUFFIXES)}; got {suffix or 'no ending'}"
        )
    if not source.is_file():
        raise ContractError(f"{source}: expected a file to read; there is none")
    try:
        if suffix == ".parquet":
            for batch in pa.parquet.ParquetFile(source).iter_batches(batch_size=BATCH_ROWS):
                yield from batch.to_pylist()
        elif suffix == ".csv":
            yield from _csv(source, config)
        else:
            yield from _json_lines(source)
    except pa.ArrowException as error:
        raise ContractError(f"{source}: expected {suffix[1:]}; got: {str(error)[:300]}") from error


def record(row: Mapping[str, Any], config: Config, time_column: str) -> Record:
    """Return the message of a row, every field of it.

    Raises ContractError: no key can be made of it. ValueError: a value that JSON cannot say.
    """
    key = group_key(row, config)
    value = {name: json_value(part, config.fleet.type_of(name)) for name, part in row.items()}
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return Record(key.encode(), text.encode(), instant(row.get(time_column)))


def group_key(row: Mapping[str, Any], config: Config) -> str:
    """Return the key of a row's group. Raises ContractError: a column of it is missing, or no key can be made of it."""
    types = {name: config.fleet.type_of(name) for name in config.fleet.group}
    missing = [name for name in types if name not in row]
    if missing:
        raise ContractError(f"column {missing[0]}: expected in every row, as part of the group; got {sorted(row)}")
    return keys.encode([_key_part(json_value(row[name], kind), kind) for name, kind in types.items()])


def json_value(value: Any, declared: str | None) -> Any:
    """Return `value` as JSON has it: times as ISO 8601 in UTC with Z, NaN as null.

    declared: the column's type; None for one that is not declared.
    Raises ValueError: an infinite number, bytes, or anything else that JSON cannot say.
    """
    if declared == "timestamp":
        at = instant(value)
        return value if at is None else at.isoformat().replace("+00:00", "Z")
    if isinstance(value, datetime):
        return json_value(value, "timestamp")
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Decimal):
        value = int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, float):
        return _number(value, declared)
    if isinstance(value, bytes):
        raise ValueError(f"bytes of length {len(value)}: expected text or a number")
    return value


def _number(value: float, declared: str | None) -> float | int | None:
    if math.isnan(value):
        return None
    if math.isinf(value):
        raise ValueError("an infinite number: expected a finite one")
    return int(value) if declared in INTEGERS and value.is_integer() else value


def _key_part(value: Any, declared: str | None) -> Any:
    """A row of the wrong type still gets a key: it is for the stream to reject it, with its reason."""
    if isinstance(value, float) or (declared == "string" and value is not None):
        return str(value)
    return json.dumps(value) if isinstance(value, (list, dict)) else value


def instant(value: Any) -> datetime | None:
    """Return a time, or an ISO 8601 text of one, in UTC; None for anything else."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return None
    if not isinstance(value, datetime):
        return None
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def _csv(source: Path, config: Config) -> Iterator[dict[str, Any]]:
    fleet = config.fleet
    names = {*fleet.columns, fleet.event_id, fleet.event_time, "observed_at"}
    types = {name: _ARROW.get(fleet.type_of(name) or "timestamp", pa.float64()) for name in names}
    convert = pa.csv.ConvertOptions(column_types=types, null_values=["", "NA", "null"], strings_can_be_null=True)
    with pa.csv.open_csv(source, convert_options=convert) as batches:
        for batch in batches:
            yield from batch.to_pylist()


def _json_lines(source: Path) -> Iterator[dict[str, Any]]:
    with source.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                raise ContractError(f"{source}:{number}: expected a JSON object on each line; got: {error}") from error
            if not isinstance(row, dict):
                raise ContractError(f"{source}:{number}: expected a JSON object; got a {type(row).__name__}")
            yield row
