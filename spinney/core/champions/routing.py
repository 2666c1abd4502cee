"""Which model answers for a group: its own, else that of the nearest parent that has one, else the global one."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from schemas.vocabulary import AnsweredBy
from spinney.core import keys
from spinney.core.champions.champion_selection import select_champion
from spinney.core.champions.promotion import Promotion


class ChampionSource(Protocol):
    """Source of the models that answer for groups and parents: `Champions`, or a snapshot of a whole fleet."""

    @property
    def promotions(self) -> Mapping[str, tuple[Promotion, ...]]:
        """group_key -> its promotions."""
        ...

    def champion_of(self, key: str) -> Promotion | None:
        """Return the champion of a group or parent; None without one.

        Signatures are not checked: all models count as usable.
        """
        ...


class RouteKey(NamedTuple):
    """What routes an answer: the group, and the model_ids that could not answer and are passed over (`excluded`)."""

    group_key: str
    excluded: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Route:
    """The model that answers. promotion: None where no model may answer. owner: key of the model's group or parent."""

    promotion: Promotion | None
    answered_by: AnsweredBy
    owner: str = ""


NO_ROUTE = Route(None, AnsweredBy.NONE)


def find_routes(
    route_keys: Iterable[RouteKey],
    champions: ChampionSource,
    ancestors: Callable[[str], tuple[str, ...]],
    unusable: Collection[str] = (),
) -> dict[RouteKey, Route]:
    """Return the route of each key.

    ancestors: the parents of a group, nearest first. unusable: model_ids whose bytes do not verify; for these the
    group's next best model answers.
    """
    routes: dict[RouteKey, Route] = {}
    for route_key in route_keys:
        if route_key in routes:
            continue
        routes[route_key] = NO_ROUTE
        excluded = route_key.excluded.union(unusable) if unusable else route_key.excluded
        for owner in _owners(route_key.group_key, ancestors):
            promotion = champions.champion_of(owner)
            if promotion is not None and promotion.model_id in excluded:
                promotion = select_champion(champions.promotions.get(owner, ()), excluded)
            if promotion is not None:
                routes[route_key] = Route(promotion, _answered_by(owner), owner)
                break
    return routes


def is_last_rung(key: str, parents: Sequence[Sequence[str]]) -> bool:
    """Whether nobody answers for a group after this parent: it is of the last of the fleet's `parents`."""
    return bool(parents) and keys.is_parent(key) and set(keys.parent_values(key)) == set(parents[-1])


def _owners(group_key: str, ancestors: Callable[[str], tuple[str, ...]]) -> Iterator[str]:
    """The group, then its parents. A generator, since the parents of most groups are not needed."""
    yield group_key
    yield from ancestors(group_key)


def _answered_by(owner: str) -> AnsweredBy:
    if not keys.is_parent(owner):
        return AnsweredBy.OWN
    return AnsweredBy.GLOBAL if owner == keys.GLOBAL else AnsweredBy.PARENT
