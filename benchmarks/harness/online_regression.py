"""river's online linear regression, one model per group, as a line of a backtest.

Each event is answered by its group's model, which has learned every label of the group that was known by then: the
order of `progressive_val_score(delay=)`, with each label's own delay. river is no dependency of Spinney.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from spinney.core.backtest.history import History
from spinney.core.backtest.replay import Replay
from spinney.core.training.loss import loss_named

NAME = "river: online linear regression"
INSTALL = "--river: expected river beside Spinney; got no such module. Install it with `pip install river==0.26.1`"


def replay_online(history: History, loss: str) -> Replay:
    """Return the losses of the events; NaN before the first label of a group. The features must be numbers.

    Raises SystemExit if river is not installed.
    """
    new_model = _model_of(loss)
    rows, groups = history.rows, history.group_of_row.tolist()
    names = [feature.name for feature in rows.columns.features]
    labels, values = rows.labels.astype(np.float64).tolist(), rows.columns.numbers.tolist()
    answers = np.full(len(labels), np.nan)
    models: dict[int, Any] = {}
    for place, is_label in _in_time(history):
        known = {name: value for name, value in zip(names, values[place], strict=True) if value == value}  # noqa: PLR0124
        if is_label:
            models.setdefault(groups[place], new_model()).learn_one(known, labels[place])
        elif groups[place] in models:
            answers[place] = models[groups[place]].predict_one(known)
    return Replay(NAME, loss_named(loss).per_row(rows.labels, answers), ())


def _model_of(loss: str) -> Callable[[], Any]:
    """A model with river's defaults that learns by the fleet's loss, its inputs scaled as they come."""
    try:
        from river import linear_model, optim, preprocessing
    except ImportError as error:
        raise SystemExit(INSTALL) from error
    by_loss = {"absolute": optim.losses.Absolute, "squared": optim.losses.Squared}[loss]
    return lambda: preprocessing.StandardScaler() | linear_model.LinearRegression(loss=by_loss())


def _in_time(history: History) -> list[tuple[int, bool]]:
    """Every event and every label in the order of time, as a row's position and whether its label comes.

    A label that is known at the time of an event is learned before the event is answered.
    """
    rows = len(history.known_at)
    times = np.concatenate([history.known_at, history.rows.times])
    is_event = np.repeat([False, True], rows)
    order = np.lexsort((is_event, times))
    return list(zip((order % rows).tolist(), (~is_event[order]).tolist(), strict=True))
