"""Checks between keys. Each check runs only if the sections that it needs are valid by themselves."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from schemas.tables import EVENTS, OUTCOMES
from schemas.vocabulary import ESTIMATED
from spinney.core import durations
from spinney.core.config.reserved_options import RESERVED_OPTIONS
from spinney.core.config.secrets import display_value
from spinney.core.config.sections import Fleet, Kafka, Recipe, Shadow
from spinney.core.config.staleness_sections import Budget
from spinney.core.config.toml_formatting import to_toml
from spinney.core.config.value_types import EVERY_COLUMN, INTEGERS, is_number
from spinney.core.internal_column_names import PREFIX, is_internal_name
from spinney.core.similar_names import did_you_mean

RESERVED_NAMES = frozenset({*EVENTS.names, *OUTCOMES.names, "label"})
"""Names of our own columns in the tables that also hold a fleet's columns. Our columns elsewhere begin with
`internal_column_names.PREFIX`.
"""

OBSERVED_AT = "observed_at"
"""Column with the time at which a late label became known. It is declared only if it is a number, as `timestamp(ms)`.
"""

UNSTORABLE = frozenset(" ,;{}()\n\t=.`'\"\\[]")
"""Delta stores the first ten in no column name without column mapping; the others break names in SQL or JSON paths."""

_STORABLE = "a name that can be stored: letters, digits and _, not empty"

POOLED_ESTIMATORS = ("linear", "ridge")
"""Estimators whose coefficients can be shrunk toward a parent's."""

KEY_TYPES = ("string", "boolean", *INTEGERS, "date")


@dataclass(frozen=True)
class Problem:
    """A violated condition. key: the key that the message names. also: other keys that the condition depends on."""

    key: str
    expected: str
    got: str
    remedy: str = ""
    also: tuple[str, ...] = ()


def check_group_columns(fleet: Fleet) -> Iterator[Problem]:
    """Check the columns of the group and of its parents."""
    for index, name in enumerate(fleet.group):
        key = f"fleet.group[{index}]"
        kind = fleet.type_of(name)
        if name in fleet.group[:index]:
            yield Problem(key, "each column once", f"`{name}` again", "Remove one.")
        elif name in (fleet.event_id, fleet.event_time, fleet.target):
            yield Problem(key, "a column that identifies groups", f"`{name}`, the event's id, its time or the target")
        elif kind is None:
            yield undeclared_column(key, name, fleet)
        elif kind not in KEY_TYPES:
            why = "as text it differs between engines" if kind in ("float", "double") else "it is no stable name"
            remedy = f"Declare `{name}` as one of them, or group by another column."
            expected = f"a key column of type {', '.join(KEY_TYPES)}"
            yield Problem(key, expected, f"`{name}` of type {kind}: {why}", remedy, also=(f"fleet.columns.{name}",))
    for index, parent in enumerate(fleet.parents):
        unknown_names = [name for name in parent if name not in fleet.group]
        if unknown_names or len(set(parent)) != len(parent):
            remedy = did_you_mean(unknown_names[0], fleet.group) if unknown_names else "Name each column once."
            key = f"fleet.parents[{index}]"
            yield Problem(key, "columns of fleet.group", to_toml(parent), remedy, also=("fleet.group",))
        elif len(parent) == len(fleet.group):
            yield Problem(f"fleet.parents[{index}]", "fewer columns than fleet.group", to_toml(parent), "Remove it.")
        elif any(set(parent) == set(other) for other in fleet.parents[:index]):
            yield Problem(f"fleet.parents[{index}]", "each parent once", f"{to_toml(parent)} again", "Remove one.")


def check_features(fleet: Fleet) -> Iterator[Problem]:
    """Check that features are declared, distinct, and neither id nor target."""
    for index, name in enumerate(fleet.features):
        key = f"fleet.features[{index}]"
        if name == fleet.target:
            yield Problem(key, "a column known before the answer", f"`{name}`, the target", "Remove it.")
        elif name == fleet.event_id:
            yield Problem(key, "a column with information about the target", f"`{name}`, the event's id", "Remove it.")
        elif name in fleet.features[:index]:
            yield Problem(key, "each feature once", f"`{name}` again", "Remove one.")
        elif fleet.type_of(name) is None:
            yield undeclared_column(key, name, fleet)


