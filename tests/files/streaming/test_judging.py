"""What a worker does with a shard's rows; the frames are as Spark hands them over, no session is started."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest

from spinney.core.champions.promotion import Promotion
from spinney.core.errors import Corrupt
from spinney.core.migration import LossChange, LossHistory
from spinney.core.planning.budget import QueueLengths
from spinney.core.staleness import group_state
from spinney.core.staleness.health_rows import HEALTH_COLUMNS
from spinney.core.staleness.judge import VERDICT_COLUMNS, JudgeSettings, ShardState, UnfittedAttempt
from spinney.core.staleness.policies import MaxAge, NewGroup
from spinney.retraining.judge_input import VERDICTS, parse_frames
from streaming.judging import IDLE_MS, TICK_MS, ShardCache, ShardJudge

A = '["a"]'
START = 1_400_000_000_000_000
COLUMNS = {
    "kind": object,
    "shard": "int32",
    "group_key": object,
    "model_id": object,
    "labelled": "float64",  # a bigint with nulls
    "loss": "float64",
    "losses": object,
    "drift": object,
    "last_event_time": "float64",
    "decided": object,
    "unfitted": object,
}
HEALTH = {"kind": "health", "group_key": A, "model_id": "m1", "labelled": 3, "loss": 1.5, "last_event_time": START}
HEALTH |= {"losses": np.array([0.25, 0.5, 0.75]), "drift": np.array([6.0])}
TICK = {"kind": "health", "labelled": 0, "loss": 0.0, "last_event_time": START + 5}
DECIDED = {
    "model_id": "m1",
    "epoch": 2,
    "decision": "promoted",
    "by": "batch",
    "trained_through": START + 1,
    "fitted_at": START + 2,
    "decided_at": START + 3,
    "clock": START + 4,
    "loss": 0.25,
    "fit_ms": 7.5,
    "heldout_losses": np.array([0.5, 0.0]),
    "training_predictions": np.array([1.0, 2.5]),
    "heldout_predictions": np.array([3.5, 2.0]),
    "rows": 40,
}
PROMOTION = {"kind": "promotion", "group_key": A, "decided": DECIDED}
TRIED = {"status": "failed", "rows": 9, "fitted_at": START, "clock": START + 4}
UNFITTED = {"kind": "unfitted", "group_key": A, "unfitted": TRIED}


def frame(*rows: dict[str, Any]) -> pd.DataFrame:
    table = pd.DataFrame([{"shard": 5, **row} for row in rows], columns=list(COLUMNS))
    return table.astype(object).where(table.notna(), None).astype(COLUMNS)


def test_no_frames_are_no_input() -> None:
    reported = parse_frames([])
    assert (len(reported.decided), len(reported.unfitted), len(reported.health)) == (0, 0, 0)
    assert reported.health.labelled.dtype == np.int64


def test_health_keeps_its_sums_and_whole_microseconds() -> None:
    reported = parse_frames([frame(HEALTH, TICK)])
    lists = [HEALTH["losses"], HEALTH["drift"]]
    columns = [getattr(reported.health, name).tolist() for name in HEALTH_COLUMNS]
    assert list(zip(*columns, strict=True)) == [
        (A, "m1", 3, 1.5, *lists, START), (None, None, 0, 0.0, None, None, START + 5)
    ]  # fmt: skip
    assert reported.health.last_event_time.dtype == np.int64


def test_a_promotion_is_read_with_its_times_loss_and_cost() -> None:
    (row,) = parse_frames([frame(PROMOTION)]).decided
    assert row.promotion == Promotion(2, "m1", "promoted", START + 1, START + 2, START + 3)
    assert (row.group_key, row.by_machine, row.clock, row.loss, row.fit_ms) == (A, True, START + 4, 0.25, 7.5)
    assert (row.heldout_losses, row.training_predictions, row.rows) == ((0.5, 0.0), (1.0, 2.5), 40)
    assert row.heldout_predictions == (3.5, 2.0)


def test_a_persons_promotion_without_numbers_is_read_as_such() -> None:
    bare = dict.fromkeys(DECIDED) | {"model_id": "m1", "epoch": 1, "decision": "pinned", "by": "Ada"}
    (row,) = parse_frames([frame({**PROMOTION, "decided": {**bare, "decided_at": START, "clock": START}})]).decided
    assert not row.by_machine
    assert np.isnan(row.loss)
    assert np.isnan(row.fit_ms)
    assert row.heldout_losses == row.training_predictions == row.heldout_predictions == ()
    assert (row.promotion.trained_through, row.promotion.fitted_at) == (0, 0)


def test_a_failed_fit_is_read_with_its_rows_and_both_clocks() -> None:
    assert parse_frames([frame(UNFITTED)]).unfitted == [UnfittedAttempt(A, "failed", 9, START, START + 4)]


def test_frames_of_one_batch_are_read_as_one() -> None:
    reported = parse_frames([frame(HEALTH), frame(PROMOTION, HEALTH), frame(UNFITTED)])
    assert (len(reported.health), len(reported.decided), len(reported.unfitted)) == (2, 1, 1)


class State:
    """Spark's GroupState, as far as the judge uses it."""

    def __init__(self) -> None:
        self.value: tuple[bytes] | None = None
        self.timeout = self.updates = 0
        self.now_ms = START // 1000

    @property
    def exists(self) -> bool:
        return self.value is not None

    @property
    def get(self) -> tuple[bytes]:
        assert self.value is not None
        return self.value

    def update(self, value: tuple[bytes]) -> None:
        self.value = value
        self.updates += 1

    def setTimeoutDuration(self, milliseconds: int) -> None:  # noqa: N802 - Spark's name
        self.timeout = milliseconds

    def getCurrentProcessingTimeMs(self) -> int:  # noqa: N802 - Spark's name
        return self.now_ms


