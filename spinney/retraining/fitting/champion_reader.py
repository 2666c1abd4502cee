"""Read the stored champions that challengers are compared with, and their predecessors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from schemas import tables
from spinney.core.arrow_types import arrow_type
from spinney.retraining.fitting.fit_request_table import CHAMPION_TYPES, PREDECESSOR_TYPES, STORED_MODEL_TYPES
from spinney.tables.arrow_schemas import arrow_schema

MAX_HELD_PAYLOAD_BYTES = 256 << 20
"""Up to this many bytes of payloads per task are read at once. If there are more, they are read block by block."""

_STORED = (
    "group_key", "model_id", "codec", "payload", "signature", "trained_through", "recipe_id", "fitted_at",
    "heldout_losses", "heldout_predictions", "prequential_losses",
)  # fmt: skip
_COLUMNS_OF_ROLE = {
    role: tuple(name for name in types if name != f"{role}_id")
    for role, types in (("champion", CHAMPION_TYPES), ("predecessor", PREDECESSOR_TYPES))
}
_TYPES = pa.schema([(name, arrow_schema(tables.MODELS).field(name).type) for name in _STORED])


@dataclass(frozen=True)
class _ModelRows:
    """The wanted models in one row group of a file.

    rows: their positions in it. requests: the positions of their requests. bytes: of their payloads, estimated.
    """

    path: str
    row_group: int
    rows: np.ndarray
    requests: np.ndarray
    bytes: int


class StoredChampions:
    """Reads the stored champions and predecessors of some requests.

    Most stored models are from older rounds. So only the column model_id is read from all row groups, and the other
    columns only from row groups with a wanted model. Payloads that do not fit into memory together are read block by
    block.
    """

    def __init__(self, files: Sequence[str], requests: pa.Table) -> None:
        """files: files of the table `models` that may have rows of the requests' shards.

        requests: a table with group_key, champion_id and predecessor_id.
        """
        self._keys = requests.column("group_key").combine_chunks()
        self._ids = {role: requests.column(f"{role}_id").combine_chunks() for role in _COLUMNS_OF_ROLE}
        places = {name: at for ids in self._ids.values() for at, name in enumerate(ids.to_pylist()) if name is not None}
        self._row_groups = list(_find_models(files, places)) if places else []
        self._all_rows = (
            self._read(self._row_groups)
            if sum(hit.bytes for hit in self._row_groups) <= MAX_HELD_PAYLOAD_BYTES
            else None
        )

    def of(self, first: int, stop: int) -> pa.Table:
        """Return group_key and STORED_MODEL_TYPES of the requests from `first` to before `stop`; null if no model is
        stored.
        """
        keys = self._keys.slice(first, stop - first)
        stored = self._read(self._within(first, stop)) if self._all_rows is None else self._all_rows
        columns = {"group_key": keys}
        for role, ids in self._ids.items():
            columns |= _columns_of_role(role, keys, ids.slice(first, stop - first), stored)
        kinds = [("group_key", pa.string()), *((name, arrow_type(of)) for name, of in STORED_MODEL_TYPES.items())]
        return pa.table(columns, schema=pa.schema(kinds))

    def _within(self, first: int, stop: int) -> list[_ModelRows]:
        chosen = []
        for hit in self._row_groups:
            is_requested = (hit.requests >= first) & (hit.requests < stop)
            if is_requested.any():
                chosen.append(
                    _ModelRows(hit.path, hit.row_group, hit.rows[is_requested], hit.requests[is_requested], hit.bytes)
                )
        return chosen

    def _read(self, hits: list[_ModelRows]) -> pa.Table:
        """Return one row per model_id, the newest, since a model may have been signed again with another key."""
        parts = [_TYPES.empty_table()]
        for hit in hits:
            with pq.ParquetFile(hit.path, coerce_int96_timestamp_unit="us") as file:
                rows = file.read_row_group(hit.row_group, columns=list(_STORED)).take(pa.array(hit.rows))
            parts.append(pa.table([_stored_column(rows, field) for field in _TYPES], schema=_TYPES))
        rows = pa.concat_tables(parts)
        order = pc.sort_indices(rows, sort_keys=[("fitted_at", "descending")])
        names = rows.column("model_id").take(order)
        newest = ~pd.Series(names.to_pylist(), dtype=object).duplicated().to_numpy()
        return rows.take(order.filter(pa.array(newest)))


def _stored_column(rows: pa.Table, field: pa.Field) -> pa.ChunkedArray:
    """A column of rows of `models`; null where an earlier version wrote them without it."""
    if field.name not in rows.column_names:
        return pa.chunked_array([pa.nulls(rows.num_rows, field.type)])
    return rows.column(field.name).cast(field.type)


def _columns_of_role(role: str, keys: pa.Array, ids: pa.Array, stored: pa.Table) -> dict[str, pa.ChunkedArray]:
    """The columns about the models with these ids. keys: the group of each. stored: rows of `models`."""
    # A model_id is a hash of the group's key too, but a row could have another's: both must match the request.
    position = pc.index_in(ids, value_set=stored.column("model_id").combine_chunks(), skip_nulls=True)
    same_group = pc.equal(stored.column("group_key").take(position), keys)
    matched = stored.take(pc.if_else(same_group, position, None))
    columns = {name: matched.column(name.removeprefix(f"{role}_")) for name in _COLUMNS_OF_ROLE[role]}
    return columns | {f"{role}_id": pc.if_else(matched.column("model_id").is_valid(), ids, None)}


def _find_models(files: Sequence[str], places: Mapping[str, int]) -> Iterator[_ModelRows]:
    """The row groups with wanted models. places: model_id -> position of its request."""
    names = pa.array(places, pa.string())
    for path in files:
        with pq.ParquetFile(path, coerce_int96_timestamp_unit="us") as file:
            payload = file.schema_arrow.get_field_index("payload")
            for number in range(file.num_row_groups):
                stored = file.read_row_group(number, columns=["model_id"]).column(0).cast(pa.string())
                rows = np.flatnonzero(pc.is_in(stored, value_set=names).to_numpy())
                if len(rows):
                    model_ids = stored.take(pa.array(rows)).to_pylist()
                    group = file.metadata.row_group(number)
                    size = group.column(payload).total_uncompressed_size * len(rows) // max(group.num_rows, 1)
                    yield _ModelRows(path, number, rows, np.array([places[name] for name in model_ids]), size)
