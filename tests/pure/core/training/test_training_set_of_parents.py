"""A parent's rows are a sample of their own size: the groups' window_rows does not cut them again."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pandas as pd
from recipes import RIDGE

from spinney.core.training.parent_row_lineage import ORIGIN
from spinney.core.training.training_set import select_training_set

CLOCK = datetime(2026, 1, 31, tzinfo=UTC)
RECIPE = replace(RIDGE, params=(), min_rows=1, window_rows=3, window=timedelta(days=30))


def rows_of(group_key: str, count: int) -> pd.DataFrame:
    times = pd.to_datetime([CLOCK - timedelta(hours=hour + 1) for hour in range(count)], utc=True)
    ids = [f"e{number}" for number in range(count)]
    return pd.DataFrame({"group_key": group_key, "event_id": ids, "event_time": times, "x": 1.0, "label": 2.0})


def test_a_group_keeps_its_newest_rows_and_a_parent_all_that_were_sampled() -> None:
    rows = pd.concat([rows_of('["a"]', 5), rows_of("{}", 5)], ignore_index=True)
    history = select_training_set(rows, ['["a"]', "{}"], RECIPE, CLOCK)
    assert list(history.starts) == [0, 3, 8]


def test_without_a_parent_nothing_changes() -> None:
    history = select_training_set(rows_of('["a"]', 5), ['["a"]'], replace(RECIPE, window_rows=2), CLOCK)
    assert list(history.starts) == [0, 2]


def test_ids_are_unique_within_a_group_and_a_parent_has_the_rows_of_all_its_groups() -> None:
    """Both groups have events e0 to e4; the second of them has each twice."""
    parts = [rows_of("{}", 5).assign(**{ORIGIN: key}) for key in ('["a"]', '["b"]', '["b"]')]
    of_groups = rows_of('["a"]', 5).assign(**{ORIGIN: None})
    rows = pd.concat([*parts, of_groups], ignore_index=True)
    history = select_training_set(rows, ["{}", '["a"]'], RECIPE, CLOCK)
    assert list(history.starts) == [0, 10, 13]
    assert sorted(history.ids[:10].tolist()) == sorted([f"e{number}" for number in range(5)] * 2)
