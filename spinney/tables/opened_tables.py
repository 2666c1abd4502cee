"""Keep tables open, with their queries, in a process that makes many lookups."""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Lock

import pyarrow as pa
from deltalake import DeltaTable, QueryBuilder

from spinney.storage.layout import Directory
from spinney.tables import delta, table_log


class OpenedTables:
    """Opens tables once, and again when something was committed. Safe to use from several threads.

    Opening a table reads its whole log, which takes 10 to 140 ms after some 60 commits. Checking for a newer commit
    takes one call of the file system. A root that is deleted and recreated meanwhile is not noticed.

    clock: returns seconds that never go back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._tables: dict[str, tuple[DeltaTable, float]] = {}
        self._lock = Lock()

    def open(self, directory: Directory) -> DeltaTable:
        """Return the newest version of a directory's table, to be read only. Raises StoreError if it does not exist."""
        with self._lock:
            now = self._clock()
            known, looked_at = self._tables.get(directory.uri, (None, 0.0))
            # After a longer time the commit after the known one may have been removed from the log already.
            is_recent = now - looked_at < delta.REOPEN_AFTER_S
            if known is None or not is_recent or table_log.has_newer_commit(directory, known.version()):
                known = delta.open_existing(directory)
            self._tables[directory.uri] = (known, now)
            return known


_NO_PAGE_INDEX = "SET datafusion.execution.parquet.enable_page_index = false"
"""Turns off DataFusion's page index, since reading it takes a fifth of the CPU of a lookup. In row groups of 10,000
small rows a column has a single page, so the index excludes nothing. It is used for tables whose rows contain models:
there a page is a small part of a row group.
"""

_LARGE = "payload"
"""Column of tables with large rows. These keep the page index."""


def query_of(table: DeltaTable) -> QueryBuilder | None:
    """Return an engine that queries an opened table under the name `t`; None for a table without files."""
    if not table.file_uris():
        return None
    builder = QueryBuilder()
    if all(field.name != _LARGE for field in table.schema().fields):
        pa.RecordBatchReader.from_stream(builder.execute(_NO_PAGE_INDEX)).read_all()
    return builder.register("t", table)


class KeptQueries:
    """Keeps the result of `query_of` for each opened table, so that DataFusion registers a table once.

    Registering takes 10 % of the CPU of a lookup. Safe to use from several threads.
    """

    def __init__(self) -> None:
        self._known: dict[str, tuple[DeltaTable, QueryBuilder | None]] = {}
        self._lock = Lock()

    def of(self, table: DeltaTable) -> QueryBuilder | None:
        """Return `query_of` of the table.

        Another object, such as a newer version of a table, gets a query of its own.
        """
        with self._lock:
            known = self._known.get(table.table_uri)
            if known is None or known[0] is not table:
                known = self._known[table.table_uri] = (table, query_of(table))
            return known[1]
