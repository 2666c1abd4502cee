from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from schemas import tables
from spinney.core.champions.gate import UncomparedPolicy
from spinney.core.timestamps import to_microseconds
from spinney.retraining.round_gate import OTHER_PATH_EPOCH, PLAN_COLUMNS, SCHEMA, RoundGate, Watch
from spinney.tables.arrow_schemas import arrow_schema

AT = datetime(2024, 5, 1, tzinfo=UTC)
DAY = 86_400_000_000
SINCE = to_microseconds(AT) - 2 * DAY
GATE: Any = SimpleNamespace(
    rule="not_worse", evidence=5, margin=0.0, jump=10.0, jump_hold=timedelta(days=14), halt_share=0.5
)
MODELS = pa.schema([arrow_schema(tables.MODELS).field(name) for name in (
    "shard", "group_key", "model_id", "status", "metrics", "trained_through", "fitted_at", "rows", "fit_ms", "codec",
    "payload", "signature",
)])  # fmt: skip


def model(key: str, status: str = "fitted", payload: bytes | None = b"small") -> dict[str, Any]:
    metrics = {"heldout_rows": 9, "challenger_loss": 1.0, "champion_loss": 2.0, "champion_id": "old"}
    return {
        "shard": 0, "group_key": key, "model_id": "new" if status == "fitted" else None, "status": status,
        "metrics": json.dumps(metrics), "trained_through": AT, "fitted_at": AT, "rows": 40, "fit_ms": 1.5,
        "codec": "linear", "payload": payload, "signature": b"signed",
    }  # fmt: skip


def asked(*keys: str, pinned: bool = False) -> pd.DataFrame:
    return pd.DataFrame([(0, key, "old", "older", SINCE, 0, pinned) for key in keys], columns=list(PLAN_COLUMNS))


def stored(models: list[dict[str, Any]], plan: pd.DataFrame) -> list[dict[str, Any]]:
    return decisions(RoundGate(GATE), models, plan)


def decisions(gate: RoundGate, models: list[dict[str, Any]], plan: pd.DataFrame) -> list[dict[str, Any]]:
    elsewhere = [pa.field(OTHER_PATH_EPOCH, pa.int64())] if any(OTHER_PATH_EPOCH in row for row in models) else []
    decided = gate.decide_all(pa.Table.from_pylist(models, schema=pa.schema([*MODELS, *elsewhere])), plan)
    assert decided.schema == SCHEMA
    rows: list[dict[str, Any]] = decided.to_pylist()
    return rows


@pytest.mark.parametrize("fitted", [[], ['["a"]']])
def test_a_group_without_a_row_of_models_was_kept_whether_or_not_others_were_fitted(fitted: list[str]) -> None:
    rows = stored([model(key) for key in fitted], asked('["b"]', *fitted))
    (kept,) = [row for row in rows if row["group_key"] == '["b"]']
    assert (kept["decision"], kept["model_id"]) == ("kept", "old")
    nothing = ("trained_through", "fitted_at", "codec", "payload", "signature", "rows", "fit_ms", "challenger_loss")
    assert [kept[name] for name in nothing] == [None] * len(nothing)


def test_a_group_that_failed_has_no_decision() -> None:
    assert stored([model('["a"]', "failed")], asked('["a"]')) == []


def test_a_better_challenger_is_promoted_with_its_losses_and_its_small_payload() -> None:
    (row,) = stored([model('["a"]')], asked('["a"]'))
    assert (row["decision"], row["challenger_loss"], row["champion_loss"], row["rows_compared"]) == (
        "promoted",
        1.0,
        2.0,
        9,
    )
    assert (row["payload"], row["trained_through"]) == (b"small", AT)


@pytest.mark.parametrize(("key", "decision"), [('["a"]', "unproven"), ("{}", "refused"), ('{"dept":"x"}', "refused")])
def test_a_parent_with_nothing_to_compare_keeps_its_champion_since_a_batch_counts_only_groups(
    key: str, decision: str
) -> None:
    uncompared = {"why": "no held-out row is newer than the champion", "refit_failed": False}
    metrics = {"heldout_rows": 0, "champion_id": "old", "changed_from": "ab", "uncompared": uncompared}
    models = [model(key) | {"metrics": json.dumps(metrics)}]
    for policy, expected in ((UncomparedPolicy.FORESEEN, decision), (UncomparedPolicy.ALL, "unproven")):
        assert [row["decision"] for row in decisions(RoundGate(GATE, policy), models, asked(key))] == [expected]


def test_a_large_payload_is_not_carried() -> None:
    (row,) = stored([model('["a"]', payload=b"x" * 4097)], asked('["a"]'))
    assert (row["codec"], row["payload"], row["signature"]) == (None, None, None)


