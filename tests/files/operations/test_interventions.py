"""What people decide is shown, refused in words, or written as rows that rule."""

from __future__ import annotations

import shutil

import pyarrow as pa
import pytest
from deltalake import DeltaTable, Schema
from handwritten_history import Past, hour

from schemas import tables
from spinney.core import keys
from spinney.core.champions.promotion import Promotion
from spinney.core.errors import Busy, GroupError, StoreError
from spinney.core.models.signing import Signer
from spinney.operations.interventions import (
    Attribution,
    OverrideRequest,
    OverrideVerb,
    SkippedGroup,
    carry_out_override,
    propose_override,
)
from spinney.retraining.gate_input import read_past_decisions
from spinney.serving.model_cache import ModelCache
from spinney.storage import leases
from spinney.storage.layout import FleetStore
from spinney.tables import delta
from spinney.tables.arrow_schemas import arrow_schema

A, B, DEPT = '["a","1"]', '["b","1"]', '{"dept":"1"}'
ADA = Attribution("ada", "the feed was bad")


@pytest.fixture
def past(configured) -> Past:
    """A and the department have had three models each, B one."""
    made = Past(configured())
    made.first = made.round(1, {A: 1.0, DEPT: 11.0})
    made.second = made.round(2, {A: 2.0, DEPT: 12.0, B: 22.0})
    made.third = made.round(3, {A: 3.0, DEPT: 13.0})
    return made


def decide(past: Past, *words, now: float = 4, **more):
    return carry_out_override(
        FleetStore.of(past.config), past.signer, OverrideRequest(*words, **more), ADA, now=hour(now)
    )


def test_what_is_proposed_names_group_both_models_and_why_and_writes_nothing(past) -> None:
    before = delta.current_version(FleetStore.of(past.config).directory(tables.PROMOTIONS, "people"))
    found = propose_override(
        FleetStore.of(past.config), past.signer, OverrideRequest(OverrideVerb.PROMOTE, (A,), past.first[A])
    )
    ((group, left, to, why),) = [(step.group_key, step.before, step.after, step.why) for step in found.steps]
    assert (group, left, to, why) == (A, past.third[A], past.first[A], "asked for by name")
    assert (found.left, past.decided()) == ((), [])
    assert delta.current_version(FleetStore.of(past.config).directory(tables.PROMOTIONS, "people")) == before


def test_a_promotion_by_hand_is_a_row_with_name_reason_a_new_epoch_and_what_the_model_had_seen(past) -> None:
    decide(past, OverrideVerb.PROMOTE, (A,), past.first[A])
    promoted, withdrawn = past.decided()
    reported = ("round_id", "epoch", "model_id", "decision", "by", "reason", "decided_at", "clock")
    assert [promoted[name] for name in reported] == [
        "people-0", 1, past.first[A], "promoted", "ada", "promoted by hand: the feed was bad", hour(4), hour(3),
    ]  # fmt: skip
    seen = ("trained_through", "fitted_at", "rows", "challenger_loss", "rows_compared")
    assert [promoted[name] for name in seen] == [hour(0), hour(1), 40, 1.5, 8]
    assert [withdrawn[name] for name in reported[1:4]] == [1, past.third[A], "withdrawn"]
    assert [withdrawn[name] for name in ("trained_through", "fitted_at", "payload")] == [hour(2), hour(3), None]
    assert promoted["shard"] == withdrawn["shard"] == keys.shard_of(A, 4)
    assert past.answers() == {A: past.first[A], B: past.second[B], DEPT: past.third[DEPT]}


def test_a_person_whose_reason_reads_like_that_of_a_jump_does_not_hold_or_release_one(past) -> None:
    asked = OverrideRequest(OverrideVerb.PROMOTE, (A,), past.first[A])
    why = Attribution("ada", "checked. The jump has lasted: two weeks")
    carry_out_override(FleetStore.of(past.config), past.signer, asked, why, now=hour(4))
    decisions = read_past_decisions(FleetStore.of(past.config), pa.array([A]))[A]
    assert [row.about_jump for row in decisions if row.revision == 1] == [False, False]


