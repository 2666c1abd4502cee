"""Fit a small round in this process if Spark is not running, since starting Spark would take longer."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import pyarrow as pa

from spinney.core.keys import is_parent
from spinney.retraining.fitting import parent_fitting, spark_fitting
from spinney.retraining.fitting.fit_request_table import split_parents
from spinney.retraining.fitting.spark_fitting import Fitter

MAX_GROUPS = 1_000
"""Largest number of groups and parents in a round that is fitted in this process."""

MAX_PREDICTED_S = 20.0
"""Longest predicted time of all fits on one core, in seconds. Two cores would halve it, but Spark takes as long to
start.
"""


def is_faster_than_spark(keys: Collection[str], events: int, predicted_seconds: float) -> bool:
    """Whether this process fits a round in about the time that Spark takes to start.

    keys: of all groups and parents of the round. events: number of rows of the table `events`; it counts only if there
    is a parent, which has the rows of all its groups. predicted_seconds: of all fits, on one core.
    """
    if len(keys) > MAX_GROUPS or predicted_seconds > MAX_PREDICTED_S:
        return False
    return events <= spark_fitting.TASK_EVENTS or not any(map(is_parent, keys))


def fit_locally(requests: pa.Table, fitting: Fitter) -> Iterator[pa.RecordBatch]:
    """Fit requests of groups and parents: one row of RESULT_TYPES per request, as from Spark's tasks.

    Raises StoreError if another number of events is read than the plan counted.
    """
    of_groups, of_parents = split_parents(requests)
    if of_groups.num_rows:
        yield from fitting.fit_tasks(spark_fitting.task_batches(of_groups))
    if of_parents.num_rows:
        yield from parent_fitting.fit_parents_locally(of_parents, fitting)
