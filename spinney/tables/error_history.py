"""Mean errors over time from the sums in `health`, of all groups or of one."""

from __future__ import annotations

from datetime import datetime, timedelta

import pyarrow as pa
import pyarrow.compute as pc

from schemas import tables
from spinney.core import timestamps
from spinney.storage.layout import FleetStore
from spinney.tables import lookup
from spinney.tables.lookup import RowFilter

SCHEMA = pa.schema(
    [("group_key", pa.string()), ("bucket", pa.int64()), ("labelled", pa.int64()), ("loss", pa.float64())]
)
"""What `read_error_history` returns: sums of the labelled rows and of their losses."""

_MICROSECONDS = "arrow_cast(\"last_event_time\", 'Int64')"
_COLUMNS = ("group_key", "model_id", "labelled", "loss", "last_event_time")
_COUNTED = "group_key IS NOT NULL AND model_id IS NOT NULL AND labelled > 0"
"""Rows that add to a mean error. A row without a model_id has labels without a finite loss."""


def labelled_times(store: FleetStore) -> tuple[datetime, datetime] | None:
    """Return the least and greatest event time that labelled rows of `health` have; None without any.

    Raises StoreError when the table was never made.
    """
    ends = f"min({_MICROSECONDS}) AS first, max({_MICROSECONDS}) AS last"
    (found,) = lookup.select(store, tables.HEALTH, _COLUMNS, ends, f"WHERE {_COUNTED}").to_pylist()
    first, last = found["first"], found["last"]
    return None if first is None else (timestamps.from_microseconds(first), timestamps.from_microseconds(last))


def read_error_history(store: FleetStore, first: datetime, step: timedelta, n_buckets: int) -> pa.Table:
    """Return the sums of each group in each bucket of event time: SCHEMA, in no order.

    Bucket b holds the rows with last_event_time from first + b * step on, and before the next one's; earlier and later
    rows are left out. The table is added up while it is read, so memory is that of the result. Raises StoreError when
    the table was never made.
    """
    since, width = timestamps.to_microseconds(first), step // timedelta(microseconds=1)
    bucket = f"({_MICROSECONDS} - {since}) / {width}"
    where = f"{_COUNTED} AND {_MICROSECONDS} >= {since} AND {_MICROSECONDS} < {since + width * n_buckets}"
    what = f"group_key, {bucket} AS bucket, sum(labelled) AS labelled, sum(loss) AS loss"
    grouped = f"WHERE {where} GROUP BY group_key, {bucket}"
    return lookup.select(store, tables.HEALTH, _COLUMNS, what, grouped).cast(SCHEMA)


def read_group_errors(store: FleetStore, group_key: str) -> pa.Table:
    """Return the rows of `health` of one group that count: model_id, labelled, loss, last_event_time; in no order.

    Raises StoreError when the table was never made.
    """
    columns = ("model_id", "labelled", "loss", "last_event_time")
    rows = lookup.read_rows(store, tables.HEALTH, columns, RowFilter.of_groups([group_key]))
    return rows.filter(pc.and_(pc.is_valid(rows.column("model_id")), pc.greater(rows.column("labelled"), 0)))