def test_a_small_model_is_carried_and_verifies_and_a_large_one_is_left_in_models(past, monkeypatch) -> None:
    decide(past, OverrideVerb.PROMOTE, (A,), past.first[A])
    row = past.decided()[0]
    loaded, refused = ModelCache().load(
        {row["model_id"]: (A, Promotion.from_row(row))}, FleetStore.of(past.config), past.signer
    )
    assert (list(loaded), refused) == ([past.first[A]], set())
    monkeypatch.setattr("spinney.operations.interventions.CARRIED_BYTES", 10)
    decide(past, OverrideVerb.PROMOTE, (A,), past.second[A], now=5)
    assert [past.decided()[2][name] for name in ("codec", "payload", "signature")] == [None, None, None]


def test_the_beginning_of_a_models_name_is_enough_when_only_one_begins_so(past) -> None:
    found = propose_override(
        FleetStore.of(past.config), past.signer, OverrideRequest(OverrideVerb.PROMOTE, (A,), past.first[A][:8])
    )
    assert found.steps[0].after == past.first[A]
    with pytest.raises(GroupError, match="3 of its models begin with '9'; give more of the name"):
        propose_override(FleetStore.of(past.config), past.signer, OverrideRequest(OverrideVerb.PROMOTE, (A,), "9"))


def test_a_model_that_is_not_of_this_group_is_refused_and_its_owner_named(past) -> None:
    with pytest.raises(GroupError) as refused:
        propose_override(
            FleetStore.of(past.config), past.signer, OverrideRequest(OverrideVerb.PROMOTE, (A,), past.second[B])
        )
    assert str(refused.value) == (
        f"group {A}: model {past.second[B]} was fitted for {B}; a model answers only for its own group. "
        "`spinney why` shows a group's models"
    )


def test_a_model_that_nobody_knows_is_refused_with_the_newest_there_are(past) -> None:
    with pytest.raises(GroupError) as refused:
        propose_override(
            FleetStore.of(past.config), past.signer, OverrideRequest(OverrideVerb.PROMOTE, (A,), "nothing")
        )
    newest = ", ".join(
        f"{each[A]} (2024-05-01 0{at}:00)" for at, each in ((3, past.third), (2, past.second), (1, past.first))
    )
    assert str(refused.value).endswith(f"got 'nothing'. Its newest, by when they were fitted: {newest}")


def test_a_group_that_nobody_knows_is_refused_with_the_nearest_there_are(past) -> None:
    with pytest.raises(StoreError) as refused:
        propose_override(FleetStore.of(past.config), past.signer, OverrideRequest(OverrideVerb.PIN, ('["a","2"]',)))
    assert str(refused.value).startswith(f'group ["a","2"]: no model of it is known; the nearest are {A}, {B}')
    assert str(refused.value).endswith("; `spinney fleet` lists the groups")


def test_a_model_whose_signature_does_not_hold_is_refused_and_one_by_an_older_key_is_not(past) -> None:
    other = Signer(b"o" * 32)
    with pytest.raises(GroupError, match=rf"{past.first[A]}: the model's signature does not hold.*spinney retrain"):
        propose_override(FleetStore.of(past.config), other, OverrideRequest(OverrideVerb.PROMOTE, (A,), past.first[A]))
    assert propose_override(
        FleetStore.of(past.config),
        Signer(b"o" * 32, (b"k" * 32,)),
        OverrideRequest(OverrideVerb.PROMOTE, (A,), past.first[A]),
    ).steps


def test_a_model_whose_bytes_are_gone_is_refused(past) -> None:
    DeltaTable(FleetStore.of(past.config).directory(tables.MODELS, "stream").uri).delete(
        f"model_id = '{past.first[A]}'"
    )
    with pytest.raises(GroupError, match=rf"{past.first[A]}: the model is no longer stored. Restore the table"):
        propose_override(
            FleetStore.of(past.config), past.signer, OverrideRequest(OverrideVerb.ROLLBACK, (A,), at=hour(1))
        )


