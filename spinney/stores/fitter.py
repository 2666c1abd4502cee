"""Fitting many groups in one call, in a supervised child: sorted rows in, one row a group out."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np
import pandas as pd
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from schemas import tables
from spinney.core.fitting import COLUMNS
from spinney.core.recipe import Recipe
from spinney.core.signing import Signer
from spinney.stores.arrow import arrow_type
from spinney.stores.child import Limits
from spinney.stores.supervised import Fits, Supervised

BLOCK_ROWS = 50_000
"""Rows handed to a kernel at once: large enough for its per-call cost to vanish, small enough for a worker's memory."""

ASK = {
    "champion_id": "string",
    "champion_codec": "string",
    "champion_payload": "binary",
    "champion_signature": "binary",
    "champion_trained_through": "timestamp",
}
"""What is known of the champion that a challenger is compared with."""

FITTED = {name: tables.MODELS.column(name).type for name in COLUMNS}
KEPT = "kept"
"""Status of a group whose rows and recipe are its champion's own: nothing was fitted, no row of `models` is written."""

_SCHEMA = pa.schema([(name, arrow_type(type_)) for name, type_ in FITTED.items()])


@dataclass(frozen=True)
class Fitter:
    """What fitting needs to know; pickled into the workers."""

    recipe: Recipe
    signer: Signer
    clock: datetime
    limits: Limits = field(default_factory=Limits)

    def function(self) -> Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
        def fit_partition(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
            with closing(self.supervised()) as child:
                for block in whole_groups(batches):
                    yield from fitted(block, child).to_batches()

        return fit_partition

    def supervised(self) -> Supervised:
        return Supervised(Fits(self.recipe, self.clock, self.signer, self.limits), parted)


def fitted(block: pa.Table, child: Supervised) -> pa.Table:
    """One row per ask in the block. block: rows and asks of some groups, all rows of each."""
    pieces = child.fit(block)
    tables_ = [pa.Table.from_pandas(each[list(FITTED)], schema=_SCHEMA, preserve_index=False) for _, each in pieces]
    if len(tables_) == 1:
        return tables_[0]
    places = [place for piece, _ in pieces for place in piece]
    return pa.concat_tables([_SCHEMA.empty_table(), *tables_]).take(np.argsort(places))


def parted(block: pa.Table) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows and the asks of a block. By one thread: a forked process has no others."""
    frame = block.to_pandas(use_threads=False)
    rows = frame[~frame["is_ask"]].drop(columns=["is_ask", *ASK])
    return rows, frame[frame["is_ask"]][["group_key", *ASK]]


def fit(rows: DataFrame, asks: DataFrame, fitter: Fitter, partitions: int) -> DataFrame:
    """Columns FITTED, one row per ask. rows: group_key, event_id, event_time, features, label; asks: group_key and ASK.

    The number of partitions is said aloud: Spark would otherwise put a small, slow stage into one task.
    """
    empty = [F.lit(None).cast(type_).alias(name) for name, type_ in ASK.items()]
    both = rows.select("*", *empty, F.lit(False).alias("is_ask")).unionByName(
        asks.select("group_key", *ASK, F.lit(True).alias("is_ask")), allowMissingColumns=True
    )
    ordered = both.repartition(partitions, "group_key").sortWithinPartitions("group_key", "event_time", "event_id")
    ddl = ", ".join(f"{name} {type_}" for name, type_ in FITTED.items())
    return ordered.mapInArrow(fitter.function(), ddl)


def whole_groups(batches: Iterable[pa.RecordBatch], block_rows: int = BLOCK_ROWS) -> Iterator[pa.Table]:
    """Cut a stream of rows sorted by group_key into blocks that hold whole groups."""
    held: list[pa.RecordBatch] = []
    for batch in batches:
        if not batch.num_rows:
            continue
        held.append(batch)
        if sum(each.num_rows for each in held) < block_rows:
            continue
        table = pa.Table.from_batches(held)
        cut = _start_of_last_group(table)
        if cut:
            yield table.slice(0, cut)
            held = table.slice(cut).combine_chunks().to_batches()
    if held:
        yield pa.Table.from_batches(held)


def _start_of_last_group(table: pa.Table) -> int:
    """Where the last group begins, by bisection: the keys are sorted by their bytes, as Spark sorts them."""
    keys = table.column("group_key").combine_chunks()
    last = keys[len(keys) - 1].as_py().encode()
    return bisect_left(range(len(keys)), last, key=lambda at: keys[at].as_py().encode())
