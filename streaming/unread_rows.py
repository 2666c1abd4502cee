"""Find out when rows that `labels` has not read yet may have arrived, which decides what its index may forget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from schemas import tables
from schemas.vocabulary import QueryName
from spinney.storage import checkpoints
from spinney.storage.layout import FleetStore
from spinney.tables.stream_reading import TableOffset, has_unread_files

SOURCES = ((tables.PREDICTIONS, QueryName.SCORE.value), (tables.OUTCOMES, QueryName.INGEST.value))
"""The tables that `labels` reads, in the order of its sources, and the queries that write them."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class UnreadRows:
    """The arrival of rows that were not read yet.

    arrive_after: a table without rows in the batch was read up to this time or a little before it; its unread rows
    arrive later. in_order: whether the unread rows of the other tables come in the order of their arrival.
    """

    arrive_after: datetime
    in_order: bool


def unread_rows(
    store: FleetStore, ends: Sequence[str | None], began: datetime, is_silent: tuple[bool, bool]
) -> UnreadRows:
    """Return the time after which unread rows arrive, and whether they are in order, after a batch of `labels`.

    ends: the end offsets of the batch. began: its timestamp. is_silent: for each table, whether it had no rows in the
    batch. ends and is_silent are in the order of SOURCES.

    A table without rows in the batch was read to its end, unless the batch reads to an end that was fixed before, as
    with `--once`. Rows that its query writes from now on have the timestamps of later batches, or of a batch that was
    started and has not ended, which may be repeated days later.

    A stream begins with all files of the table. These may have been merged, so their rows come in any order.
    """
    offsets = [None if end is None else TableOffset.parse(end) for end in ends]
    in_order = not any(offset is not None and offset.is_snapshot for offset in offsets)
    arrive_after = began
    for (contract, query), offset, silent in zip(SOURCES, offsets, is_silent, strict=True):
        if silent:
            # In this order: a batch that ends between the two has its files in the log.
            unfinished = checkpoints.unfinished_since(store.checkpoint(query))
            has_unread = has_unread_files(store.directory(contract), offset)
            arrive_after = EPOCH if has_unread else min(arrive_after, unfinished or began)
    return UnreadRows(arrive_after, in_order)