def test_the_whole_fleet_goes_back_to_a_time_parents_too_and_newcomers_to_none_of_their_own(past) -> None:
    found = decide(past, OverrideVerb.ROLLBACK, None, at=hour(1.5))
    changes = {step.group_key: (step.before, step.after) for step in found.steps}
    assert changes == {
        A: (past.third[A], past.first[A]), B: (past.second[B], None), DEPT: (past.third[DEPT], past.first[DEPT]),
    }  # fmt: skip
    assert past.answers() == {A: past.first[A], B: None, DEPT: past.first[DEPT]}
    assert {row["reason"] for row in past.decided()} == {"rolled back to 2024-05-01 01:30:00 UTC: the feed was bad"}


def test_of_a_whole_fleet_what_is_pinned_or_has_no_bytes_is_left_and_reported(past) -> None:
    decide(past, OverrideVerb.PIN, (DEPT,))
    DeltaTable(FleetStore.of(past.config).directory(tables.MODELS, "stream").uri).delete(
        f"model_id = '{past.first[A]}'"
    )
    found = decide(past, OverrideVerb.ROLLBACK, None, at=hour(1.5))
    assert [step.group_key for step in found.steps] == [B]
    lost, pinned = found.left
    assert (lost.group_key, lost.model_id, lost.wanting) == (A, past.third[A], True)
    assert pinned == SkippedGroup(DEPT, past.third[DEPT], "pinned")
    assert past.answers() == {A: past.third[A], B: None, DEPT: past.third[DEPT]}


def test_several_named_groups_change_together_or_not_at_all(past) -> None:
    decide(past, OverrideVerb.PIN, (DEPT,))
    with pytest.raises(GroupError, match="pinned to"):
        decide(past, OverrideVerb.ROLLBACK, (A, DEPT), at=hour(1.5))
    assert [row["decision"] for row in past.decided()] == ["pinned"]


def test_one_group_goes_back_to_the_model_before(past) -> None:
    decide(past, OverrideVerb.ROLLBACK, (A,))
    assert past.answers()[A] == past.second[A]
    assert {row["reason"] for row in past.decided()} == {"rolled back: the feed was bad"}


def test_a_pin_holds_while_machines_promote_and_its_end_lets_them(past) -> None:
    decide(past, OverrideVerb.PIN, (A,), past.first[A])
    past.round(5, {A: 5.0}, epoch=1)
    assert past.answers()[A] == past.first[A]
    with pytest.raises(GroupError, match=f"pinned to {past.first[A]}"):
        decide(past, OverrideVerb.PROMOTE, (A,), past.second[A], now=6)
    decide(past, OverrideVerb.UNPIN, (A,), now=6)
    assert past.answers()[A] == past.first[A]
    newest = past.round(7, {A: 7.0}, epoch=2)
    assert past.answers()[A] == newest[A]
    assert [(row["round_id"], row["epoch"], row["decision"]) for row in past.decided()] == [
        ("people-0", 1, "pinned"), ("people-1", 2, "promoted"),
    ]  # fmt: skip


def test_a_group_whose_pinned_model_lost_its_bytes_can_still_be_unpinned(past) -> None:
    decide(past, OverrideVerb.PIN, (A,))
    DeltaTable(FleetStore.of(past.config).directory(tables.MODELS, "stream").uri).delete(
        f"model_id = '{past.third[A]}'"
    )
    decide(past, OverrideVerb.UNPIN, (A,), now=5)
    last = past.decided()[-1]
    assert (last["decision"], last["trained_through"], last["payload"]) == ("promoted", hour(2), None)


def test_what_would_change_nothing_is_left_and_nothing_is_written(past) -> None:
    found = decide(past, OverrideVerb.PROMOTE, (A,), past.third[A])
    assert (found.steps, found.left) == ((), (SkippedGroup(A, past.third[A], "answers already"),))
    assert past.decided() == []


