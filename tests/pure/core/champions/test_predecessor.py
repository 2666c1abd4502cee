"""The model that answers if a machine withdraws the champion."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spinney.core.champions.champion_selection import condense, decided_until, select_champion, select_predecessor
from spinney.core.champions.promotion import Promotion


def row(model_id: str, at: int, decision: str = "promoted", *, by: str = "stream-1", epoch: int = 0) -> Promotion:
    return Promotion(epoch, model_id, decision, trained_through=at, fitted_at=at, decided_at=at, round_id=by)


def predecessor(*rows: Promotion) -> str | None:
    found = select_predecessor(rows)
    return found.model_id if found else None


def test_it_is_the_model_that_a_withdrawal_brings_back() -> None:
    history = [row("a", 1), row("b", 2), row("c", 3, "unproven")]
    assert predecessor(*history) == "b"
    withdrawn = select_champion([*history, row("c", 4, "withdrawn")])
    assert withdrawn is not None
    assert withdrawn.model_id == "b"


@pytest.mark.parametrize(
    "history",
    [
        pytest.param([], id="no champion"),
        pytest.param([row("a", 1)], id="the only model"),
        pytest.param([row("a", 1, epoch=0), row("b", 2, epoch=1)], id="the other one is of an earlier revision"),
        pytest.param([row("a", 1), row("b", 2), row("b", 3, "pinned", by="people-1")], id="pinned"),
        pytest.param([row("a", 1), row("b", 2, by="people-1")], id="promoted by a person"),
        pytest.param([row("a", 1), row("b", 2, by="people-1"), row("b", 3)], id="promoted by a person and a machine"),
        pytest.param([row("a", 1), row("b", 2), row("c", 3), row("c", 4, "withdrawn")], id="back by a withdrawal"),
        pytest.param([row("a", 0, by="people-1"), row("b", 2)], id="the other one is imported and may have seen all"),
    ],
)
def test_a_machine_may_withdraw_no_champion_that_is(history: list[Promotion]) -> None:
    assert predecessor(*history) is None


def test_a_champion_that_was_promoted_after_a_withdrawal_may_be_withdrawn() -> None:
    history = [row("a", 1), row("b", 2), row("c", 3), row("c", 4, "withdrawn"), row("d", 5)]
    assert predecessor(*history) == "b"


def test_a_withdrawal_before_or_with_the_champions_last_promotion_does_not_count() -> None:
    """One round withdraws b and promotes c; both paths of retraining promote d, the second one after a withdrawal."""
    assert predecessor(row("a", 1), row("b", 2), row("b", 3, "withdrawn"), row("c", 3)) == "a"
    d = row("d", 5)
    again = replace(d, decided_at=7, round_id="batch-1")
    assert predecessor(row("a", 1), row("c", 3), d, row("c", 6, "withdrawn")) is None
    assert predecessor(row("a", 1), row("c", 3), d, row("c", 6, "withdrawn"), again) == "a"


def test_a_model_of_older_data_that_is_promoted_later_is_the_predecessor() -> None:
    older = replace(row("a", 1), decided_at=9)
    assert predecessor(row("b", 2), older) == "a"


def test_a_decision_counts_from_its_own_moment_on() -> None:
    rows = [row("a", 1), row("b", 2), row("c", 3)]
    assert decided_until(rows, 2) == rows[:2]


def test_a_state_keeps_the_champion_and_earlier_withdrawals_and_one_pin_of_a_revision() -> None:
    withdrawn, champion = row("a", 1, "withdrawn"), row("b", 2, epoch=1)
    assert condense([row("a", 0), withdrawn, champion]) == (withdrawn, champion)
    first, second = (row(name, at, "pinned", by="people-1") for name, at in (("a", 1), ("b", 2)))
    assert [each.model_id for each in condense([first, second]) if each.decision == "pinned"] == ["b"]


def test_a_person_may_have_promoted_the_predecessor() -> None:
    assert predecessor(row("a", 1, by="people-1"), row("b", 2)) == "a"


@given(st.lists(st.sampled_from(["promote", "withdraw", "person"]), max_size=40))
def test_a_state_of_few_candidates_and_the_table_have_the_same_champion_after_any_withdrawals(steps: list[str]) -> None:
    table: list[Promotion] = []
    state: tuple[Promotion, ...] = ()
    for at, step in enumerate(steps, 1):
        champion = select_champion(table)
        epoch = max((each.revision for each in table), default=0)
        if step == "promote":
            added = [row(f"m{at}", at, epoch=epoch)]
        elif step == "person" and champion is not None:
            added = [row(champion.model_id, at, by=f"people-{at}", epoch=epoch + 1)]
        elif step == "withdraw" and champion is not None and select_predecessor(table) is not None:
            added = [row(champion.model_id, at, "withdrawn", epoch=epoch)]
        else:
            continue
        table += added
        state = condense([*state, *added])
        champions = [select_champion(rows) for rows in (table, state)]
        assert champions[0] is not None
        assert champions[0] == champions[1]
