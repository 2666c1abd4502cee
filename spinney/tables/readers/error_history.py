"""Read mean errors over time, of all groups or of one group, from the sums in `health`, by the fleet's current loss."""

from __future__ import annotations

from datetime import datetime, timedelta

import pyarrow as pa
import pyarrow.compute as pc

from schemas import tables
from spinney.core import timestamps
from spinney.core.champions.held_out_loss_codec import LOSS_NAME
from spinney.storage import charter
from spinney.storage.layout import FleetStore
from spinney.tables import delta, lookup, table_files
from spinney.tables.lookup import NotAfter, NotBefore, RowFilter
from spinney.tables.readers.loss_function_filter import current_loss_sql, keep_current_loss

SCHEMA = pa.schema(
    [("group_key", pa.string()), ("bucket", pa.int64()), ("labelled", pa.int64()), ("loss", pa.float64())]
)
"""Columns that `read_error_history` returns: the number of labelled rows and the sum of their losses."""

_COLUMNS = ("group_key", "model_id", "labelled", "loss", "last_event_time", LOSS_NAME)
_MICROSECONDS = "arrow_cast(last_event_time, 'Int64')"
_COUNTED = "group_key IS NOT NULL AND model_id IS NOT NULL AND labelled > 0"
"""Condition for rows that count in a mean error. Rows without a model_id have labels without a finite loss."""


def read_time_range(store: FleetStore) -> tuple[datetime, datetime] | None:
    """Return the least and greatest event time in `health`, from its log alone; None where it has no rows.

    The greatest may be a millisecond too late. Raises StoreError if the table does not exist.
    """
    ranges = [
        file.ranges["last_event_time"]
        for directory in store.directories(tables.HEALTH)
        for file in table_files.list_files(delta.open_existing(directory))
        if "last_event_time" in file.ranges
    ]
    return (min(least for least, _ in ranges), max(most for _, most in ranges)) if ranges else None


def read_error_history(store: FleetStore, after: datetime, step: timedelta, n_buckets: int) -> pa.Table:
    """Return the sums of each group in each bucket of event time: SCHEMA, in no order.

    Bucket b holds the rows with a last_event_time in (after + b * step, after + (b + 1) * step]; earlier and later rows
    are left out. Files without such a row are not opened. Rows are added up while they are read, so memory depends only
    on the size of the result. Raises StoreError if the table does not exist.
    """
    since, width = timestamps.to_microseconds(after), step // timedelta(microseconds=1)
    bucket = f"({_MICROSECONDS} - {since + 1}) / {width}"
    first = NotBefore("last_event_time", after + timedelta(microseconds=1))
    last = NotAfter("last_event_time", after + step * n_buckets)
    what = f"group_key, {bucket} AS bucket, sum(labelled) AS labelled, sum(loss) AS loss"
    of_loss = current_loss_sql(charter.losses_of(store))
    grouped = f"WHERE {_COUNTED} AND {of_loss} AND {first} AND {last} GROUP BY group_key, {bucket}"
    return lookup.select(store, tables.HEALTH, _COLUMNS, what, grouped).cast(SCHEMA)


def read_group_errors(store: FleetStore, group_key: str) -> pa.Table:
    """Return the rows of `health` of one group that count: model_id, labelled, loss, last_event_time; in no order.

    Raises StoreError if the table does not exist.
    """
    columns = ("model_id", "labelled", "loss", "last_event_time", LOSS_NAME)
    rows = lookup.read_rows(store, tables.HEALTH, columns, RowFilter.of_groups([group_key]))
    rows = keep_current_loss(rows, charter.losses_of(store))
    return rows.filter(pc.and_(pc.is_valid(rows.column("model_id")), pc.greater(rows.column("labelled"), 0)))