def test_after_another_persons_step_what_was_shown_is_not_written(past) -> None:
    ask = OverrideRequest(OverrideVerb.PROMOTE, (A,), past.first[A])
    shown = propose_override(FleetStore.of(past.config), past.signer, ask)
    decide(past, OverrideVerb.PIN, (B,))
    with pytest.raises(StoreError, match=r"another person changed a champion after .*; nothing was written"):
        carry_out_override(FleetStore.of(past.config), past.signer, ask, ADA, shown)
    assert [row["decision"] for row in past.decided()] == ["pinned"]


def test_what_machines_promote_after_it_was_shown_is_taken_in(past) -> None:
    ask = OverrideRequest(OverrideVerb.ROLLBACK, None, at=hour(2))
    shown = propose_override(FleetStore.of(past.config), past.signer, ask)
    fourth = past.round(4, {B: 24.0})
    carry_out_override(FleetStore.of(past.config), past.signer, ask, ADA, shown, now=hour(5))
    assert past.answers() == {A: past.second[A], B: past.second[B], DEPT: past.second[DEPT]}
    assert ("withdrawn", fourth[B]) in {(row["decision"], row["model_id"]) for row in past.decided()}


@pytest.mark.parametrize("verb", [OverrideVerb.ROLLBACK, OverrideVerb.PIN])
def test_if_another_model_than_the_shown_one_would_answer_nothing_is_written(past, verb) -> None:
    """The third model is bad: the rollback to the second that a person confirmed must not bring the third back."""
    ask = OverrideRequest(verb, (A,))
    shown = propose_override(FleetStore.of(past.config), past.signer, ask)
    expected = past.second[A] if verb == OverrideVerb.ROLLBACK else past.third[A]
    assert [step.after for step in shown.steps] == [expected]
    fourth = past.round(4, {A: 24.0})
    with pytest.raises(StoreError, match=f"expected {expected[:12]} to become its champion, as it was shown; now"):
        carry_out_override(FleetStore.of(past.config), past.signer, ask, ADA, shown, now=hour(5))
    assert past.decided() == []
    assert past.answers()[A] == fourth[A]
    past.round(4.5, {B: 25.0})  # another group's does not matter
    again = propose_override(FleetStore.of(past.config), past.signer, ask)
    carry_out_override(FleetStore.of(past.config), past.signer, ask, ADA, again, now=hour(5))
    assert past.answers()[A] == (past.third[A] if verb == OverrideVerb.ROLLBACK else fourth[A])


def test_a_stream_that_holds_its_leases_is_in_nobodys_way_and_another_person_is(past) -> None:
    with leases.held(FleetStore.of(past.config), ["ingest", "score", "labels", "retrain", "weekly"]):
        decide(past, OverrideVerb.PIN, (A,))
    with leases.held(FleetStore.of(past.config), ["people"]), pytest.raises(Busy):
        decide(past, OverrideVerb.PIN, (B,))


def test_on_the_walls_clock_a_step_is_dated_by_it(configured) -> None:
    made = Past(configured(("label_delay", 'clock = "wall"\nlabel_delay')))
    made.round(1, {A: 1.0})
    carry_out_override(
        FleetStore.of(made.config), made.signer, OverrideRequest(OverrideVerb.PIN, (A,)), ADA, now=hour(9)
    )
    assert made.decided()[0]["clock"] == hour(9)


def test_a_person_decides_on_a_table_of_an_earlier_version_before_any_stream_has_run(past) -> None:
    place = FleetStore.of(past.config).directory(tables.PROMOTIONS, "people")
    shutil.rmtree(place.uri)
    earlier = [field for field in Schema.from_arrow(arrow_schema(place.contract)).fields if field.name != "about_jump"]
    DeltaTable.create(place.uri, Schema(earlier), partition_by=list(place.contract.partitioned_by) or None)
    shown = propose_override(FleetStore.of(past.config), past.signer, OverrideRequest(OverrideVerb.PIN, (A,)))
    found = carry_out_override(
        FleetStore.of(past.config), past.signer, OverrideRequest(OverrideVerb.PIN, (A,)), ADA, shown, now=hour(4)
    )
    assert [step.group_key for step in found.steps] == [A]
    (row,) = past.decided()
    assert (row["group_key"], row["decision"], row["about_jump"]) == (A, "pinned", False)
