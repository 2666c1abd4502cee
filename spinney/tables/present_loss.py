"""Selects rows whose losses are by the fleet's present loss, so that no mean has losses of two kinds."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from spinney.core.champions.heldout_losses import LOSS_NAME
from spinney.core.migration import LossHistory


def keep_present_loss(rows: pa.Table, losses: LossHistory) -> pa.Table:
    """Return the rows by the present loss; all of them if it has never changed. rows: with the column `loss_name`."""
    if not losses.is_changed:
        return rows
    return rows.filter(pc.equal(pc.fill_null(rows.column(LOSS_NAME), losses.first), losses.now))


def present_loss_sql(losses: LossHistory) -> str:
    """Return the condition that a row is by the present loss, in the SQL of `lookup`."""
    return f"coalesce({LOSS_NAME}, '{losses.first}') = '{losses.now}'"
