"""Fitting a few groups and parents in this process, where Spark is not running: to start it takes longer."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import pyarrow as pa
import pyarrow.compute as pc

from spinney.core.keys import is_parent
from spinney.retraining import group_fitting, parent_fitting
from spinney.retraining.group_fitting import Fitter

FEW = 1_000
"""Groups and parents that are fitted in this process."""

FEW_SECONDS = 20.0
"""Predicted seconds of all fits on one core. Two cores halve them, and to start Spark takes about the other half."""


def is_sooner(keys: Collection[str], events: int, predicted_seconds: float) -> bool:
    """Whether this process alone fits a round about as soon as Spark would have started.

    keys: of all groups and parents of the round. events: rows of the table of events; they count where there is a
    parent, which has the rows of all groups. predicted_seconds: of all fits, on one core.
    """
    if len(keys) > FEW or predicted_seconds > FEW_SECONDS:
        return False
    return events <= group_fitting.TASK_EVENTS or not any(map(is_parent, keys))


def fit(requests: pa.Table, fitting: Fitter) -> Iterator[pa.RecordBatch]:
    """FITTED, one row per request, as Spark's tasks make them.

    Raises StoreError when the events of a group or parent are not those that the plan counted.
    """
    are_parents = pa.array(map(is_parent, requests.column("group_key").to_pylist()), pa.bool_())
    of_groups, of_parents = requests.filter(pc.invert(are_parents)), requests.filter(are_parents)
    if of_groups.num_rows:
        yield from fitting.fit_tasks(group_fitting.tasks_here(of_groups))
    if of_parents.num_rows:
        yield from parent_fitting.fit_parents_here(of_parents, fitting)
