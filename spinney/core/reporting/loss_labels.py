"""The names of losses in charts and sentences."""

from __future__ import annotations

_LABELS = {"absolute": "mean absolute error", "squared": "mean squared error", "log": "log loss"}


def loss_label(loss: str) -> str:
    """Return what a fleet's loss is called: ``mean absolute error``. loss: as in ``fleet.loss``."""
    return _LABELS[loss]
