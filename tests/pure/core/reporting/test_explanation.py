from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from spinney.core.reporting.explanation import explain

START = datetime(2024, 5, 1, tzinfo=UTC)
OLD, NEW = "0123456789abcdef", "fedcba9876543210"


def hour(n: int) -> datetime:
    return START + timedelta(hours=n)


def decided(at: int, decision: str, model_id: str, round_id: str, **more: Any) -> dict[str, Any]:
    row = {"decided_at": hour(at), "decision": decision, "model_id": model_id, "round_id": round_id, "epoch": 0}
    times = {"trained_through": hour(at - 1), "fitted_at": hour(at), "clock": hour(at)}
    return {**row, **times, "by": "stream", "reason": "first model: loss 1.5 on 8 held-out rows", **more}


def sentences_of(*decisions: dict[str, Any]) -> list[tuple[str, str]]:
    return [(each["what"], each["said"]) for each in explain((), (), decisions, {})]


def test_a_verdict_says_its_reason_and_the_numbers_that_are_not_nothing() -> None:
    numbers = '{"rows_since": 12, "refusals": 0, "measure": 12.0, "limit": 8.5}'
    row = {"judged_at": hour(1), "decision": "fit", "reason": "12 new rows (limit 8.5)", "numbers": numbers}
    (entry,) = explain([{**row, "clock": hour(0)}], (), (), {})
    assert entry["what"] == "judged fit"
    assert entry["said"] == "12 new rows (limit 8.5) [rows_since 12, measure 12, limit 8.5]"
    assert (entry["at"], entry["clock"], entry["numbers"]) == (hour(1), hour(0), numbers)


def test_a_verdict_names_the_predecessor_of_the_champion_by_its_short_id() -> None:
    numbers = json.dumps({"measure": 12.0, "predecessor": {"model_id": OLD, "since": 1_714_521_600_000_000}})
    row = {"judged_at": hour(1), "decision": "fit", "reason": "12 new rows", "numbers": numbers, "clock": hour(0)}
    (entry,) = explain([row], (), (), {})
    assert entry["said"] == "12 new rows [measure 12, predecessor model 0123456789ab]"


def test_a_withdrawal_by_a_round_is_an_entry_of_its_own() -> None:
    why = "worse than the model it replaced: loss 9 against its predecessor's 7 on 40 rows newer than both"
    rows = [decided(3, "refused", NEW, "stream-4"), decided(3, "withdrawn", OLD, "stream-4", reason=why)]
    assert sentences_of(*rows)[1] == ("withdrawn", f"model 0123456789ab: {why} (stream)")


def test_a_verdict_names_its_queue_and_the_further_policies_without_their_numbers() -> None:
    also = {"max_age": {"measure": 8e11, "limit": 6e11}, "schedule": {"measure": 1.0, "limit": 1.0}}
    numbers = json.dumps({"measure": 12.0, "also": also, "queue": "random"})
    row = {"judged_at": hour(1), "decision": "fit", "reason": "12 new rows", "numbers": numbers, "clock": hour(0)}
    (entry,) = explain([row], (), (), {})
    assert entry["said"] == "12 new rows [measure 12, queue random, also stale by max_age, also stale by schedule]"


def test_the_measure_of_an_age_is_in_words() -> None:
    numbers = json.dumps({"rows_since": 3, "measure": 6.5 * 86_400e6, "limit": 6.07 * 86_400e6})
    row = {"judged_at": hour(1), "decision": "fit", "reason": "old", "numbers": numbers, "policy": "max_age"}
    (entry,) = explain([row], (), (), {})
    assert entry["said"] == "old [rows_since 3, measure 6 days 12 hours, limit 6 days 1 hour]"


def test_an_attempt_says_which_model_of_which_rows_or_why_there_is_none() -> None:
    row = {"fitted_at": hour(2), "status": "fitted", "model_id": OLD, "rows": 40, "fit_ms": 2.34, "error": None}
    times = {"trained_from": hour(-48), "trained_through": hour(0)}
    failed = {"fitted_at": hour(1), "status": "failed", "error_class": "ValueError", "error": "no"}
    assert [each["said"] for each in explain((), [row | times, failed], (), {})] == [
        "ValueError: no",
        "model 0123456789ab, 40 rows of 2024-04-29 00:00 through 2024-05-01 00:00, 2.34 ms",
    ]


