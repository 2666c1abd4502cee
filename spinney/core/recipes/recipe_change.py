"""How a champion's recipe differs from the current one, and whether it can be fitted again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from spinney.core.durations import render
from spinney.core.errors import ContractError
from spinney.core.recipes.recipe import Recipe, source_of

ARROW = "→"


def difference(earlier: Recipe, today: Recipe) -> str:
    """The differences as text: ``ridge → constant``, ``alpha 1.0 → 10.0, window 90d → 30d``."""
    return ", ".join(_differences(earlier, today)) or "Spinney's own fitting"


def obstacle(earlier: Recipe, today: Recipe) -> str | None:
    """Why the earlier recipe cannot be fitted again on the rows read for the current one; None if it can.

    Reads the source of its estimator. Other library versions do not matter: it is fitted with the installed ones.
    """
    if names := lost(earlier, today):
        return f"it was fitted on {', '.join(names)}, no longer among fleet.features"
    for name in ("window_rows", "window"):
        before, now = getattr(earlier, name), getattr(today, name)
        if before > now:
            return f"its {name} was {_shown(before)}, and with {_shown(now)} its older rows are not read"
    try:
        source = source_of(earlier.estimator, earlier.arguments)
    except ContractError:
        return f"the code of {earlier.estimator} cannot be imported any more"
    return None if source == earlier.source else f"the code of {earlier.estimator} was changed since"


def lost(earlier: Recipe, today: Recipe) -> list[str]:
    """The names of the earlier recipe's features that the current rows do not have."""
    return [each.name for each in as_now(earlier, today).features if each not in today.features]


def as_now(earlier: Recipe, today: Recipe) -> Recipe:
    """The earlier recipe with its features' current names and types."""
    return replace(earlier, features=tuple(map(today.feature_now, earlier.features)))


def _differences(earlier: Recipe, today: Recipe) -> Iterator[str]:
    if earlier.estimator != today.estimator:
        yield f"{earlier.estimator} {ARROW} {today.estimator}"
    else:
        yield from _of_values(earlier.arguments, today.arguments)
        if earlier.source != today.source:
            yield f"the code of {today.estimator}"
    names = [each.name for each in earlier.features], [each.name for each in today.features]
    if more := [name for name in names[1] if name not in names[0]]:
        yield f"with {', '.join(more)}"
    if less := [name for name in names[0] if name not in names[1]]:
        yield f"without {', '.join(less)}"
    if not more and not less and earlier.features != today.features:
        yield "order or types of features"
    settings = ("min_rows", "window_rows", "window", "weight_half_life")
    yield from _of_values(*({name: getattr(each, name) for name in settings} for each in (earlier, today)))
    yield from _of_values(dict(earlier.versions), dict(today.versions))


def _of_values(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    for name in sorted(before.keys() | now.keys()):
        if before.get(name) != now.get(name):
            yield f"{name} {_shown(before.get(name))} {ARROW} {_shown(now.get(name))}"


def _shown(value: Any) -> str:
    if value is None:
        return "none"
    return render(value) if hasattr(value, "total_seconds") else str(value)
