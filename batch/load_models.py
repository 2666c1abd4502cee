"""Import existing scikit-learn models as first champions, from an index file: load, try and store each.

Importing a model twice adds nothing. Needs neither Spark nor Kafka.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from spinney.core import keys
from spinney.core.config import Config, Fleet
from spinney.core.errors import MAX_ERROR_CHARACTERS, ContractError, Corrupt, StoreError
from spinney.core.recipes.recipe import Recipe
from spinney.operations import model_import
from spinney.operations.interventions import Attribution
from spinney.operations.model_file_reading import ModelSource
from spinney.operations.model_import import ImportOutcome, ImportRequest, ImportResult, PreparedModel
from spinney.storage import signing_key
from spinney.storage.layout import FleetStore
from spinney.tables import delta

MODEL, THROUGH, ROWS = "model", "trained_through", "rows"
GROUPS_AT_ONCE, MODELS_PER_WRITE = 5_000, 100
"""Number of groups whose stored rows are read together, and number of models stored in one commit."""


def load_models(
    config: Config, index: str, attribution: Attribution, *, allow_pickle: bool = False, dry_run: bool = False
) -> list[ImportResult]:
    """Import the models of an index. Returns one result per line, in order.

    index: a CSV, JSON lines or Parquet file with the group's columns, `model` (an MLflow URI, or a path relative to the
    index's folder) and, if known, `trained_through` and `rows`. allow_pickle: whether pickles may be read; this runs
    code from the file, even in a dry run.

    Raises StoreError if the file does not exist, or if the fleet runs on event time and no event is stored. Raises
    ContractError for an invalid line; then nothing is stored. Raises Busy while another person's change is being
    written.
    """
    wanted = read_index(config.fleet, Path(index))
    source = ModelSource(Path(index).parent, config.tracking.uri, allow_pickle)
    store = FleetStore.of(config)
    recipe, signer = Recipe.of(config), signing_key.load_signer(store)
    if not dry_run:
        delta.create_tables(store)
    results: list[ImportResult] = []
    for many in _in_parts(wanted, GROUPS_AT_ONCE):
        clock, rows = (
            model_import.require_fleet_clock(store),
            model_import.sample_rows(store, [request.group_key for request in many]),
        )
        for some in _in_parts(many, MODELS_PER_WRITE):
            models: list[PreparedModel] = []
            refused: dict[str, ImportResult] = {}
            for request in some:
                try:
                    model_import.refuse_future_training(request, clock)
                    models.append(
                        model_import.prepare_model(request, rows.get(request.group_key), recipe, signer, source)
                    )
                except (ContractError, Corrupt) as error:
                    why = str(error)[:MAX_ERROR_CHARACTERS]
                    refused[request.group_key] = ImportResult(
                        request.group_key, request.named, ImportOutcome.REFUSED, why=why
                    )
            done = model_import.store_models(store, signer, models, attribution, clock, dry_run=dry_run)
            stored = {result.group_key: result for result in done}
            results += [{**stored, **refused}[request.group_key] for request in some]
    return results


def _in_parts(wanted: Sequence[ImportRequest], size: int) -> Iterator[Sequence[ImportRequest]]:
    return (wanted[start : start + size] for start in range(0, len(wanted), size))


def read_index(fleet: Fleet, file: Path) -> list[ImportRequest]:
    """Return the lines of an index. Raises StoreError: no such file; ContractError: an invalid line."""
    group = fleet.group
    needed = ", ".join((*group, MODEL))
    if not file.is_file():
        raise StoreError(
            f"load --models: {file}: expected an index file, CSV, JSON lines or Parquet, with columns {needed}; got "
            f"{'a folder' if file.is_dir() else 'nothing there'}. Write one: each line names a group and its model"
        )
    lines = list(_lines(file))
    if lacking := [name for name in (*group, MODEL) if lines and name not in lines[0]]:
        raise ContractError(f"load --models: {file}: expected columns {needed}; got none of {', '.join(lacking)}")
    types = {name: fleet.type_of(name) or "string" for name in group}
    wanted = [_parse_line(f"load --models: {file}, line {at}", line, types) for at, line in enumerate(lines, 1)]
    seen: set[str] = set()
    for request in wanted:
        if request.group_key in seen:
            raise ContractError(
                f"load --models: {file}: group {request.group_key}: expected it in one line; got several"
            )
        seen.add(request.group_key)
    return wanted


def _lines(file: Path) -> Iterator[Mapping[str, Any]]:
    """Yield the values of each line: texts for CSV, None for an empty one."""
    try:
        if file.suffix == ".parquet":
            yield from pq.read_table(file).to_pylist()
        elif file.suffix == ".csv":
            with file.open(encoding="utf-8-sig", newline="") as text:
                yield from ({name: value or None for name, value in line.items()} for line in csv.DictReader(text))
        elif file.suffix in (".jsonl", ".json", ".ndjson"):
            yield from map(_object, filter(str.strip, file.read_text(encoding="utf-8").splitlines()))
        else:
            raise ContractError(f"load --models: {file}: expected .csv, .jsonl or .parquet; got {file.suffix!r}")
    except (ValueError, pa.ArrowException, OSError) as error:
        raise ContractError(f"load --models: {file}: expected lines that can be read; got {error}") from error


def _object(text: str) -> Mapping[str, Any]:
    value = json.loads(text)
    if not isinstance(value, dict):
        raise ValueError(f"no JSON object: {text[:40]}")
    return value


def _parse_line(where: str, line: Mapping[str, Any], types: Mapping[str, str]) -> ImportRequest:
    values = [_value(where, line, name, _KEYS.get(kind, _whole)) for name, kind in types.items()]
    named = _value(where, line, MODEL, _text)
    through = None if line.get(THROUGH) is None else _value(where, line, THROUGH, _parse_time)
    rows = None if line.get(ROWS) is None else _value(where, line, ROWS, _whole)
    return ImportRequest(keys.encode(values), named, through, rows)


def _value(where: str, line: Mapping[str, Any], name: str, read: Callable[[Any], Any]) -> Any:
    try:
        return read(line.get(name))
    except (TypeError, ValueError, KeyError) as error:
        kind = read.__name__.strip("_")
        raise ContractError(f"{where}: column {name}: expected a {kind}; got {line.get(name)!r}") from error


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("no text")
    return value


def _whole(value: Any) -> int:
    """Return an integer. int() alone would accept 1.5 and true."""
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise TypeError("no whole number")
    return int(value)


def _boolean(value: Any) -> bool:
    if isinstance(value, str):
        return {"true": True, "false": False}[value.lower()]
    if not isinstance(value, bool):
        raise TypeError("no boolean")
    return value


def _date(value: Any) -> date:
    return value if type(value) is date else date.fromisoformat(value)


def _parse_time(value: Any) -> datetime:
    """Return a time, in UTC if it has no zone."""
    at = value if isinstance(value, datetime) else datetime.fromisoformat(value)
    return at if at.tzinfo else at.replace(tzinfo=UTC)


_KEYS: Mapping[str, Callable[[Any], Any]] = {"string": _text, "boolean": _boolean, "date": _date}
