"""The names of losses in charts, tables and sentences."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from spinney.core.migration import LossHistory

_LABELS = {"absolute": "mean absolute error", "squared": "mean squared error", "log": "log loss"}


def loss_label(loss: str) -> str:
    """Return what a fleet's loss is called: ``mean absolute error``. loss: as in ``fleet.loss``."""
    return _LABELS[loss]


def error_label(losses: LossHistory) -> str:
    """Return what the current errors of a fleet measure and, once its loss has changed, since when."""
    label = loss_label(losses.now)
    return label if losses.begun_anew is None else f"{label}, {losses.begun_anew}"


def name_losses(statuses: pa.Table, losses: LossHistory) -> pa.Table:
    """Return the statuses of groups with the name of the loss in `loss_name`; null for a group without a loss."""
    names = pc.fill_null(statuses.column("loss_name"), losses.first)
    named = pc.if_else(pc.is_valid(statuses.column("loss")), names, pa.scalar(None, pa.string()))
    return statuses.set_column(statuses.schema.get_field_index("loss_name"), "loss_name", named)
