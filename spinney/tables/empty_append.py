"""Append a file without rows, so that a streaming query that reads the table sees new data and runs a batch."""

from __future__ import annotations

import json
import time
import uuid

import pyarrow.parquet as pq
from deltalake.transaction import AddAction

from spinney.storage.atomic_files import local_folder
from spinney.storage.layout import Directory
from spinney.tables.arrow_schemas import arrow_schema
from spinney.tables.delta import DirectoryWriter

STEP = "no_rows"
"""Name of the step in such a commit."""


def append_no_rows(directory: Directory, query: str, checkpoint: str) -> None:
    """Commit a file without rows. `spinney tidy` puts it together with others.

    directory: its table has no partitions. query, checkpoint: of the process that writes the directory. Raises
    StoreError as DirectoryWriter does.
    """
    writer = DirectoryWriter(directory, query, checkpoint)
    file = local_folder(directory.uri) / f"part-{uuid.uuid4()}.parquet"
    pq.write_table(arrow_schema(directory.contract).empty_table(), file)
    added = AddAction(file.name, file.stat().st_size, {}, int(time.time() * 1000), True, json.dumps({"numRecords": 0}))
    writer.append_unrepeated_files([added], STEP)