def test_a_pinned_group_is_held_and_reported_what_would_have_been() -> None:
    (row,) = stored([model('["a"]')], asked('["a"]', pinned=True))
    assert row["decision"] == "held"
    assert row["reason"].startswith("pinned by a person; without the pin: promoted")


@pytest.mark.parametrize(
    ("elsewhere", "incumbent", "expected"),
    [
        (None, "old", "promoted"),
        (0, "old", "kept"),  # the other path promoted this very model meanwhile
        (2, "old", "kept"),
        (-1, "old", "promoted"),  # before a person stepped in: in this epoch it does not answer
        (0, "new", "promoted"),  # the champion itself, fitted again since its signature was lost
    ],
)
def test_what_the_other_path_has_promoted_is_not_promoted_again(elsewhere, incumbent: str, expected: str) -> None:
    plan = asked('["a"]').assign(champion_id=incumbent)
    (row,) = stored([{**model('["a"]'), OTHER_PATH_EPOCH: elsewhere}], plan)
    assert row["decision"] == expected


WATCH = Watch(to_microseconds(AT), 365 * DAY)
"""With SINCE a level of 2 / 365 = 0.0055."""

BAD = {
    "predecessor_id": "older", "watched_rows": 40, "watched_champion_loss": 9.0, "predecessor_loss": 7.0,
    "watched_difference": 2.0, "watched_difference_se": 0.5,
}  # fmt: skip
"""Worse than its predecessor: x = 80 ÷ √(40·39·0.25 + 160) = 3.41, a chance of 3.18 · 0.000325 = 0.0010."""


def test_what_a_look_allows_is_by_the_patience_that_is_configured_now(configured) -> None:
    for patience, level in (("365d", 2 / 365), ("1000d", 2 / 1000), ("10d", 0.01)):
        config = configured(("[storage]", f'[staleness.error_rise]\npatience = "{patience}"\n[storage]'))
        assert Watch.of(config.staleness.error_rise.patience, AT).level(SINCE) == pytest.approx(level)


def gated(challenger_loss: float, watched: dict[str, Any], **plan: Any) -> list[dict[str, Any]]:
    metrics = {"heldout_rows": 9, "challenger_loss": challenger_loss, "champion_loss": 2.0, "champion_id": "old"}
    models = [model('["a"]') | {"metrics": json.dumps(metrics | watched)}]
    return decisions(RoundGate(GATE, watch=WATCH), models, asked('["a"]').assign(**plan))


def test_a_champion_that_is_worse_than_its_predecessor_is_withdrawn_beside_the_refusal_of_its_challenger() -> None:
    refused, withdrawn = gated(3.0, BAD, epoch=4)
    assert (refused["model_id"], refused["decision"]) == ("new", "refused")
    assert (withdrawn["model_id"], withdrawn["decision"], withdrawn["epoch"]) == ("old", "withdrawn", 4)
    assert withdrawn["reason"] == (
        "worse than the model it replaced: loss 9 against its predecessor's 7 on 40 rows newer than both (chance 0.1 % "
        "if it were as good), 0.55 % allowed"
    )
    nothing = ("trained_through", "fitted_at", "payload", "rows", "fit_ms", "challenger_loss", "champion_loss")
    assert [withdrawn[name] for name in nothing] == [None] * len(nothing)


@pytest.mark.parametrize(
    ("challenger_loss", "watched", "plan", "decisions"),
    [
        pytest.param(1.0, BAD, {}, ["promoted"], id="it is replaced anyway"),
        pytest.param(3.0, {}, {}, ["refused"], id="it was not compared"),
        pytest.param(3.0, BAD, {"pinned": True}, ["held"], id="a person pinned it"),
        pytest.param(3.0, BAD | {"watched_difference_se": 1.0}, {}, ["refused"], id="it is not clearly worse"),
        pytest.param(3.0, BAD, {"watched_since": SINCE + 2 * DAY}, ["refused"], id="it was looked at just now"),
        pytest.param(3.0, BAD, {"watched_since": pd.NA}, ["refused"], id="nothing is known of an earlier look"),
    ],
)
def test_a_champion_is_not_withdrawn_where(
    challenger_loss: float, watched: dict[str, Any], plan: dict[str, Any], decisions: list[str]
) -> None:
    assert [row["decision"] for row in gated(challenger_loss, watched, **plan)] == decisions


def test_a_champion_from_whose_predictions_a_challenger_jumps_is_withdrawn_if_it_is_worse() -> None:
    held, withdrawn = gated(1.0, BAD | {"jump": 11.0})
    assert (held["decision"], withdrawn["decision"]) == ("held", "withdrawn")
