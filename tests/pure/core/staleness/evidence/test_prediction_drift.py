"""Drift of predictions: against a stored reference, one by one, reported once, a trigger only when asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from math import nan
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from example_counts import examples
from hypothesis import given
from hypothesis import strategies as st

from spinney.core.champions.promotion import Promotion
from spinney.core.staleness.evidence.loss_samples import KNOTS
from spinney.core.staleness.evidence.prediction_drift import LEAST_HELD_OUT
from spinney.core.staleness.group_state import NEVER
from spinney.core.staleness.health_rows import HealthRows
from spinney.core.staleness.judge import CODEC, DecisionRecord, JudgeInput, JudgeSettings, ShardState, advance, judge
from spinney.core.staleness.policies import Drift, NewGroup
from spinney.core.state_codec import encode_batch, join_sections, split_sections

HOUR = 3_600_000_000
DAY = 24 * HOUR
START = 1_400_000_000_000_000
A, B = '["a"]', '["b"]'
PATIENCE = timedelta(days=365)
RECORDED = JudgeSettings((NewGroup(20),), 20, 0, 365 * DAY, is_wall_clock=False, drift_patience=365 * DAY)
TRIGGERS = replace(RECORDED, policies=(NewGroup(20), Drift(PATIENCE)))
TRAINED = tuple(np.linspace(4.0, 6.0, 32).tolist())
"""Predictions on the training rows: their median is 5, the largest distance 1."""

Row = tuple[str, str | None, Sequence[float] | None, int]


def promoted(model_id: str, at: int = START, *, key: str = A, predictions: tuple[float, ...] = TRAINED) -> Any:
    return DecisionRecord(
        key, Promotion(0, model_id, "promoted", at, at, at), True, at, 0.5, 4.0, training_predictions=predictions
    )


def health(rows: Sequence[Row]) -> HealthRows:
    """Rows of events without labels. A row: group, model, predictions, time."""
    keys, models, predictions, times = ([row[i] for row in rows] for i in range(4))
    texts = {"group_key": keys, "model_id": models, "drift": predictions}
    columns = {name: pd.Series(values, dtype=object) for name, values in texts.items()}
    return HealthRows.of_frame(pd.DataFrame({**columns, "last_event_time": np.array(times, dtype=np.int64)}))


@dataclass
class Bench:
    """A shard and its ticks. Its state goes through bytes between any two."""

    settings: JudgeSettings = RECORDED
    shard: ShardState = field(default_factory=ShardState.empty)

    def tick(self, decided: Sequence[DecisionRecord] = (), rows: Sequence[Row] = ()) -> list[dict[str, Any]]:
        before = ShardState.from_bytes(self.shard.to_bytes())
        shard = advance(before, JudgeInput(decided, (), health(rows)), self.settings, START)
        verdicts = judge(shard, self.settings, START)
        self.shard = shard
        return verdicts

    def drift(self, key: str = A) -> float:
        return float(self.shard.groups["drift"][self.shard.groups.keys.index(key)])


def events(predictions: Sequence[float], *, model: str = "m1", since: int = START, key: str = A) -> list[Row]:
    """One event an hour."""
    return [(key, model, [each], since + (n + 1) * HOUR) for n, each in enumerate(predictions)]


FAR = np.linspace(9.0, 9.5, 12).tolist()


def test_predictions_farther_out_than_any_on_the_training_rows_are_drift_on_either_side() -> None:
    for predictions in (FAR, [10.0 - each for each in FAR]):
        bench = Bench()
        bench.tick([promoted("m1")])
        assert bench.drift() == 0
        bench.tick(rows=events(predictions))
        assert bench.drift() > 1


def test_predictions_for_held_out_rows_are_the_reference_if_there_are_enough_of_them() -> None:
    held_out = tuple(np.linspace(7.0, 11.0, LEAST_HELD_OUT).tolist())
    few = Bench()
    few.tick([replace(promoted("m1"), heldout_predictions=held_out[1:])])
    few.tick(rows=events(FAR))
    assert few.drift() > 1, "against 4 to 6 on the training rows"
    enough = Bench()
    enough.tick([replace(promoted("m1"), heldout_predictions=(nan, *held_out))])
    assert enough.shard.encoded_drift.value.centres.tolist() == [9.0]
    enough.tick(rows=events(FAR))
    assert 0 < enough.drift() < 1
    enough.tick(rows=events([30.0] * 12, since=START + DAY))
    assert enough.drift() > 1


def test_predictions_like_those_on_the_training_rows_are_none() -> None:
    bench = Bench()
    bench.tick([promoted("m1")])
    bench.tick(rows=events(np.random.default_rng(5).permutation(np.tile(TRAINED, 6)).tolist()))
    assert 0 < bench.drift() < 1


def test_recorded_drift_is_reported_once_in_words_and_is_no_reason_to_fit() -> None:
    bench = Bench()
    assert bench.tick([promoted("m1")]) == []
    (row,) = bench.tick(rows=events(FAR))
    assert (row["decision"], row["policy"], row["stale_since"]) == ("fresh", None, NEVER)
    evidence = row["numbers"]["drift"]
    assert evidence == float(f"{bench.drift():.6g}")
    words = f"no policy asks for a refit; predictions have drifted: evidence {evidence:.3g} (limit 1)"
    assert row["reason"] == words
    assert bench.tick(rows=events([9.5], since=START + DAY)) == []


def test_drift_that_triggers_makes_the_group_stale_until_an_attempt_and_begins_anew_with_the_next_champion() -> None:
    bench = Bench(TRIGGERS)
    bench.tick([promoted("m1")])
    (row,) = bench.tick(rows=events(FAR))
    assert (row["decision"], row["policy"]) == ("fit", "drift")
    assert row["reason"].startswith("evidence of drifted predictions is ")
    assert row["reason"].endswith("(limit 1: a false alarm per 365 days at most)")
    at = START + DAY
    assert bench.tick([promoted("m2", at, predictions=tuple(each + 4 for each in TRAINED))]) == []
    assert bench.drift() == 0
    bench.tick(rows=events(FAR, model="m2", since=at))
    assert bench.drift() < 1, "9 to 9.5 are what the new model predicts for its training rows"


def test_a_refused_challenger_spends_the_evidence_and_the_reference_stays() -> None:
    bench = Bench(TRIGGERS)
    bench.tick([promoted("m1")])
    bench.tick(rows=events(FAR))
    refused = DecisionRecord(A, Promotion(0, "m2", "refused", START, START, START + DAY), True, START + DAY, 0.5, 4.0)
    bench.tick([refused])
    assert bench.drift() == 0
    bench.tick(rows=events(FAR, since=START + DAY))
    assert bench.drift() > 0


def test_only_the_champions_own_predictions_count_and_only_if_its_training_predictions_are_known() -> None:
    bench = Bench()
    bench.tick([promoted("m1"), promoted("old", key=B, predictions=())])
    bench.tick(rows=[*events(FAR, model="parent"), *events(FAR, model="old", key=B), (A, "m1", None, START + HOUR)])
    assert bench.drift() == 0
    assert np.isnan(bench.drift(B))


def test_predictions_of_one_row_count_one_by_one() -> None:
    bench = Bench()
    bench.tick([promoted("m1")])
    bench.tick(rows=[(A, "m1", FAR, START + HOUR)])
    assert bench.shard.encoded_drift.value.evidence.samples.counts.tolist() == [len(TRAINED) + len(FAR)]
    assert bench.drift() > 1


def test_a_state_of_the_second_version_knows_no_drift_until_the_next_champion() -> None:
    bench = Bench()
    bench.tick([promoted("m1")])
    *sections, _, _ = map(bytes, split_sections(CODEC.unpack(bench.shard.to_bytes())))
    with pa.ipc.open_stream(pa.py_buffer(sections[1])) as reader:
        groups = reader.read_next_batch().drop_columns(["drift", "has_drifted", "fitted_rows"])
    sections[1] = encode_batch(groups)
    bench.shard = ShardState.from_bytes(b"\x02" + join_sections(sections))
    assert bench.shard.groups["champion_id"].tolist() == ["m1"]
    bench.tick(rows=events(FAR))
    assert np.isnan(bench.drift())
    bench.tick([promoted("m2", START + DAY)])
    bench.tick(rows=events(FAR, model="m2", since=START + DAY))
    assert bench.drift() > 1


def test_a_group_takes_about_180_bytes_of_state() -> None:
    groups = 100
    bench = Bench()
    bench.tick([promoted("m1", key=f'["{n}"]') for n in range(groups)])
    per_group = len(bench.shard.encoded_drift.blob) / groups
    assert KNOTS * 6 + 32 < per_group < 180


ROWS = st.lists(
    st.tuples(
        st.sampled_from([A, B]),
        st.sampled_from(["m1", "m2", None]),
        st.one_of(st.none(), st.lists(st.sampled_from([-1e300, 4.0, 5.0, 7.5]), min_size=1, max_size=3).map(sorted)),
        st.integers(0, 2).map(lambda n: START + n * HOUR),
    ),
    max_size=8,
)


@examples(20)
@given(st.lists(ROWS, min_size=1, max_size=3), st.data())
def test_the_order_of_rows_in_a_batch_does_not_matter(batches: list[list[Row]], data: st.DataObject) -> None:
    one, other = Bench(), Bench()
    first = [promoted("m1"), promoted("m2", key=B)]
    one.tick(first)
    other.tick(first)
    for rows in batches:
        assert one.tick(rows=rows) == other.tick(rows=data.draw(st.permutations(rows)))
        assert one.shard.to_bytes() == other.shard.to_bytes()


def test_predictions_without_a_number_and_champions_of_rollbacks_are_not_counted() -> None:
    bench = Bench()
    bench.tick([promoted("m1", predictions=(nan, *TRAINED))])
    assert bench.shard.encoded_drift.value.centres.tolist() == [5.0]


def test_simulated_groups_that_do_not_change_drift_rarely_and_those_that_move_by_two_sds_are_found() -> None:
    groups, changed, days, per_day = 200, 20, 60, 4
    random = np.random.default_rng(1)
    names = [(f'["{n:03}"]', f"m{n}") for n in range(groups)]  # in the order of the state
    trained = [tuple(np.sort(random.normal(size=32)).tolist()) for _ in names]
    bench = Bench()
    bench.tick([promoted(model, key=key, predictions=trained[n]) for n, (key, model) in enumerate(names)])
    states, drift = bench.shard.groups.copy(), bench.shard.encoded_drift.value.resized(groups)
    first, alarms = np.zeros(groups, dtype=np.int64), 0
    for step in range(1, days * per_day + 1):
        values = random.normal(size=groups) + np.where(np.arange(groups) < changed, 2.0, 0.0)
        at = START + step * DAY // per_day
        rows = [(key, model, [value], at) for (key, model), value in zip(names, values.tolist(), strict=True)]
        drift = drift.counted(states, health(rows), 365 * DAY)
        has_drifted = states["drift"] >= 1
        first = np.where(has_drifted & (first == 0), step, first)
        alarms += int(has_drifted[changed:].sum())
        states["drift"][has_drifted] = 0
    assert alarms <= 1.1 * (groups - changed) * days / 365
    assert ((first[:changed] > 0) & (first[:changed] <= 100)).mean() >= 0.9
