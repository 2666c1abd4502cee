"""Contracts as Arrow schemas, so that tables are made and read without a JVM."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from schemas.contract import Contract
from spinney.core.arrow_types import arrow_type

if TYPE_CHECKING:
    import pandas as pd


def arrow_schema(contract: Contract) -> pa.Schema:
    """Return the columns of a contract as an Arrow schema."""
    return pa.schema([pa.field(column.name, arrow_type(column.type)) for column in contract.columns])


def to_pandas(table: pa.Table) -> pd.DataFrame:
    """Return the rows as a pandas frame. One thread converts them, since a forked process has no others.

    Dates become timestamps at midnight, since Python's dates end in the year 9999. Timestamps keep their unit, since
    nanoseconds end in 2262.
    """
    dates = {at: field for at, field in enumerate(table.schema) if pa.types.is_date(field.type)}
    for at, field in dates.items():
        table = table.set_column(at, field.name, table.column(at).cast(pa.timestamp("s")))
    frame: pd.DataFrame = table.to_pandas(use_threads=False)
    return frame
