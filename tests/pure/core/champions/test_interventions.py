"""What people do to champions, alone and while machines write."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from example_counts import examples
from hypothesis import given
from hypothesis import strategies as st

from schemas.vocabulary import Decision
from spinney.core.champions.champion_selection import condense, is_pinned, select_champion
from spinney.core.champions.interventions import ChampionChange, pin, previous_champion, promote, rollback, unpin
from spinney.core.champions.promotion import Promotion
from spinney.core.errors import GroupError

KEY = '["a"]'


def row(model_id: str, at: int, *, through: int = 0, epoch: int = 0, by: str = "stream") -> Promotion:
    return Promotion(epoch, model_id, "promoted", through or at, at, decided_at=at, round_id=f"{by}-{at}")


def taken(history: list[Promotion], step: ChampionChange | None, at: int) -> list[Promotion]:
    """The history with the rows of a step, as they are written: each names the data that its model has seen."""
    assert step is not None
    seen = {each.model_id: (each.trained_through, each.fitted_at) for each in history if each.trained_through}
    return [
        *history,
        *(
            Promotion(step.epoch, name, decision, *seen[name], decided_at=at, round_id=f"people-{at}")
            for name, decision in step.rows
        ),
    ]


def answers(history: list[Promotion]) -> str | None:
    found = select_champion(history)
    return found.model_id if found else None


def test_an_older_model_that_is_promoted_answers_and_the_newer_one_it_replaces_is_withdrawn() -> None:
    history = [row("a", 1), row("b", 2)]
    step = promote(KEY, history, history[0])
    assert step == ChampionChange(KEY, 1, "b", "a", Decision.PROMOTED, "b", "asked for by name")
    assert answers(taken(history, step, 3)) == "a"


def test_a_newer_model_that_is_promoted_withdraws_nothing() -> None:
    history = [row("a", 1), Promotion(0, "b", "refused", 2, 2, 2, "stream-2")]
    step = promote(KEY, history, history[1])
    assert step is not None
    assert (step.before, step.after, step.withdrawn) == ("a", "b", None)
    assert answers(taken(history, step, 3)) == "b"


def test_a_machine_that_fits_the_same_rows_again_does_not_undo_a_step_but_newer_rows_win() -> None:
    history = [row("a", 1), row("b", 2)]
    history = taken(history, rollback(KEY, history, None), 3)
    again = row("b", 4, through=2, epoch=1, by="batch")
    assert answers([*history, again]) == "a"
    assert answers([*history, again, row("c", 5, epoch=1)]) == "c"


def test_whoever_is_champion_already_is_not_promoted_again() -> None:
    history = [row("a", 1), row("b", 2)]
    assert promote(KEY, history, history[1]) is None
    assert rollback(KEY, history, 2) is None


def test_a_rollback_without_a_time_goes_to_the_model_before_and_the_next_one_further() -> None:
    history = [row("a", 1), row("b", 2), row("c", 3)]
    history = taken(history, rollback(KEY, history, None), 4)
    assert answers(history) == "b"
    history = taken(history, rollback(KEY, history, None), 5)
    assert answers(history) == "a"
    with pytest.raises(GroupError, match=r'group \["a"\]: no model answered before the current one'):
        rollback(KEY, history, None)


def test_a_rollback_to_a_time_brings_back_what_another_rollback_withdrew() -> None:
    history = [row("a", 1), row("b", 2)]
    history = taken(history, rollback(KEY, history, None), 3)
    history = taken(history, rollback(KEY, history, 2), 4)
    assert answers(history) == "b"


def test_a_rollback_to_a_time_before_the_first_model_leaves_the_group_without_one() -> None:
    history = [row("a", 5)]
    step = rollback(KEY, history, 4)
    assert step == ChampionChange(KEY, 1, "a", None, None, "a", "had no model of its own then")
    history = taken(history, step, 6)
    assert answers(history) is None
    assert answers([*history, row("a", 7, through=5, epoch=1)]) is None
    assert answers([*history, row("b", 8, epoch=1)]) == "b"


def test_a_pin_holds_and_an_unpinned_model_goes_on_until_a_newer_one_comes() -> None:
    history = [row("a", 1), row("b", 2)]
    history = taken(history, pin(KEY, history, history[0]), 3)
    assert (answers([*history, row("c", 4, epoch=1)]), is_pinned(history)) == ("a", True)
    history = taken(history, unpin(KEY, history), 5)
    assert (answers(history), is_pinned(history)) == ("a", False)
    assert answers([*history, row("c", 6, epoch=2)]) == "c"


def test_without_a_name_the_champion_is_pinned() -> None:
    assert pin(KEY, [row("a", 1), row("b", 2)]).after == "b"
    with pytest.raises(GroupError, match="no model of its own answers, so none can be pinned"):
        pin(KEY, [])


def test_a_pinned_group_is_left_alone_until_it_is_unpinned() -> None:
    history = [row("a", 1), row("b", 2)]
    history = taken(history, pin(KEY, history), 3)
    for refused in (
        lambda: promote(KEY, history, history[0]),
        lambda: rollback(KEY, history, 1),
        lambda: rollback(KEY, history, None),
        lambda: pin(KEY, history, history[0]),
    ):
        with pytest.raises(GroupError, match=r"pinned to b, and so left alone; .*`spinney unpin` frees it"):
            refused()


def test_what_is_not_pinned_cannot_be_unpinned() -> None:
    with pytest.raises(GroupError, match="not pinned; `spinney fleet --state held`"):
        unpin(KEY, [row("a", 1)])


def test_the_model_before_is_reported_by_who_answered_not_by_what_was_fitted() -> None:
    refused = Promotion(0, "bad", "refused", 2, 2, 2, "stream-2")
    history = [row("a", 1), refused, row("b", 3)]
    found = previous_champion(history)
    assert found is not None
    assert found.model_id == "a"


@dataclass
class World:
    """Machines that know only what they saw when they planned, and a person who sees all. Laws are told beside them."""

    rows: list[Promotion] = field(default_factory=list)
    seen: dict[str, int] = field(default_factory=lambda: {"stream": 0, "batch": 0})
    pinned: str | None = None
    struck: set[str] = field(default_factory=set)
    data: int = 1
    at: int = 0

    def plan(self, machine: str) -> None:
        self.seen[machine] = len(self.rows)

    def gate(self, machine: str, decision: str, model: int) -> None:
        """A decision about a model of rows so old, by what was known at the plan."""
        known = self.rows[: self.seen[machine]]
        epoch = max((each.revision for each in known), default=0)
        self.write(Promotion(epoch, f"m{model}", decision, model, self.at, self.at, f"{machine}-{self.at}"))

    def person(self, verb: str, model: int) -> None:
        mine = [each for each in self.rows if each.model_id == f"m{model}"]
        target = mine[0] if mine else None
        if target is None and verb in ("promote", "pin"):
            return
        acts = {
            "promote": lambda: promote(KEY, self.rows, target or row("", 0)),
            "rollback": lambda: rollback(KEY, self.rows, None),
            "rollback to": lambda: rollback(KEY, self.rows, self.at // 2),
            "pin": lambda: pin(KEY, self.rows, target),
            "unpin": lambda: unpin(KEY, self.rows),
        }
        try:
            step = acts[verb]()
        except GroupError:
            return
        if step is None:
            return
        self.rows = taken(self.rows, step, self.at)
        self.struck -= {step.after or ""}
        self.struck |= {step.withdrawn} if step.withdrawn else set()
        self.pinned = step.after if step.decision == Decision.PINNED else None
        assert answers(self.rows) == step.after

    def write(self, new: Promotion) -> None:
        had = select_champion(self.rows)
        epoch = max((each.revision for each in self.rows), default=0)
        self.rows.append(new)
        has = select_champion(self.rows)
        if had is not None and new.decision != "withdrawn" and new.revision <= epoch:
            assert has is not None
            assert has.trained_through >= had.trained_through, "newer data lost to older"
        if new.decision == "withdrawn" and new.revision == epoch:
            self.struck |= {new.model_id}

    def laws(self) -> None:
        name = answers(self.rows)
        assert self.pinned in (None, name), "a machine overrode a pin"
        assert self.pinned or name not in self.struck, "a machine brought back what was withdrawn"


MACHINE = st.sampled_from(["stream", "batch"])
DECISION = st.sampled_from(["promoted", "unproven", "refused", "held", "kept"])
VERB = st.sampled_from(["promote", "rollback", "rollback to", "pin", "unpin"])
ACTS = st.one_of(
    st.tuples(st.just("plan"), MACHINE),
    st.tuples(st.just("gate"), MACHINE, DECISION, st.integers(1, 6)),
    st.tuples(st.just("person"), VERB, st.integers(1, 6)),
)


@examples(300)
@given(st.lists(ACTS, max_size=25), st.data())
def test_whatever_stream_batch_and_people_do_the_laws_hold_and_every_order_of_arrival_agrees(
    acts: list[tuple[str, str]], data: st.DataObject
) -> None:
    world = World()
    for world.at, (what, *words) in enumerate(acts, 1):
        getattr(world, what)(*words)
        world.laws()
    reported = data.draw(st.permutations(world.rows))
    assert select_champion(reported) == select_champion(world.rows)
    state: tuple[Promotion, ...] = ()
    while reported:
        size = data.draw(st.integers(1, len(reported)))
        state, reported = condense([*state, *reported[:size]]), reported[size:]
    assert answers(list(state)) == answers(world.rows)
    assert is_pinned(state) == is_pinned(world.rows)