SETTINGS = JudgeSettings(
    (NewGroup(3), MaxAge(timedelta(days=7))),
    min_rows=3,
    label_delay=0,
    patience=365 * 86_400_000_000,
    is_wall_clock=False,
)


QUEUES = QueueLengths(100, 20, 5)


def judged(state: State, *frames: pd.DataFrame) -> list[pd.DataFrame]:
    return list(ShardJudge(SETTINGS, QUEUES).function()((5,), iter(frames), state))


def test_a_shards_verdicts_have_the_columns_that_are_declared() -> None:
    (verdicts,) = judged(State(), frame(HEALTH))
    summary, verdicts = verdicts[:1], verdicts[1:].reset_index(drop=True)
    assert (summary["decision"].tolist(), json.loads(summary["numbers"][0])) == (
        ["summary"],
        {"due": 1, "withheld": 0, "rows": 1, "groups": 0, "raised": 0},
    )
    assert list(verdicts.columns) == [part.split()[0] for part in VERDICTS.split(", ")]
    assert list(verdicts.columns) == ["shard", *VERDICT_COLUMNS]
    assert verdicts[["shard", "group_key", "decision"]].values.tolist() == [[5, A, "fit"]]
    assert json.loads(verdicts["numbers"][0])["measure"] == 3.0


def test_a_shard_remembers_wakes_and_puts_forward_what_was_deferred() -> None:
    state = State()
    judged(state, frame(HEALTH))
    assert state.timeout == TICK_MS
    state.timeout = 0
    (verdicts,) = judged(state)  # a timer, without rows
    assert verdicts["repeats"].tolist() == [0, 1]
    assert verdicts["decision"].tolist() == ["summary", "fit"]
    assert state.timeout == TICK_MS


def test_a_shard_without_verdicts_gives_no_frame() -> None:
    assert judged(State(), frame(TICK)) == []


def test_a_shard_to_which_nothing_happened_is_not_written_again() -> None:
    state = State()
    judged(state, frame(PROMOTION))
    before, state.updates = state.value, 0
    assert judged(state) == []
    assert (state.updates, state.value) == (0, before)
    minute = 60_000_000
    for after, updates in ((minute - 1, 0), (minute, 1), (2 * minute - 1, 1)):
        judged(state, frame({**TICK, "last_event_time": DECIDED["clock"] + after}))
        assert state.updates == updates, "the event clock alone went on"
    (due,) = judged(state, frame({**TICK, "last_event_time": DECIDED["clock"] + 7 * 1440 * minute}))
    assert due["clock"].tolist() == [DECIDED["clock"] + 7 * 1440 * minute] * 2


