"""How a champion's recipe differs from the current one, and whether it can be fitted again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from spinney.core.durations import render
from spinney.core.errors import ContractError
from spinney.core.recipes.recipe import Recipe, user_code_digest

ARROW = "→"


def describe_change(earlier: Recipe, today: Recipe) -> str:
    """The differences as text: ``ridge → constant``, ``alpha 1.0 → 10.0, window 90d → 30d``."""
    return ", ".join(_changes(earlier, today)) or "Spinney's own fitting"


def refit_obstacle(earlier: Recipe, today: Recipe) -> str | None:
    """Why the earlier recipe cannot be fitted again on the rows read for the current one; None if it can.

    Reads the source of its estimator. Other library versions do not matter: it is fitted with the installed ones.
    """
    if names := missing_features(earlier, today):
        return f"it was fitted on {', '.join(names)}, no longer among fleet.features"
    if earlier.pooling_rows is not None:
        return "it was pooled with a parent's model, which is not fitted again"
    for name in ("window_rows", "window"):
        before, now = getattr(earlier, name), getattr(today, name)
        if before > now:
            return f"its {name} was {_value_text(before)}, and with {_value_text(now)} its older rows are not read"
    try:
        source = user_code_digest(earlier.estimator, earlier.arguments)
    except ContractError:
        return f"the code of {earlier.estimator} cannot be imported any more"
    return None if source == earlier.source else f"the code of {earlier.estimator} was changed since"


def missing_features(earlier: Recipe, today: Recipe) -> list[str]:
    """The names of the earlier recipe's features that the current rows do not have."""
    return [feature.name for feature in with_current_features(earlier, today).features if feature not in today.features]


def with_current_features(earlier: Recipe, today: Recipe) -> Recipe:
    """The earlier recipe with its features' current names and types."""
    return replace(earlier, features=tuple(map(today.current_feature, earlier.features)))


def _changes(earlier: Recipe, today: Recipe) -> Iterator[str]:
    if earlier.estimator != today.estimator:
        yield f"{earlier.estimator} {ARROW} {today.estimator}"
    else:
        yield from _value_changes(earlier.arguments, today.arguments)
        if earlier.source != today.source:
            yield f"the code of {today.estimator}"
    names = [feature.name for feature in earlier.features], [feature.name for feature in today.features]
    if more := [name for name in names[1] if name not in names[0]]:
        yield f"with {', '.join(more)}"
    if less := [name for name in names[0] if name not in names[1]]:
        yield f"without {', '.join(less)}"
    if not more and not less and earlier.features != today.features:
        yield "order or types of features"
    settings = ("min_rows", "window_rows", "window", "weight_half_life", "pooling_rows")
    yield from _value_changes(*({name: getattr(recipe, name) for name in settings} for recipe in (earlier, today)))
    if earlier.ladder != today.ladder and earlier.pooling_rows == today.pooling_rows:
        yield "the parents that groups are pooled with"
    yield from _value_changes(dict(earlier.versions), dict(today.versions))


def _value_changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    for name in sorted(before.keys() | now.keys()):
        if before.get(name) != now.get(name):
            yield f"{name} {_value_text(before.get(name))} {ARROW} {_value_text(now.get(name))}"


def _value_text(value: Any) -> str:
    if value is None:
        return "none"
    return render(value) if hasattr(value, "total_seconds") else str(value)