def check_target(fleet: Fleet) -> Iterator[Problem]:
    """Check that the target is declared, and that its type fits the task."""
    kind = fleet.columns.get(fleet.target)
    if fleet.target in (fleet.event_id, fleet.event_time):
        yield Problem("fleet.target", "a column to predict", f"`{fleet.target}`, the event's id or time")
    elif kind is None:
        yield undeclared_column("fleet.target", fleet.target, fleet)
    elif fleet.task == "regression" and not is_number(kind):
        remedy = 'Declare it as a number, or set task = "classification".'
        got = f"`{fleet.target}` of type {kind}"
        yield Problem("fleet.target", "a number for regression", got, remedy, also=("fleet.task", "fleet.columns"))
    elif fleet.task == "classification" and kind not in ("string", "boolean", *INTEGERS):
        expected = "a string, boolean or integer for classification"
        got = f"`{fleet.target}` of type {kind}"
        yield Problem("fleet.target", expected, got, also=("fleet.task", "fleet.columns"))


def check_loss(fleet: Fleet) -> Iterator[Problem]:
    """Check that the loss fits the task."""
    if fleet.task == "classification" and fleet.loss != "log":
        yield Problem("fleet.loss", '"log" for classification', to_toml(fleet.loss), "Use it.", also=("fleet.task",))
    if fleet.task == "regression" and fleet.loss == "log":
        expected = '"absolute" or "squared" for regression'
        yield Problem("fleet.loss", expected, to_toml(fleet.loss), "Use one of them.", also=("fleet.task",))


def check_column_names(fleet: Fleet) -> Iterator[Problem]:
    """Check that columns do not collide with the tables' own or with each other, and can be stored."""
    own = {fleet.event_id: "string", fleet.event_time: "timestamp"}
    name_by_lower_case: dict[str, str] = {}
    if fleet.event_id == fleet.event_time:
        yield Problem("fleet.event_time", "another field than fleet.event_id", to_toml(fleet.event_time))
    for key, name in (("event_id", fleet.event_id), ("event_time", fleet.event_time)):
        if name.lower() in RESERVED_NAMES - {key}:
            yield Problem(f"fleet.{key}", "a name that no table uses", to_toml(name), _rename_advice())
    for name, kind in fleet.columns.items():
        key = f"fleet.columns.{name}"
        if name in own and kind != own[name]:
            field = "event_id" if name == fleet.event_id else "event_time"
            yield Problem(key, f'"{own[name]}", since it is fleet.{field}', to_toml(kind), "Change it or remove it.")
        is_ours = (name == "label" and name == fleet.target) or (name == OBSERVED_AT and kind == "timestamp")
        if name not in own and name.lower() in RESERVED_NAMES and not is_ours:
            yield Problem(key, "a name that no table uses", to_toml(name), _rename_advice())
        if not is_storable(name):
            yield Problem(key, _STORABLE, to_toml(name), "Rename it.")
        if (twin := name_by_lower_case.setdefault(name.lower(), name)) != name:
            yield Problem(key, "names that differ in more than case", f"`{twin}` and `{name}`", "Rename one.")


def check_reserved_names(fleet: Fleet) -> Iterator[Problem]:
    """Check that no name has the prefix of internal columns."""
    named = {"fleet.event_id": fleet.event_id, "fleet.event_time": fleet.event_time}
    named |= {f"fleet.columns.{name}": name for name in fleet.columns}
    for key, name in named.items():
        if is_internal_name(name):
            remedy = "Such names are kept for Spinney's own columns: rename it."
            yield Problem(key, f"a name that does not begin with {PREFIX}", to_toml(name), remedy)


def check_fields(fleet: Fleet) -> Iterator[Problem]:
    """Check that `fleet.fields` names known columns, and that no two columns read the same field.

    The event's id and time may read the same field: data with one event per group and time needs no other id.
    """
    known = [*fleet.columns, fleet.event_id, fleet.event_time, OBSERVED_AT]
    read_by: dict[str, str] = {}
    for name in dict.fromkeys((*known, *fleet.fields)):
        source = fleet.fields.get(name, name)
        if {name, read_by.get(source)} == {fleet.event_id, fleet.event_time}:
            continue
        if name not in known:
            remedy = did_you_mean(name, known)
            yield Problem(f"fleet.fields.{name}", "a column of the fleet, its id or its time", f"`{name}`", remedy)
        elif (twin := read_by.setdefault(source, name)) != name and name in fleet.fields:
            yield Problem(
                f"fleet.fields.{name}", "a field that no other column reads", f"{to_toml(source)}, read by `{twin}`"
            )
        elif twin != name and twin in fleet.fields:
            yield Problem(
                f"fleet.fields.{twin}", "a field that no other column reads", f"{to_toml(source)}, read by `{name}`"
            )


