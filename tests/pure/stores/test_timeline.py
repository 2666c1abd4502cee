from __future__ import annotations

from datetime import UTC, datetime

import pytest
from past import Past, hour

from spinney.core.errors import StoreError
from spinney.stores.decisions import Ask, Said, Verb, carry_out
from spinney.stores.timeline import moment_of

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
        ("2026-11-20", datetime(2026, 11, 20, tzinfo=UTC)),
        ("2026-11-20T18:30", datetime(2026, 11, 20, 18, 30, tzinfo=UTC)),
        ("2026-11-20T18:30:05Z", datetime(2026, 11, 20, 18, 30, 5, tzinfo=UTC)),
        ("2026-11-20T18:30+02:00", datetime(2026, 11, 20, 16, 30, tzinfo=UTC)),
    ],
)
def test_a_time_is_in_utc_unless_it_says_otherwise(past, named, meant) -> None:
    assert moment_of(past.config, named) == meant


def test_a_round_stands_for_the_moment_at_which_it_decided_and_so_does_a_persons_step(past) -> None:
    assert moment_of(past.config, "stream-2") == hour(2)
    carry_out(past.config, past.signer, Ask(Verb.PIN, (A,)), Said("ada", "so"), now=hour(5))
    assert moment_of(past.config, "people-0") == hour(5)


def test_what_is_neither_is_refused_with_the_nearest_rounds(past) -> None:
    with pytest.raises(StoreError) as refused:
        moment_of(past.config, "stream-22")
    assert str(refused.value) == (
        "fleet shops: expected a time like 2026-11-20T18:00Z, or a round that was recorded; got 'stream-22'. "
        "The nearest rounds are: stream-2, stream-1"
    )
