"""Fitting a few groups and parents in this process, where Spark is not running: to start it takes longer."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from spinney.core.keys import is_parent
from spinney.stores import fitter, parent_fitter
from spinney.stores.fitter import Fitter

FEW = 1_000
"""Groups and parents that are fitted in this process."""


def is_sooner(requests: pa.Table, fitting: Fitter) -> bool:
    """Whether this process alone fits them about as soon as Spark has started. requests: fit_requests.REQUEST.

    A parent has the rows of all groups, so with one the whole table of events counts.
    """
    if requests.num_rows > FEW:
        return False
    has_parents = any(map(is_parent, requests.column("group_key").to_pylist()))
    return not has_parents or fitting.rows.events.rows <= fitter.TASK_EVENTS


def fit(requests: pa.Table, fitting: Fitter) -> Iterator[pa.RecordBatch]:
    """FITTED, one row per request, as Spark's tasks make them.

    Raises StoreError when the events of a group or parent are not those that the plan counted.
    """
    are_parents = pa.array(map(is_parent, requests.column("group_key").to_pylist()), pa.bool_())
    of_groups, of_parents = requests.filter(pc.invert(are_parents)), requests.filter(are_parents)
    if of_groups.num_rows:
        yield from fitting.fit_tasks(fitter.tasks_here(of_groups))
    if of_parents.num_rows:
        yield from parent_fitter.fit_parents_here(of_parents, fitting)
