from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from schemas.vocabulary import Decision
from spinney.core.champions.champion_selection import decided_until, is_pinned, select_champion
from spinney.core.champions.interventions import previous_champion
from spinney.core.champions.promotion import Promotion
from spinney.core.champions.retention import reachable_promotions


def row(model_id: str, at: int, decision: str = "promoted", *, epoch: int = 0) -> Promotion:
    by = "people" if epoch else "stream"
    return Promotion(epoch, model_id, decision, at, at, decided_at=at, round_id=f"{by}-{at}")


def names(rows: list[Promotion]) -> set[str]:
    return {each.model_id for each in rows}


def test_of_a_long_life_the_champions_since_then_and_a_few_before_are_kept() -> None:
    history = [row(f"m{at}", at) for at in range(1, 11)]
    assert names(reachable_promotions(history, 8)) == {"m6", "m7", "m8", "m9", "m10"}


def test_what_never_answered_is_kept_only_if_it_is_young() -> None:
    history = [row("a", 1), row("refused", 2, "refused"), row("b", 3), row("held", 9, "held")]
    assert names(reachable_promotions(history, 5)) == {"a", "b", "held"}


def test_a_pin_however_old_a_withdrawal_however_old_and_the_model_before_the_pin_are_kept() -> None:
    history = [row("a", 1), row("b", 2), row("a", 3, "promoted", epoch=1), row("b", 3, "withdrawn", epoch=1)]
    history += [row("c", 4, "pinned", epoch=2)]
    kept = reachable_promotions(history, 100)
    assert names(kept) == {"a", "b", "c"}
    assert {each.decision for each in kept if each.model_id == "b"} == {Decision.WITHDRAWN}


LIVES = st.lists(
    st.tuples(
        st.sampled_from(["promoted", "unproven", "refused", "held", "kept", "pinned"]),
        st.booleans(),
        st.integers(0, 6),
    ),
    max_size=20,
)


@given(LIVES, st.integers(0, 22))
def test_whoever_was_champion_since_then_still_was_and_there_is_a_way_back_as_before(
    life: list[tuple[str, bool, int]], since: int
) -> None:
    history, epoch = [], 0
    for at, (decision, said_by_person, model) in enumerate(life, 1):
        by_person = said_by_person or decision == "pinned"  # machines pin nothing
        epoch += by_person
        rank = model if decision == "pinned" else at
        history.append(
            Promotion(epoch, f"m{model}", decision, rank, rank, at, f"{'people' if by_person else 'stream'}-{at}")
        )
    kept = reachable_promotions(history, since)
    for at in range(since, len(life) + 2):
        assert select_champion(decided_until(kept, at)) == select_champion(decided_until(history, at))
        assert is_pinned(decided_until(kept, at)) == is_pinned(decided_until(history, at))
    assert (previous_champion(kept) is None) == (previous_champion(history) is None)
    there = previous_champion(kept)
    assert there is None or there.model_id in names(kept)
