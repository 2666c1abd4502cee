"""The gain from retraining, by hand and against pandas."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from example_counts import examples
from hypothesis import given
from hypothesis import strategies as st

from spinney.core.reporting import retraining_gain
from spinney.core.reporting.retraining_gain import (
    MEASURE_COLUMNS,
    PROMOTION_COLUMNS,
    VERDICT_COLUMNS,
    RetrainingGain,
    drawn_champions,
    last_comparisons,
    measure_gain,
)

DRAWN, BY_RANK = '{"rows_since":9,"queue":"random","events":50}', '{"rows_since":9,"queue":"rank","events":50}'
VERDICTS = pa.schema([(name, pa.string()) for name in VERDICT_COLUMNS])
PROMOTIONS = pa.schema([(name, pa.string()) for name in PROMOTION_COLUMNS])
MEASURES = pa.schema(
    list(zip(MEASURE_COLUMNS, (pa.string(), pa.string(), pa.int64(), pa.float64(), pa.float64()), strict=True))
)
Rows = Sequence[tuple[Any, ...]]


def table(rows: Rows, schema: pa.Schema) -> pa.Table:
    return pa.table([list(column) for column in zip(*rows, strict=True)] or [[]] * len(schema), schema=schema)


def gain(verdicts: Rows, promotions: Rows, measures: Rows) -> RetrainingGain | None:
    drawn = table([row[:2] for row in verdicts if retraining_gain.DRAWN in (row[2] or "")], VERDICTS)
    champions = drawn_champions(drawn, table(promotions, PROMOTIONS))
    return measure_gain(champions, table(measures, MEASURES))


def gain_of(losses: Sequence[tuple[str, float, float, int]]) -> RetrainingGain | None:
    """The gain of drawn groups with one new champion each. losses: group, predecessor's, champion's and rows."""
    keys = [key for key, *_ in losses]
    measures = [(key, f"{key}-new", rows, champion, predecessor) for key, predecessor, champion, rows in losses]
    promoted = [(key, "r", f"{key}-new", "promoted") for key in keys]
    return gain([(key, "r", DRAWN) for key in keys], promoted, measures)


def test_a_group_counts_once_by_its_rows_and_only_new_champions_of_drawn_groups_count() -> None:
    verdicts = [
        ("a", "stream-1", DRAWN), ("a", "stream-2", DRAWN), ("b", "stream-1", DRAWN), ("c", "stream-1", BY_RANK),
        ("d", "stream-1", DRAWN), ("e", "stream-1", None), ("f", "stream-1", DRAWN), ("g", "stream-1", DRAWN),
    ]  # fmt: skip
    promotions = [
        ("a", "stream-1", "a1", "promoted"),
        ("a", "stream-2", "a2", "unproven"),
        ("b", "stream-1", "b1", "promoted"),
        ("c", "stream-1", "c1", "promoted"),  # taken by its rank
        ("d", "stream-1", "d1", "refused"),
        ("e", "stream-1", "e1", "promoted"),
        ("f", "stream-9", "f1", "promoted"),  # drawn in another round
        ("g", "stream-1", "g1", "promoted"),  # not compared yet
    ]
    measures = [
        ("a", "a1", 10, 4.0, 5.0),
        ("a", "a2", 30, 4.0, 3.0),
        ("b", "b1", 20, 8.0, 10.5),
        *((key, f"{key}1", 20, 1.0, 99.0) for key in "cdef"),
        ("g", "g1", None, None, None),
        ("h", None, None, None, None),
    ]
    # a: (10 x 5 + 30 x 3) / 40 = 3.5 and 4; b: 10.5 and 8. The means are 7 and 6, and the gain 1 a row of 7.
    found = gain(verdicts, promotions, measures)
    assert found == RetrainingGain(2, 3, 60, 7.0, 6.0, 1.0, None, None, pytest.approx(100 / 7), None, None)
    assert str(found) == (
        "gain from retraining: 1 a row, 14.3 % of the loss, on 60 later rows of 2 stale groups drawn at random"
    )


def test_of_several_comparisons_of_a_champion_the_one_with_all_its_rows_counts() -> None:
    measures = [("a", "a1", 10, 4.0, 9.0), ("a", "a1", 40, 4.0, 5.0), ("a", "a1", 20, 4.0, 7.0)]
    found = gain([("a", "r", DRAWN)], [("a", "r", "a1", "promoted")], measures)
    assert found is not None
    assert (found.champions, found.rows, found.gain) == (1, 40, 1.0)


@examples(40)
@given(st.integers(0, 2**32 - 1))
def test_any_history_gives_the_numbers_of_pandas(seed: int) -> None:
    random = np.random.default_rng(seed)
    count = 40
    keys, rounds = random.choice(list("abcde"), count), random.choice(["r1", "r2", "r3"], count)
    models = [f"{key}{number}" for key, number in zip(keys, random.integers(0, 4, count), strict=True)]
    numbers = random.choice([DRAWN, BY_RANK], count)
    decisions = random.choice(["promoted", "unproven", "refused", "kept"], count)
    verdicts = list(zip(keys.tolist(), rounds.tolist(), numbers.tolist(), strict=True))
    promotions = list(zip(keys.tolist(), rounds.tolist(), models, decisions.tolist(), strict=True))
    losses = random.gamma(2.0, size=(count, 2)).round(3)
    sizes = random.permutation(count).tolist()
    measures = [
        (key, model, rows, *pair)
        for key, model, rows, pair in zip(keys.tolist(), models, sizes, losses.tolist(), strict=True)
    ]
    found = gain(verdicts, promotions, measures)

    drawn = {(key, round_id) for key, round_id, text in verdicts if text == DRAWN}
    new = {(key, model) for key, at, model, decision in promotions if (key, at) in drawn and decision[0] in "pu"}
    frame = pd.DataFrame(measures, columns=["key", "model", "rows", "champion", "predecessor"])
    is_new = np.array([pair in new for pair in zip(frame["key"], frame["model"], strict=True)])
    frame = frame[is_new & (frame["rows"] > 0)]
    last = frame.sort_values("rows").groupby(["key", "model"]).tail(1)
    assert (found is None) == (len(last) == 0)
    if found is not None:
        gains = last["predecessor"] - last["champion"]
        per_group = [np.average(gains[rows.index], weights=rows["rows"]) for _, rows in last.groupby("key")]
        assert found.gain == pytest.approx(np.mean(per_group))
        assert (found.groups, found.champions, found.rows) == (len(per_group), len(last), last["rows"].sum())


@examples(40)
@given(st.integers(0, 2**32 - 1), st.integers(1, 12))
def test_a_history_that_is_read_in_pieces_and_in_any_order_has_the_same_last_comparisons(seed: int, size: int) -> None:
    random = np.random.default_rng(seed)
    keys, models = random.choice(list("abc"), 40), random.choice(list("xyz"), 40)
    losses, rows = random.gamma(2.0, size=(40, 2)).round(3).tolist(), random.integers(0, 6, 40).tolist()
    measures = table([*zip(keys, models, rows, *zip(*losses, strict=True), strict=True)], MEASURES)
    champions = pa.table({"group_key": list("abca"), "champion_id": list("xyzz")})
    whole = last_comparisons(champions, measures)
    assert last_comparisons(champions, measures.take(random.permutation(40))) == whole
    found = measures.slice(0, 0)
    for start in range(0, 40, size):
        found = last_comparisons(champions, pa.concat_tables([found, measures.slice(start, size)]))
    assert found == whole
    assert measure_gain(champions, found) == measure_gain(champions, measures)


def test_the_interval_is_that_of_a_mean_over_groups() -> None:
    gains = [2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0, 5.0, 5.0]
    found = gain_of([(f"g{n}", 10.0, 10.0 - each, 5) for n, each in enumerate(gains)])
    assert found is not None
    # Mean 5, sum of squares 32, s = sqrt(32 / 9), t(9) = 2.262157: 5 +- 2.262157 x 1.885618 / 3.162278.
    assert (found.lower, found.upper) == pytest.approx((3.651110, 6.348890), abs=2e-6)
    assert str(found).startswith("gain from retraining: 5 a row, 50.0 % of the loss (95 % interval 36.5 to 63.5 %), on")


def test_without_a_comparison_there_is_no_gain() -> None:
    assert gain([], [], []) is None
    assert gain_of([("a", float("nan"), 1.0, 3)]) is None
    assert gain_of([("a", 1.0, 1.0, 0)]) is None


def test_predecessors_without_error_leave_no_percentage() -> None:
    found = gain_of([("a", 0.0, 1.0, 3)])
    assert found is not None
    assert (found.gain, found.percent) == (-1.0, None)
    assert "%" not in str(found)


def test_the_interval_covers_the_true_gain_nineteen_times_of_twenty() -> None:
    random = np.random.default_rng(5)
    keys = [f"g{n}" for n in range(12)]
    covered = 0
    for _ in range(400):
        drawn = random.normal(1.0, 2.0, len(keys))
        found = gain_of([(key, 9.0, 9.0 - x, 7) for key, x in zip(keys, drawn, strict=True)])
        assert found is not None
        covered += found.lower <= 1.0 <= found.upper
    assert 366 <= covered <= 394  # 380, three standard deviations of a binomial to either side
