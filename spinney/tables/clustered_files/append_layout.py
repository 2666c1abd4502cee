"""Lays out the rows of a large append, so that a lookup of a group reads a part of the file.

delta-rs writes up to a million rows into one row group, and a lookup then decodes the key of every row. With row groups
sorted by shard, statistics exclude all but one or two of them: at 50,000 rows a lookup takes half the CPU.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, WriterProperties, write_deltalake

from spinney.tables.clustered_files.sorted_file_writing import ROW_GROUP_ROWS

_SHARD = "shard"


def append_rows(target: DeltaTable | str, rows: pa.Table, commit: CommitProperties | None = None) -> None:
    """Append rows to a table. Rows that fill more than one row group are sorted by shard.

    target: an opened table, or its location.
    """
    properties = None
    if len(rows) > ROW_GROUP_ROWS and _SHARD in rows.column_names:
        # deltalake compresses by default, but not if it is given properties that do not say so.
        properties = WriterProperties(max_row_group_size=ROW_GROUP_ROWS, compression="SNAPPY")
        rows = sorted_by_shard(rows)
    write_deltalake(target, rows, mode="append", commit_properties=commit, writer_properties=properties)


def sorted_by_shard(rows: pa.Table) -> pa.Table:
    """Return the rows in the order of their shards; rows of one shard keep their order."""
    shards = rows.column(_SHARD).to_numpy()
    if np.all(shards[1:] >= shards[:-1]):
        return rows
    return rows.take(pa.array(np.argsort(shards, kind="stable")))