def check_content_id(fleet: Fleet, kafka: Kafka) -> Iterator[Problem]:
    """Check that only the event's id is a hash of the other columns, and only in a fleet without late labels.

    A late label could not find its event by such a hash.
    """
    for name, source in fleet.fields.items():
        key = f"fleet.fields.{name}"
        if source == EVERY_COLUMN and name != fleet.event_id:
            yield Problem(key, "the name of a field", f'"{source}", which only `{fleet.event_id}`, the id, may have')
        elif source == EVERY_COLUMN and kafka.outcomes is not None:
            remedy = "Late labels find their events by it."
            yield Problem(key, "a field with the event's id", f'"{source}"', remedy, also=("kafka.outcomes",))


def check_ranges(fleet: Fleet) -> Iterator[Problem]:
    """Check that ranges are for declared numbers, with the lower end first."""
    for name, (low, high) in fleet.ranges.items():
        key = f"fleet.ranges.{name}"
        kind = fleet.columns.get(name)
        if kind is None:
            yield undeclared_column(key, name, fleet)
        elif not is_number(kind):
            yield Problem(key, "a range on a number", f"`{name}` of type {kind}", "Remove it.", also=("fleet.columns",))
        elif low > high:
            yield Problem(key, "[lowest, highest]", to_toml([low, high]), "Swap them.")


def check_windows(fleet: Fleet, recipe: Recipe) -> Iterator[Problem]:
    """Check that the window holds mature rows, and at least `min_rows` of them."""
    if recipe.window <= fleet.label_delay:
        expected = f"longer than fleet.label_delay ({durations.render(fleet.label_delay)})"
        remedy = "Rows younger than the delay are not fitted: none would be left."
        yield Problem("recipe.window", expected, to_toml(recipe.window), remedy, also=("fleet.label_delay",))
    if recipe.min_rows > recipe.window_rows:
        expected = f"at most recipe.window_rows ({recipe.window_rows})"
        yield Problem("recipe.min_rows", expected, str(recipe.min_rows), also=("recipe.window_rows",))


def check_params(recipe: Recipe) -> Iterator[Problem]:
    """Check that the estimator's parameters can be written as JSON."""
    yield from _check_writable("recipe.params", recipe.params)


def _check_writable(key: str, params: Mapping[str, Any]) -> Iterator[Problem]:
    for name, value in params.items():
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError):
            expected = "a string, a finite number, true, false, or lists and tables of them"
            yield Problem(f"{key}.{name}", expected, to_toml(value))


def check_pooling(fleet: Fleet, recipe: Recipe) -> Iterator[Problem]:
    """Check that the recipe can be pooled with a parent's model."""
    if recipe.pooling_rows is None:
        return
    rows = recipe.pooling_rows
    key, got = "recipe.pooling_rows", to_toml(rows) if isinstance(rows, str) else f"{rows:g}"
    if recipe.estimator not in POOLED_ESTIMATORS:
        expected = f"it only with an estimator that can be pooled: {', '.join(POOLED_ESTIMATORS)}"
        yield Problem(key, expected, f"{got} with {to_toml(recipe.estimator)}", "Remove it.", ("recipe.estimator",))
    if not fleet.parents:
        remedy = "Add `parents = [[]]` to `[fleet]` for one model of all groups, or remove it."
        yield Problem(
            key, "it only with `fleet.parents`, toward which groups are shrunk", got, remedy, ("fleet.parents",)
        )
    if recipe.pooling_rows == ESTIMATED and not _are_nested(fleet.parents):
        expected = "`fleet.parents` each with some of the columns of the one before"
        remedy = 'Nest them, as [["region", "city"], ["region"], []], or give a number of rows.'
        yield Problem(key, expected, to_toml([list(names) for names in fleet.parents]), remedy, ("fleet.parents",))


def _are_nested(parents: Sequence[Sequence[str]]) -> bool:
    return all(set(above) < set(below) for below, above in pairwise(parents))


def check_shadow(recipe: Recipe, shadow: Shadow) -> Iterator[Problem]:
    """Check that the shadow recipe is complete and differs from the recipe."""
    yield from _check_writable("shadow.params", shadow.params)
    also = ("shadow.params", "recipe.estimator")
    if shadow.estimator is None and shadow.params:
        remedy = "Name the estimator that takes them, or remove them."
        yield Problem("shadow.estimator", "a name beside shadow.params", "none", remedy, also)
    elif (shadow.estimator, shadow.params) == (recipe.estimator, recipe.params):
        remedy = "Change its estimator or its params, or remove [shadow]."
        yield Problem("shadow.estimator", "another recipe than [recipe]", to_toml(shadow.estimator), remedy, also)


