"""Differences between a champion's recipe and the current one, and whether it can be fitted again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from spinney.core.durations import render
from spinney.core.errors import ContractError
from spinney.core.recipes.recipe import Recipe, user_code_digest

ARROW = "→"


def describe_change(earlier: Recipe, current: Recipe) -> str:
    """Return the differences as text: ``ridge → constant``, ``alpha 1.0 → 10.0, window 90d → 30d``."""
    return ", ".join(_changes(earlier, current)) or "Spinney's own fitting"


def refit_obstacle(earlier: Recipe, current: Recipe) -> str | None:
    """Why the earlier recipe cannot be fitted again on the rows read for the current one; None if it can.

    Reads the source of its estimator. Other library versions do not matter: it is fitted with the installed ones.
    """
    if names := missing_features(earlier, current):
        return f"it was fitted on {', '.join(names)}, no longer among fleet.features"
    if earlier.pooling_rows is not None:
        return "it was pooled with a parent's model, which is not fitted again"
    for name in ("window_rows", "window"):
        before, now = getattr(earlier, name), getattr(current, name)
        if before > now:
            return f"its {name} was {_value_text(before)}, and with {_value_text(now)} its older rows are not read"
    try:
        source = user_code_digest(earlier.estimator, earlier.arguments)
    except ContractError:
        return f"the code of {earlier.estimator} cannot be imported any more"
    return None if source == earlier.source else f"the code of {earlier.estimator} was changed since"


def missing_features(earlier: Recipe, current: Recipe) -> list[str]:
    """Return the names of the earlier recipe's features that the current rows do not have."""
    return [
        feature.name for feature in with_current_features(earlier, current).features if feature not in current.features
    ]


def with_current_features(earlier: Recipe, current: Recipe) -> Recipe:
    """Return the earlier recipe with its features' current names and types."""
    return replace(earlier, features=tuple(map(current.current_feature, earlier.features)))


def _changes(earlier: Recipe, current: Recipe) -> Iterator[str]:
    if earlier.estimator != current.estimator:
        yield f"{earlier.estimator} {ARROW} {current.estimator}"
    else:
        yield from _value_changes(earlier.arguments, current.arguments)
        if earlier.source != current.source:
            yield f"the code of {current.estimator}"
    names = [feature.name for feature in earlier.features], [feature.name for feature in current.features]
    if more := [name for name in names[1] if name not in names[0]]:
        yield f"with {', '.join(more)}"
    if less := [name for name in names[0] if name not in names[1]]:
        yield f"without {', '.join(less)}"
    if not more and not less and earlier.features != current.features:
        yield "order or types of features"
    settings = ("min_rows", "window_rows", "window", "weight_half_life", "pooling_rows")
    yield from _value_changes(*({name: getattr(recipe, name) for name in settings} for recipe in (earlier, current)))
    if earlier.ladder != current.ladder and earlier.pooling_rows == current.pooling_rows:
        yield "the parents that groups are pooled with"
    yield from _value_changes(dict(earlier.versions), dict(current.versions))


def _value_changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    for name in sorted(before.keys() | now.keys()):
        if before.get(name) != now.get(name):
            yield f"{name} {_value_text(before.get(name))} {ARROW} {_value_text(now.get(name))}"


def _value_text(value: Any) -> str:
    if value is None:
        return "none"
    return render(value) if hasattr(value, "total_seconds") else str(value)
