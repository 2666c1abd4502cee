"""Which model answers for a group: its own, else its nearest parent's, else the global one, else nobody."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from schemas.vocabulary import AnsweredBy
from spinney.core import keys
from spinney.core.champion import Promotion, champion
from spinney.core.champions import Champions


@dataclass(frozen=True)
class Route:
    """promotion: of the model that answers; None where nobody does. owner: the key of the group or parent it is of."""

    promotion: Promotion | None
    answered_by: AnsweredBy
    owner: str = ""


def routes(
    group_keys: Iterable[str],
    champions: Champions,
    ancestors: Callable[[str], tuple[str, ...]],
    unusable: Collection[str] = (),
) -> dict[str, Route]:
    """The route of each group. unusable: model_ids whose bytes do not verify; the model before them answers."""
    found: dict[str, Route] = {}
    for group_key in group_keys:
        if group_key in found:
            continue
        found[group_key] = Route(None, AnsweredBy.NONE)
        for key in (group_key, *ancestors(group_key)):
            promotion = champion(champions.histories.get(key, ()), unusable)
            if promotion is not None:
                found[group_key] = Route(promotion, _rung(key), key)
                break
    return found


def _rung(key: str) -> AnsweredBy:
    if not keys.is_parent(key):
        return AnsweredBy.OWN
    return AnsweredBy.GLOBAL if key == keys.GLOBAL else AnsweredBy.PARENT