def test_an_attempt_says_by_which_recipe_where_that_is_known_and_else_how_its_name_begins() -> None:
    row = {"fitted_at": hour(2), "status": "fitted", "model_id": OLD, "rows": 40, "trained_through": hour(0)}
    attempts = [{**row, "recipe_id": name * 8} for name in ("3f9c2ab0", "deadbeef")]
    first, second = explain((), attempts, (), {"3f9c2ab0" * 8: "ridge"})
    assert first["said"].startswith("model 0123456789ab by ridge 3f9c2ab0, 40 rows through ")
    assert second["said"].startswith("model 0123456789ab by deadbeef, 40 rows through ")
    assert first["recipe_id"] == "3f9c2ab0" * 8


def test_an_attempt_says_what_the_shadow_lost_beside_it_or_why_it_did_not() -> None:
    row = {"fitted_at": hour(2), "status": "fitted", "model_id": OLD, "rows": 40, "trained_through": hour(0)}
    better = {"shadow": {"estimator": "constant", "recipe_id": "r", "loss": 1.25, "rows": 8}, "challenger_loss": 1.5}
    broken = {"shadow": {"estimator": "my:model", "recipe_id": "r", "error": "ValueError: no"}, "challenger_loss": 1.5}
    told_of = explain((), [{**row, "metrics": json.dumps(metrics)} for metrics in (better, broken)], (), {})
    assert [each["said"].partition("; ")[2] for each in told_of] == [
        "in shadow constant: loss 1.25 against 1.5 on 8 rows",
        "in shadow my:model: ValueError: no",
    ]


def test_a_machines_decision_says_about_which_model_with_its_numbers_and_which_machine() -> None:
    assert sentences_of(decided(1, "promoted", OLD, "stream-1")) == [
        ("promoted", "model 0123456789ab: first model: loss 1.5 on 8 held-out rows (stream)")
    ]


def test_a_persons_step_is_one_entry_with_name_reason_both_models_and_what_was_withdrawn() -> None:
    machines = [decided(1, "promoted", OLD, "stream-1"), decided(2, "promoted", NEW, "stream-2")]
    by_hand = {"by": "ada", "epoch": 1, "reason": "promoted by hand: it overshoots"}
    people = [decided(3, "withdrawn", NEW, "people-0", **by_hand), decided(3, "promoted", OLD, "people-0", **by_hand)]
    ((what, words),) = sentences_of(*machines, *people)[2:]
    assert what == "promoted"
    assert words == (
        "by ada: promoted by hand: it overshoots; model 0123456789ab answers in place of model fedcba987654, "
        "which is withdrawn (epoch 1)"
    )


def test_a_rollback_to_no_model_a_pin_and_its_end_are_reported_as_what_they_are() -> None:
    rows = [
        decided(1, "promoted", OLD, "stream-1"),
        decided(2, "pinned", OLD, "people-0", by="ada", epoch=1, reason="pinned: audit"),
        decided(3, "promoted", OLD, "people-1", by="ada", epoch=2, reason="unpinned: settled"),
        decided(4, "withdrawn", OLD, "people-2", by="bob", epoch=3, reason="rolled back: bad feed"),
    ]
    assert sentences_of(*rows)[1:] == [
        ("pinned", "by ada: pinned: audit; model 0123456789ab goes on (epoch 1)"),
        ("promoted", "by ada: unpinned: settled; model 0123456789ab goes on (epoch 2)"),
        (
            "withdrawn",
            "by bob: rolled back: bad feed; model 0123456789ab is withdrawn, and none of its own answers (epoch 3)",
        ),
    ]


def test_what_a_machine_wrote_of_an_ended_epoch_later_on_is_not_what_a_step_replaced() -> None:
    late = decided(9, "promoted", NEW, "batch-1", by="batch", trained_through=hour(8))
    step = decided(3, "pinned", OLD, "people-0", by="ada", epoch=1, reason="pinned: so")
    assert sentences_of(decided(1, "promoted", OLD, "stream-1"), step, late)[1][1].endswith(
        "model 0123456789ab goes on (epoch 1)"
    )
