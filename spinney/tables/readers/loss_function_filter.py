"""Select rows whose losses are measured by the fleet's current loss, so that no mean mixes two kinds of losses."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from spinney.core.champions.held_out_loss_codec import LOSS_NAME
from spinney.core.migration import LossHistory


def keep_current_loss(rows: pa.Table, losses: LossHistory) -> pa.Table:
    """Return the rows that are measured by the current loss; all of them if the loss has never changed.

    rows: with the column `loss_name`.
    """
    if not losses.is_changed:
        return rows
    return rows.filter(pc.equal(pc.fill_null(rows.column(LOSS_NAME), losses.first), losses.now))


def current_loss_sql(losses: LossHistory) -> str:
    """Return the condition that a row is measured by the current loss, in the SQL of `lookup`."""
    return f"coalesce({LOSS_NAME}, '{losses.first}') = '{losses.now}'"
