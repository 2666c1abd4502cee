"""The tables `events` and `outcomes` of a fleet, read as files: with the names that messages have for their columns."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa

from schemas.tables import EVENTS, OUTCOMES
from spinney.core.errors import ContractError
from spinney.sources.row_batch import DataFile, RowBatch

_CHARTER = "charter.json"
_GROUP_KEY, _EVENT_ID = "group_key", "event_id"


def with_message_names(table: DataFile, folder: Path, names: Mapping[str, str]) -> DataFile:
    """Return a fleet's table with the column names that messages have. Any other Delta table is returned unchanged.

    Columns that messages do not have are left out. Outcomes get the columns of the group, as texts, from their keys.

    folder: the table's folder. names: column in tables → field in messages. Raises ContractError for outcomes if the
    fleet's charter is not found beside the tables.
    """
    columns = table.columns or {}
    if {*OUTCOMES.names} <= columns.keys():
        group = [names.get(name, name) for name in _group_of(table.name, folder)]
    elif {*EVENTS.names} <= columns.keys():
        group = []
    else:
        return table
    renamed = {name: names[name] for name in columns if name in names}
    # Where the id is the time, the id's text is the message's.
    stored = {field: name for name, field in sorted(renamed.items(), key=lambda item: item[0] == _EVENT_ID)}
    fields = {field: columns[name] for field, name in stored.items()} | dict.fromkeys(group, pa.string())

    def read(only: Sequence[str] | None) -> Iterator[RowBatch]:
        wanted = [field for field in fields if only is None or field in only]
        keys = [_GROUP_KEY] if set(wanted) & set(group) else []
        for batch in table.read([*(stored[field] for field in wanted if field in stored), *keys]):
            yield _renamed(batch, wanted, stored, group)

    return replace(table, columns=fields, read=read)


def _renamed(batch: RowBatch, wanted: Sequence[str], stored: Mapping[str, str], group: Sequence[str]) -> RowBatch:
    """Return the wanted fields of a batch. stored: field → column. group: the fields that are parts of the key."""
    assert batch.columns is not None, "of a Delta table"
    parts = {}
    if set(wanted) & set(group):
        keys = [json.loads(key) for key in batch.columns.column(_GROUP_KEY).to_pylist()]
        parts = {field: pa.array([key[at] for key in keys], pa.string()) for at, field in enumerate(group)}
    columns = [parts[field] if field in parts else batch.columns.column(stored[field]) for field in wanted]
    return replace(batch, columns=pa.RecordBatch.from_arrays(columns, list(wanted)), texts=frozenset(parts))


def _group_of(name: str, folder: Path) -> list[str]:
    """Return the group columns of the fleet that owns a table, read from the fleet's charter.

    name: the table's name for messages. folder: the table's folder. Raises ContractError if the charter cannot be read.
    """
    charter = folder.resolve().parents[1] / _CHARTER
    try:
        group: list[str] = json.loads(charter.read_text())["fixed"]["fleet.group"]
    except (OSError, ValueError, KeyError) as error:
        raise ContractError(
            f"{name}: expected the table `outcomes` of a fleet, with the fleet's {_CHARTER} two folders above; got: "
            f"{error}. Name the table where the fleet has it"
        ) from error
    return group
