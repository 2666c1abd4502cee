"""Which model answers for a group: its own, else its nearest parent's, else the global one, else nobody."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from schemas.vocabulary import AnsweredBy
from spinney.core import keys
from spinney.core.champions.champion import Promotion, champion
from spinney.core.champions.shard_champions import Champions


class Ask(NamedTuple):
    """Whose answer is wanted. passed: model_ids that were asked already and had none."""

    group_key: str
    passed: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Route:
    """promotion: of the model that answers; None where nobody does. owner: the key of the group or parent it is of."""

    promotion: Promotion | None
    answered_by: AnsweredBy
    owner: str = ""


NOBODY = Route(None, AnsweredBy.NONE)


def routes(
    asks: Iterable[Ask],
    champions: Champions,
    ancestors: Callable[[str], tuple[str, ...]],
    unusable: Collection[str] = (),
) -> dict[Ask, Route]:
    """The route of each ask. unusable: model_ids whose bytes do not verify; the model before them answers."""
    found: dict[Ask, Route] = {}
    for ask in asks:
        if ask in found:
            continue
        found[ask] = NOBODY
        for key in _in_line(ask.group_key, ancestors):
            passed = ask.passed.union(unusable)
            promotion = champion(champions.histories.get(key, ()), passed) if passed else champions.champion_of(key)
            if promotion is not None:
                found[ask] = Route(promotion, _rung(key), key)
                break
    return found


def _in_line(group_key: str, ancestors: Callable[[str], tuple[str, ...]]) -> Iterator[str]:
    """The group, then its parents, which most groups with a model of their own never ask for."""
    yield group_key
    yield from ancestors(group_key)


def _rung(key: str) -> AnsweredBy:
    if not keys.is_parent(key):
        return AnsweredBy.OWN
    return AnsweredBy.GLOBAL if key == keys.GLOBAL else AnsweredBy.PARENT
