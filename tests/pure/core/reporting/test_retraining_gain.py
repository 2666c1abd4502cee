from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spinney.core.reporting.retraining_gain import PROMOTION_COLUMNS, VERDICT_COLUMNS, RetrainingGain, measure_gain

DRAWN, BY_RANK = '{"rows_since":9,"queue":"random","events":50}', '{"rows_since":9,"queue":"rank","events":50}'
VERDICTS = pa.schema([(name, pa.string()) for name in VERDICT_COLUMNS])
PROMOTIONS = pa.schema(
    [("group_key", pa.string()), ("round_id", pa.string())]
    + [(name, pa.float64()) for name in PROMOTION_COLUMNS[2:4]]
    + [("rows_compared", pa.int64()), ("model_id", pa.string())]
)
MEASURES = pa.schema(
    [("model_id", pa.string()), ("rows_behind", pa.int64()), ("refitted", pa.struct([("recipe_id", pa.string())]))]
)


def gain(
    verdicts: list[tuple[Any, ...]], promotions: list[tuple[Any, ...]], measures: Sequence[tuple[Any, ...]] = ()
) -> RetrainingGain | None:
    """promotions: without model_id, which is the number of the row."""
    numbered = [(*row, str(n)) for n, row in enumerate(promotions)]
    columns = (
        pa.table([list(column) for column in zip(*rows, strict=True)] or [[]] * len(schema), schema=schema)
        for rows, schema in ((verdicts, VERDICTS), (numbered, PROMOTIONS), (measures, MEASURES))
    )
    return measure_gain(*columns)


def test_a_comparison_counts_only_if_the_challenger_had_all_data_of_the_champion_that_was_measured() -> None:
    drawn = [(key, "r", DRAWN) for key in "abcd"]
    promotions = [(key, "r", 4.0, loss, 10) for key, loss in zip("abcd", (3.0, 9.0, 9.0, 2.0), strict=True)]
    found = gain(
        drawn, promotions, [("0", None, None), ("1", 3, None), ("2", None, {"recipe_id": "r"}), ("3", 0, None)]
    )
    assert found is not None
    assert (found.groups, found.gain) == (2, 1.5)
    assert gain(drawn[1:3], promotions[:3], [("1", 3, None), ("2", 1, None)]) is None


def test_a_group_counts_once_by_its_rows_and_only_what_was_drawn_and_compared_counts() -> None:
    verdicts = [
        ("a", "stream-1", DRAWN), ("a", "stream-2", DRAWN), ("b", "stream-1", DRAWN), ("c", "stream-1", BY_RANK),
        ("d", "stream-1", DRAWN), ("e", "stream-1", None), ("f", "stream-1", DRAWN),
    ]  # fmt: skip
    promotions = [
        ("a", "stream-1", 5.0, 4.0, 10),
        ("a", "stream-2", 3.0, 4.0, 30),
        ("b", "stream-1", 10.5, 8.0, 20),
        ("c", "stream-1", 99.0, 1.0, 20),  # taken by its rank
        ("d", "stream-1", None, 1.0, 20),  # a first model
        ("e", "stream-1", 99.0, 1.0, 20),
        ("f", "stream-9", 99.0, 1.0, 20),  # drawn in another round
    ]
    # a: (10 x 5 + 30 x 3) / 40 = 3.5 and 4; b: 10.5 and 8. The means are 7 and 6, and the gain 1 a row of 7.
    found = gain(verdicts, promotions)
    assert found == RetrainingGain(2, 3, 60, 7.0, 6.0, 1.0, None, None, pytest.approx(100 / 7), None, None)
    assert str(found) == (
        "gain from retraining: 1 a row, 14.3 % of the loss, on 60 held-out rows of 2 stale groups drawn at random"
    )


def test_the_interval_is_that_of_a_mean_over_groups() -> None:
    gains = [2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0, 5.0, 5.0]
    keys = [f"g{n}" for n in range(10)]
    promotions = [(key, "r", 10.0, 10.0 - each, 5) for key, each in zip(keys, gains, strict=True)]
    found = gain([(key, "r", DRAWN) for key in keys], promotions)
    assert found is not None
    # Mean 5, sum of squares 32, s = sqrt(32 / 9), t(9) = 2.262: 5 +- 2.262 x 1.8856 / 3.1623.
    assert (found.lower, found.upper) == pytest.approx((3.6511, 6.3489), abs=1e-3)
    assert str(found).startswith("gain from retraining: 5 a row, 50.0 % of the loss (95 % interval 36.5 to 63.5 %), on")


def test_without_a_comparison_there_is_no_gain() -> None:
    assert gain([], []) is None
    assert gain([("a", "r", DRAWN)], [("a", "r", None, 1.0, 3), ("a", "r", 1.0, 1.0, 0)]) is None


def test_champions_without_error_leave_no_percentage() -> None:
    found = gain([("a", "r", DRAWN)], [("a", "r", 0.0, 1.0, 3)])
    assert found is not None
    assert (found.gain, found.percent) == (-1.0, None)
    assert "%" not in str(found)


def test_the_interval_covers_the_true_gain_nineteen_times_of_twenty() -> None:
    random = np.random.default_rng(5)
    keys = [f"g{n}" for n in range(12)]
    covered = 0
    for _ in range(400):
        drawn = random.normal(1.0, 2.0, len(keys))
        promotions = [(key, "r", 9.0, 9.0 - x, 7) for key, x in zip(keys, drawn, strict=True)]
        found = gain([(key, "r", DRAWN) for key in keys], promotions)
        assert found is not None
        covered += found.lower <= 1.0 <= found.upper
    assert 366 <= covered <= 394  # 380, three standard deviations of a binomial to either side


@settings(max_examples=30)
@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 1e6), st.floats(0, 1e6), st.integers(1, 99)), min_size=1),
    st.floats(0.01, 100),
)
def test_the_gain_scales_with_the_loss_and_its_share_does_not(rows: list[tuple[Any, ...]], unit: float) -> None:
    verdicts = [(key, "r", DRAWN) for key in "abc"]
    one = gain(verdicts, [(key, "r", *rest) for key, *rest in rows])
    other = gain(verdicts, [(key, "r", champion * unit, challenger * unit, n) for key, champion, challenger, n in rows])
    assert one is not None
    assert other is not None
    scale = max(one.champion_loss, one.challenger_loss) or 1.0
    assert other.gain == pytest.approx(one.gain * unit, abs=1e-9 * scale * unit)
