"""Fit requests: which groups a task fits, and the champions that their challengers are compared with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from schemas import tables
from spinney.core.arrow_types import arrow_type
from spinney.tables.arrow_schemas import arrow_schema
from spinney.tables.snapshot import Wanted, wanted_of

REQUEST = pa.schema(
    [("shard", pa.int32()), ("group_key", pa.string()), ("champion_id", pa.string()), ("events", pa.int64())]
)
"""A fit request as it travels. events: of the window, as the plan counted them; null where it did not."""

CHAMPION = {
    "champion_id": "string",
    "champion_codec": "string",
    "champion_payload": "binary",
    "champion_signature": "binary",
    "champion_trained_through": "timestamp",
    "champion_recipe_id": "string",
}
"""What a fit is told of the champion that its challenger is compared with."""

AT_ONCE_BYTES = 256 << 20
"""Payloads of one task that are read together; more are read block by block."""

_STORED = ("group_key", "model_id", "codec", "payload", "signature", "trained_through", "recipe_id", "fitted_at")
_TYPES = pa.schema([(name, arrow_schema(tables.MODELS).field(name).type) for name in _STORED])


def written(requests: pa.Table) -> bytes:
    """Requests as one value of a Spark row."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, REQUEST) as writer:
        writer.write_table(requests.cast(REQUEST))
    return bytes(sink.getvalue().to_pybytes())


def wanted(requests: pa.Table, shards: int) -> Wanted:
    """Which rows of the tables these requests need. shards: the fleet's number of them."""
    return wanted_of(requests.column("group_key").to_pylist(), shards)


def read(value: bytes) -> pa.Table:
    return pa.ipc.open_stream(value).read_all()


@dataclass(frozen=True)
class _Hit:
    """Rows of one row group that are of wanted champions. rows: their places in it. bytes: of their payloads, about."""

    path: str
    row_group: int
    rows: np.ndarray
    champions: np.ndarray
    bytes: int


class Champions:
    """The stored champions of some requests.

    Where many models are stored most are of older rounds: row groups without a wanted model_id are left unread but for
    that column. Payloads that do not fit into memory together are read block by block.
    """

    def __init__(self, files: Sequence[str], requests: pa.Table) -> None:
        """files: of `models`, that may hold the requests' shards."""
        self._keys = requests.column("group_key").combine_chunks()
        self._ids = requests.column("champion_id").combine_chunks()
        names = self._ids.drop_null()
        self._hits = list(_hits(files, self._ids, names)) if len(names) else []
        self._whole = self._read(self._hits) if sum(hit.bytes for hit in self._hits) <= AT_ONCE_BYTES else None

    def of(self, first: int, stop: int) -> pa.Table:
        """group_key and the columns CHAMPION of the requests first to stop; null where no champion is stored."""
        keys, ids = self._keys.slice(first, stop - first), self._ids.slice(first, stop - first)
        stored = self._read(self._within(first, stop)) if self._whole is None else self._whole
        # A model_id covers the group's key, but a row can claim another's: both must be the request's.
        place = pc.index_in(ids, value_set=stored.column("model_id").combine_chunks(), skip_nulls=True)
        same_group = pc.equal(stored.column("group_key").take(place), keys)
        found = stored.take(pc.if_else(same_group, place, None))
        columns = {name: found.column(name.removeprefix("champion_")) for name in CHAMPION if name != "champion_id"}
        known = pc.if_else(found.column("model_id").is_valid(), ids, None)
        schema = pa.schema([("group_key", pa.string()), *((name, arrow_type(of)) for name, of in CHAMPION.items())])
        return pa.table({"group_key": keys, "champion_id": known, **columns}, schema=schema)

    def _within(self, first: int, stop: int) -> list[_Hit]:
        chosen = []
        for hit in self._hits:
            mine = (hit.champions >= first) & (hit.champions < stop)
            if mine.any():
                chosen.append(_Hit(hit.path, hit.row_group, hit.rows[mine], hit.champions[mine], hit.bytes))
        return chosen

    def _read(self, hits: list[_Hit]) -> pa.Table:
        """One row per model_id: the newest, which has its latest signature; the key may have been another before."""
        parts = [_TYPES.empty_table()]
        for hit in hits:
            with pq.ParquetFile(hit.path, coerce_int96_timestamp_unit="us") as file:
                rows = file.read_row_group(hit.row_group, columns=list(_STORED)).take(pa.array(hit.rows))
            parts.append(pa.table([rows.column(each.name).cast(each.type) for each in _TYPES], schema=_TYPES))
        rows = pa.concat_tables(parts)
        order = pc.sort_indices(rows, sort_keys=[("fitted_at", "descending")])
        names = rows.column("model_id").take(order)
        newest = ~pd.Series(names.to_pylist(), dtype=object).duplicated().to_numpy()
        return rows.take(order.filter(pa.array(newest)))


def _hits(files: Sequence[str], ids: pa.Array, names: pa.Array) -> Iterator[_Hit]:
    places = {name: at for at, name in enumerate(ids.to_pylist()) if name is not None}
    for path in files:
        with pq.ParquetFile(path, coerce_int96_timestamp_unit="us") as file:
            payload = file.schema_arrow.get_field_index("payload")
            for number in range(file.num_row_groups):
                stored = file.read_row_group(number, columns=["model_id"]).column(0).cast(pa.string())
                rows = np.flatnonzero(pc.is_in(stored, value_set=names).to_numpy())
                if len(rows):
                    found = stored.take(pa.array(rows)).to_pylist()
                    group = file.metadata.row_group(number)
                    size = group.column(payload).total_uncompressed_size * len(rows) // max(group.num_rows, 1)
                    yield _Hit(path, number, rows, np.array([places[name] for name in found]), size)