def test_a_shard_in_which_only_news_can_change_a_verdict_is_woken_seldom() -> None:
    state = State()
    judged(state, frame(PROMOTION))
    wakes = state.now_ms + state.timeout
    assert TICK_MS < state.timeout <= IDLE_MS
    state.now_ms += TICK_MS
    judged(state, frame(TICK))
    assert state.now_ms + state.timeout == wakes, "Spark writes a state whose timer is set to another time"
    failed = frame({**UNFITTED, "unfitted": {**TRIED, "fitted_at": state.now_ms * 1000}})
    judged(state, failed)
    assert state.timeout > TICK_MS, "no policy calls the group stale"
    judged(state, frame({**TICK, "last_event_time": START + 8 * 86_400_000_000}))
    judged(state, failed)
    assert state.timeout == TICK_MS, "a failed fit waits for the wall clock"
    by_the_wall = State()
    list(
        ShardJudge(replace(SETTINGS, is_wall_clock=True), QUEUES).function()(
            (5,), iter([frame(PROMOTION)]), by_the_wall
        )
    )
    assert by_the_wall.timeout == TICK_MS


def test_a_batch_that_is_repeated_in_the_same_worker_says_the_same_again() -> None:
    state = State()
    judged(state, frame(PROMOTION, {**HEALTH, "labelled": 2}))
    before = state.value
    reported = judged(state, frame({**TICK, "last_event_time": START + 8 * 86_400_000_000}))
    after = state.value
    state.value = before
    again = judged(state, frame({**TICK, "last_event_time": START + 8 * 86_400_000_000}))
    pd.testing.assert_frame_equal(reported[0], again[0])
    assert (reported[0]["decision"].tolist(), state.value) == (["summary", "fit"], after)


def test_a_batch_that_failed_half_way_leaves_nothing_behind_in_its_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    state, late = State(), {**TICK, "last_event_time": START + 8 * 86_400_000_000}
    judged(state, frame(PROMOTION))

    def fail(*_: Any) -> None:
        raise OSError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(State, "update", fail)
        with pytest.raises(OSError, match="killed"):
            judged(state, frame(late))
    (reported,) = judged(state, frame(late))
    assert reported[["decision", "repeats"]].values.tolist() == [["summary", 0], ["fit", 0]]


def test_a_tick_with_news_encodes_the_groups_once(monkeypatch: pytest.MonkeyPatch) -> None:
    state, encoded = State(), []
    judged(state, frame(PROMOTION))
    encode = group_state.encode_batch
    monkeypatch.setattr(group_state, "encode_batch", lambda *args, **named: encoded.append(1) or encode(*args, **named))
    judged(state, frame(HEALTH))
    assert len(encoded) == 1


def test_a_worker_keeps_no_more_state_decoded_than_it_may() -> None:
    kept = ShardCache(max_bytes=250)
    for n in range(3):
        kept.put(n, bytes([n]) * 100, ShardState.empty())
    assert len(kept.take(2, b"\x02" * 100).groups) == 0
    with pytest.raises(Corrupt):  # the first was dropped, so its bytes are read, and these are none
        kept.take(0, b"\x00" * 100)
    with pytest.raises(Corrupt):  # of other bytes than those kept
        kept.take(1, b"\x07" * 100)


def test_a_shard_is_judged_by_the_current_loss_of_the_fleet_from_the_first_call_on(configured) -> None:
    config = configured()
    change = LossChange(datetime(2024, 5, 1, tzinfo=UTC), "absolute", "squared")
    state = State()
    judged(state, frame(HEALTH))
    assert ShardState.from_bytes(state.get[0]).loss_name == ""
    judge = ShardJudge.from_config(config, LossHistory("squared", (change,)))
    list(judge.function()((5,), iter([]), state))
    assert ShardState.from_bytes(state.get[0]).loss_name == "squared"
