from __future__ import annotations

from datetime import UTC, datetime

import pytest
from handwritten_history import Past, hour

from spinney.core.errors import StoreError
from spinney.operations.interventions import Attribution, OverrideRequest, OverrideVerb, carry_out_override
from spinney.storage.layout import FleetStore
from spinney.tables.readers.as_of import format_as_of, resolve_as_of

A = '["a","1"]'


@pytest.fixture
def past(configured) -> Past:
    made = Past(configured())
    made.round(1, {A: 1.0})
    made.round(2, {A: 2.0})
    return made


@pytest.mark.parametrize(
    ("named", "meant"),
    [
        ("2024-05-02", datetime(2024, 5, 2, tzinfo=UTC)),
        ("2024-05-01T18:30", datetime(2024, 5, 1, 18, 30, tzinfo=UTC)),
        ("2024-05-01T18:30:05Z", datetime(2024, 5, 1, 18, 30, 5, tzinfo=UTC)),
        ("2024-05-01T18:30+02:00", datetime(2024, 5, 1, 16, 30, tzinfo=UTC)),
        (datetime(2024, 5, 2), datetime(2024, 5, 2, tzinfo=UTC)),  # noqa: DTZ001 - as a person writes it
        (hour(1), hour(1)),
    ],
)
def test_a_time_is_in_utc_unless_it_says_otherwise(past, named, meant) -> None:
    assert resolve_as_of(FleetStore.of(past.config), named) == meant


def test_a_round_stands_for_the_moment_at_which_it_decided_and_so_does_a_persons_step(past) -> None:
    assert resolve_as_of(FleetStore.of(past.config), "stream-2") == hour(2)
    carry_out_override(
        FleetStore.of(past.config),
        past.signer,
        OverrideRequest(OverrideVerb.PIN, (A,)),
        Attribution("ada", "so"),
        now=hour(5),
    )
    assert resolve_as_of(FleetStore.of(past.config), "people-0") == hour(5)


def test_what_is_neither_is_refused_with_the_nearest_rounds(past) -> None:
    with pytest.raises(StoreError) as refused:
        resolve_as_of(FleetStore.of(past.config), "stream-22")
    assert str(refused.value) == (
        "fleet shops: expected a time like 2026-11-20T18:00Z, or a round that was recorded; got 'stream-22'. "
        "The nearest rounds are: stream-2, stream-1"
    )


WALL = "by the wall clock on which models were promoted, in UTC"


@pytest.mark.parametrize("named", ["2024-05-01T00:59:59Z", "1999-01-01", datetime(2023, 1, 1, tzinfo=UTC)])
def test_before_the_first_decision_nothing_is_known(past, named) -> None:
    reported = rf"a moment from 2024-05-01T01:00:00\+00:00 on, {WALL}; got .* no model answered"
    with pytest.raises(StoreError, match=reported):
        resolve_as_of(FleetStore.of(past.config), named)


def test_what_will_answer_is_not_known(past) -> None:
    reported = rf"expected a moment until now, .*, {WALL}; got 2199-01-01T00:00:00\+00:00: what"
    with pytest.raises(StoreError, match=reported):
        resolve_as_of(FleetStore.of(past.config), "2199-01-01")


def test_a_fleet_in_which_no_model_ever_answered_has_no_such_moment(configured) -> None:
    with pytest.raises(StoreError, match="none was ever promoted"):
        resolve_as_of(FleetStore.of(Past(configured()).config), "2024-05-01")


def test_a_moment_is_shown_with_its_clock() -> None:
    assert format_as_of(hour(1.5)) == "2024-05-01 01:30:00, by the wall clock on which models were promoted, in UTC"
