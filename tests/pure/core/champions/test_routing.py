from __future__ import annotations

import pytest

from spinney.core import keys
from spinney.core.champions.promotion import Promotion
from spinney.core.champions.routing import Route, RouteKey, find_routes, is_last_rung
from spinney.core.champions.shard_champions import Champions

GROUP = '["AA","JFK","LAX"]'
OTHER = '["AA","JFK","SFO"]'
MINE, THEIRS = RouteKey(GROUP), RouteKey(OTHER)
DEST = '{"dest":"LAX"}'
WORLD = "{}"


def ancestors(key: str) -> tuple[str, ...]:
    return keys.ancestors(("carrier", "origin", "dest"), (("dest",), ()), key)


def promoted(model_id: str, through: int = 1, *, epoch: int = 0) -> Promotion:
    return Promotion(epoch, model_id, "promoted", through, 1)


def known(**models: Promotion) -> Champions:
    owners = {"own": GROUP, "dest": DEST, "world": WORLD}
    return Champions.empty().with_promotions([(owners[name], row) for name, row in models.items()])


def test_a_groups_own_model_answers_first() -> None:
    champions = known(own=promoted("o"), dest=promoted("d"), world=promoted("w"))
    assert find_routes([MINE], champions, ancestors) == {MINE: Route(promoted("o"), "own", GROUP)}


def test_the_nearest_parent_answers_for_a_group_without_a_model() -> None:
    champions = known(dest=promoted("d"), world=promoted("w"))
    assert find_routes([MINE], champions, ancestors) == {MINE: Route(promoted("d"), "parent", DEST)}


def test_the_global_model_answers_where_no_nearer_one_does() -> None:
    champions = known(dest=promoted("d"), world=promoted("w"))
    assert find_routes([THEIRS], champions, ancestors) == {THEIRS: Route(promoted("w"), "global", WORLD)}


def test_nobody_answers_where_there_is_no_model() -> None:
    assert find_routes([MINE], Champions.empty(), ancestors) == {MINE: Route(None, "none")}


def test_a_group_never_gets_another_groups_model() -> None:
    assert find_routes([MINE, THEIRS], known(own=promoted("o")), ancestors)[THEIRS].promotion is None


def test_each_group_is_routed_once_however_often_it_is_asked_for() -> None:
    asked: list[str] = []

    def counted(key: str) -> tuple[str, ...]:
        asked.append(key)
        return ancestors(key)

    assert list(find_routes([MINE, THEIRS, MINE], Champions.empty(), counted)) == [MINE, THEIRS]
    assert asked == [GROUP, OTHER]


def test_an_unusable_model_is_passed_over_for_the_groups_model_before_it() -> None:
    champions = known(own=promoted("old", 1), dest=promoted("d")).with_promotions([(GROUP, promoted("new", 2))])
    assert find_routes([MINE], champions, ancestors, {"new"})[MINE] == Route(promoted("old", 1), "own", GROUP)


def test_a_parent_answers_when_no_model_of_the_group_is_usable() -> None:
    champions = known(own=promoted("o"), dest=promoted("d"), world=promoted("w"))
    assert find_routes([MINE], champions, ancestors, {"o"})[MINE] == Route(promoted("d"), "parent", DEST)
    assert find_routes([MINE], champions, ancestors, {"o", "d", "w"})[MINE] == Route(None, "none")


def test_a_withdrawn_model_stays_withdrawn_when_another_is_unusable() -> None:
    withdrawn = Promotion(0, "b", "withdrawn", 2, 1)
    champions = known(own=promoted("a", 1)).with_promotions(
        [(GROUP, promoted("b", 2)), (GROUP, promoted("c", 3)), (GROUP, withdrawn)]
    )
    assert find_routes([MINE], champions, ancestors, {"c"})[MINE].promotion == promoted("a", 1)
    assert find_routes([MINE], champions, ancestors, {"a", "b", "c"})[MINE].promotion is None


def test_what_one_row_passed_over_answers_for_another_row_of_the_group() -> None:
    champions = known(own=promoted("old", 1), dest=promoted("d")).with_promotions([(GROUP, promoted("new", 2))])
    once, twice = RouteKey(GROUP, frozenset({"new"})), RouteKey(GROUP, frozenset({"new", "old"}))
    found = find_routes([MINE, once, twice], champions, ancestors)
    assert [found[ask].promotion.model_id for ask in (MINE, once, twice)] == ["new", "old", "d"]
    assert [found[ask].answered_by for ask in (MINE, once, twice)] == ["own", "own", "parent"]


@pytest.mark.parametrize(
    ("key", "parents", "is_last"),
    [
        ("{}", [["dest"], []], True),
        ('{"dest":"LAX"}', [["dest"], []], False),
        ('{"dest":"LAX","origin":"JFK"}', [["origin", "dest"]], True),
        ('["AA","JFK","LAX"]', [["dest"], []], False),
        ("{}", [], False),  # a fleet that had a global parent once
    ],
)
def test_only_the_last_of_the_parents_has_nobody_after_it(key: str, parents: list[list[str]], is_last: bool) -> None:
    assert is_last_rung(key, parents) is is_last