def check_topics(kafka: Kafka) -> Iterator[Problem]:
    """Check that the topics are distinct."""
    if kafka.outcomes == kafka.events:
        remedy = "If the label is a field of the event, remove `outcomes`."
        yield Problem("kafka.outcomes", "another topic than kafka.events", to_toml(kafka.outcomes), remedy)
    if kafka.predictions is not None and kafka.predictions in (kafka.events, kafka.outcomes):
        expected = "another topic than kafka.events and kafka.outcomes"
        remedy = "Answers would be read as events."
        yield Problem("kafka.predictions", expected, to_toml(kafka.predictions), remedy, also=("kafka.outcomes",))


def check_client_options(kafka: Kafka) -> Iterator[Problem]:
    """Check that no client option is one that the fleet sets itself."""
    for name in kafka.options:
        if remedy := RESERVED_OPTIONS.get(name.strip().lower()):
            yield Problem(f"kafka.options.{name}", "an option that the fleet does not set itself", f"`{name}`", remedy)


def check_label_horizon(fleet: Fleet, kafka: Kafka) -> Iterator[Problem]:
    """Check that labels can arrive within the horizon."""
    if kafka.outcomes is not None and kafka.label_horizon < fleet.label_delay:
        expected = f"at least fleet.label_delay ({durations.render(fleet.label_delay)})"
        remedy = "Health would never see the later labels."
        yield Problem(
            "kafka.label_horizon", expected, to_toml(kafka.label_horizon), remedy, also=("fleet.label_delay",)
        )


def check_shares(budget: Budget) -> Iterator[Problem]:
    """Check that the shares of the budget add up to at most 1."""
    both = budget.oldest_first_share + budget.random_share
    if both > 1:
        expected = "together with budget.oldest_first_share at most 1"
        yield Problem("budget.random_share", expected, f"{both:g}", also=("budget.oldest_first_share",))


def check_not_implemented(section: str, model: BaseModel) -> Iterator[Problem]:
    """Yield a problem for each key that is not implemented yet and is set to anything but its default."""
    for name, info in type(model).model_fields.items():
        key = f"{section}.{name}"
        value = getattr(model, name)
        extra = info.json_schema_extra
        if isinstance(value, BaseModel):
            yield from check_not_implemented(key, value)
        elif isinstance(extra, dict) and extra.get("implemented") is False and value != info.default:
            expected = f"its default, {to_toml(info.default)}"
            yield Problem(key, expected, display_value(key, value), f"`{key}` is not implemented yet: remove it.")


def is_retired(info: FieldInfo) -> bool:
    """Return whether a key has no effect any more and is only accepted."""
    return isinstance(info.json_schema_extra, dict) and info.json_schema_extra.get("retired") is True


def retired_keys(key: str, value: object) -> Iterator[str]:
    """Yield the dotted keys below a key that are set although they have no effect any more. value: of the key."""
    if not isinstance(value, BaseModel):
        return
    for name, info in type(value).model_fields.items():
        if is_retired(info) and name in value.model_fields_set:
            yield f"{key}.{name}"
        yield from retired_keys(f"{key}.{name}", getattr(value, name))


def undeclared_column(key: str, name: str, fleet: Fleet) -> Problem:
    """Return the problem of a key that names a column which is not declared."""
    remedy = did_you_mean(name, fleet.columns)
    return Problem(key, "a column of [fleet.columns]", f"`{name}`", remedy, also=("fleet.columns",))


def is_storable(name: str) -> bool:
    """Return whether a column can have this name."""
    return bool(name) and name.isprintable() and not UNSTORABLE & set(name)


def _rename_advice() -> str:
    return f"Rename it; taken are: {', '.join(sorted(RESERVED_NAMES))}."


Check = Callable[..., Iterator[Problem]]
CHECKS: tuple[tuple[tuple[str, ...], Check], ...] = (
    (("fleet",), check_group_columns),
    (("fleet",), check_features),
    (("fleet",), check_target),
    (("fleet",), check_loss),
    (("fleet",), check_column_names),
    (("fleet",), check_reserved_names),
    (("fleet",), check_fields),
    (("fleet", "kafka"), check_content_id),
    (("fleet",), check_ranges),
    (("fleet", "recipe"), check_windows),
    (("recipe",), check_params),
    (("fleet", "recipe"), check_pooling),
    (("recipe", "shadow"), check_shadow),
    (("kafka",), check_topics),
    (("kafka",), check_client_options),
    (("fleet", "kafka"), check_label_horizon),
    (("budget",), check_shares),
)


def find_problems(sections: dict[str, Any]) -> Iterator[Problem]:
    """Yield the problems between keys. sections: name -> model, for sections that are valid by themselves."""
    for needs, rule in CHECKS:
        if all(name in sections for name in needs):
            yield from rule(*(sections[name] for name in needs))
    for name, model in sections.items():
        if isinstance(model, BaseModel):
            yield from check_not_implemented(name, model)
