"""What must hold between keys. Each rule sees only sections that are sound in themselves."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from schemas.tables import EVENTS, OUTCOMES
from spinney.core import durations
from spinney.core.column_names import PREFIX, is_internal_name
from spinney.core.config.client_options import SET_BY_THE_FLEET
from spinney.core.config.models import Budget, Fleet, Gate, Kafka, Recipe, Shadow
from spinney.core.config.secrets import shown
from spinney.core.config.toml_text import toml
from spinney.core.config.values import GATE_RULES, INTEGERS, is_module_name, is_number
from spinney.core.similar_names import did_you_mean

RESERVED = frozenset({*EVENTS.names, *OUTCOMES.names, "label"})
"""Columns of the tables that hold a fleet's own; columns of ours elsewhere begin with `names.PREFIX`."""

OBSERVED_AT = "observed_at"
"""When a late label became known: declared only where it is a number, as `timestamp(ms)`."""

UNSTORABLE = frozenset(" ,;{}()\n\t=.`'\"\\[]")
"""Delta stores the first ten in no column name without column mapping; the others break names in SQL or JSON paths."""

_STORABLE = "a name that can be stored: letters, digits and _, not empty"

KEY_TYPES = ("string", "boolean", *INTEGERS, "date")


@dataclass(frozen=True)
class Problem:
    """key: the one to show. also: the others that it hangs on."""

    key: str
    expected: str
    got: str
    remedy: str = ""
    also: tuple[str, ...] = ()


def group_columns(fleet: Fleet) -> Iterator[Problem]:
    for at, name in enumerate(fleet.group):
        key = f"fleet.group[{at}]"
        kind = fleet.type_of(name)
        if name in fleet.group[:at]:
            yield Problem(key, "each column once", f"`{name}` again", "Remove one.")
        elif name in (fleet.event_id, fleet.event_time, fleet.target):
            yield Problem(key, "a column that owns a model", f"`{name}`, the event's id, its time or the target")
        elif kind is None:
            yield undeclared(key, name, fleet)
        elif kind not in KEY_TYPES:
            why = "as text it differs between engines" if kind in ("float", "double") else "it is no stable name"
            remedy = f"Declare `{name}` as one of them, or group by another column."
            expected = f"a key column of type {', '.join(KEY_TYPES)}"
            yield Problem(key, expected, f"`{name}` of type {kind}: {why}", remedy, also=(f"fleet.columns.{name}",))
    for at, parent in enumerate(fleet.parents):
        strangers = [name for name in parent if name not in fleet.group]
        if strangers or len(set(parent)) != len(parent):
            remedy = did_you_mean(strangers[0], fleet.group) if strangers else "Name each column once."
            key = f"fleet.parents[{at}]"
            yield Problem(key, "columns of fleet.group", toml(parent), remedy, also=("fleet.group",))
        elif len(parent) == len(fleet.group):
            yield Problem(f"fleet.parents[{at}]", "fewer columns than fleet.group", toml(parent), "Remove it.")
        elif any(set(parent) == set(other) for other in fleet.parents[:at]):
            yield Problem(f"fleet.parents[{at}]", "each parent once", f"{toml(parent)} again", "Remove one.")


def features(fleet: Fleet) -> Iterator[Problem]:
    for at, name in enumerate(fleet.features):
        key = f"fleet.features[{at}]"
        if name == fleet.target:
            yield Problem(key, "a column known before the answer", f"`{name}`, the target", "Remove it.")
        elif name == fleet.event_id:
            yield Problem(key, "a column that says something", f"`{name}`, the event's id", "Remove it.")
        elif name in fleet.features[:at]:
            yield Problem(key, "each feature once", f"`{name}` again", "Remove one.")
        elif fleet.type_of(name) is None:
            yield undeclared(key, name, fleet)


def target(fleet: Fleet) -> Iterator[Problem]:
    kind = fleet.columns.get(fleet.target)
    if fleet.target in (fleet.event_id, fleet.event_time):
        yield Problem("fleet.target", "a column to predict", f"`{fleet.target}`, the event's id or time")
    elif kind is None:
        yield undeclared("fleet.target", fleet.target, fleet)
    elif fleet.task == "regression" and not is_number(kind):
        remedy = 'Declare it as a number, or set task = "classification".'
        got = f"`{fleet.target}` of type {kind}"
        yield Problem("fleet.target", "a number for regression", got, remedy, also=("fleet.task", "fleet.columns"))
    elif fleet.task == "classification" and kind not in ("string", "boolean", *INTEGERS):
        expected = "a string, boolean or integer for classification"
        got = f"`{fleet.target}` of type {kind}"
        yield Problem("fleet.target", expected, got, also=("fleet.task", "fleet.columns"))


def loss(fleet: Fleet) -> Iterator[Problem]:
    if fleet.task == "classification" and fleet.loss != "log":
        yield Problem("fleet.loss", '"log" for classification', toml(fleet.loss), "Use it.", also=("fleet.task",))
    if fleet.task == "regression" and fleet.loss == "log":
        expected = '"absolute" or "squared" for regression'
        yield Problem("fleet.loss", expected, toml(fleet.loss), "Use one of them.", also=("fleet.task",))


def names(fleet: Fleet) -> Iterator[Problem]:
    own = {fleet.event_id: "string", fleet.event_time: "timestamp"}
    seen: dict[str, str] = {}
    if fleet.event_id == fleet.event_time:
        yield Problem("fleet.event_time", "another field than fleet.event_id", toml(fleet.event_time))
    for key, name in (("event_id", fleet.event_id), ("event_time", fleet.event_time)):
        if name.lower() in RESERVED - {key}:
            yield Problem(f"fleet.{key}", "a name that no table uses", toml(name), _reserved())
    for name, kind in fleet.columns.items():
        key = f"fleet.columns.{name}"
        if name in own and kind != own[name]:
            field = "event_id" if name == fleet.event_id else "event_time"
            yield Problem(key, f'"{own[name]}", since it is fleet.{field}', toml(kind), "Change it or remove it.")
        is_ours = (name == "label" and name == fleet.target) or (name == OBSERVED_AT and kind == "timestamp")
        if name not in own and name.lower() in RESERVED and not is_ours:
            yield Problem(key, "a name that no table uses", toml(name), _reserved())
        if not storable(name):
            yield Problem(key, _STORABLE, toml(name), "Rename it.")
        if (twin := seen.setdefault(name.lower(), name)) != name:
            yield Problem(key, "names that differ in more than case", f"`{twin}` and `{name}`", "Rename one.")


def kept_names(fleet: Fleet) -> Iterator[Problem]:
    named = {"fleet.event_id": fleet.event_id, "fleet.event_time": fleet.event_time}
    named |= {f"fleet.columns.{name}": name for name in fleet.columns}
    for key, name in named.items():
        if is_internal_name(name):
            remedy = "Such names are kept for Spinney's own columns: rename it."
            yield Problem(key, f"a name that does not begin with {PREFIX}", toml(name), remedy)


def fields(fleet: Fleet) -> Iterator[Problem]:
    known = [*fleet.columns, fleet.event_id, fleet.event_time, OBSERVED_AT]
    read_by: dict[str, str] = {}
    for name in dict.fromkeys((*known, *fleet.fields)):
        source = fleet.fields.get(name, name)
        if name not in known:
            remedy = did_you_mean(name, known)
            yield Problem(f"fleet.fields.{name}", "a column of the fleet, its id or its time", f"`{name}`", remedy)
        elif (twin := read_by.setdefault(source, name)) != name and name in fleet.fields:
            yield Problem(
                f"fleet.fields.{name}", "a field that no other column reads", f"{toml(source)}, read by `{twin}`"
            )
        elif twin != name and twin in fleet.fields:
            yield Problem(
                f"fleet.fields.{twin}", "a field that no other column reads", f"{toml(source)}, read by `{name}`"
            )


def ranges(fleet: Fleet) -> Iterator[Problem]:
    for name, (low, high) in fleet.ranges.items():
        key = f"fleet.ranges.{name}"
        kind = fleet.columns.get(name)
        if kind is None:
            yield undeclared(key, name, fleet)
        elif not is_number(kind):
            yield Problem(key, "a range on a number", f"`{name}` of type {kind}", "Remove it.", also=("fleet.columns",))
        elif low > high:
            yield Problem(key, "[lowest, highest]", toml([low, high]), "Swap them.")


def windows(fleet: Fleet, recipe: Recipe) -> Iterator[Problem]:
    if recipe.window <= fleet.label_delay:
        expected = f"longer than fleet.label_delay ({durations.render(fleet.label_delay)})"
        remedy = "Rows younger than the delay are not fitted: none would be left."
        yield Problem("recipe.window", expected, toml(recipe.window), remedy, also=("fleet.label_delay",))
    if recipe.min_rows > recipe.window_rows:
        expected = f"at most recipe.window_rows ({recipe.window_rows})"
        yield Problem("recipe.min_rows", expected, str(recipe.min_rows), also=("recipe.window_rows",))


def params(recipe: Recipe) -> Iterator[Problem]:
    yield from _writable("recipe.params", recipe.params)


def _writable(key: str, params: Mapping[str, Any]) -> Iterator[Problem]:
    for name, value in params.items():
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError):
            expected = "a string, a finite number, true, false, or lists and tables of them"
            yield Problem(f"{key}.{name}", expected, toml(value))


def shadow(recipe: Recipe, shadow: Shadow) -> Iterator[Problem]:
    yield from _writable("shadow.params", shadow.params)
    also = ("shadow.params", "recipe.estimator")
    if shadow.estimator is None and shadow.params:
        remedy = "Name the estimator that takes them, or remove them."
        yield Problem("shadow.estimator", "a name beside shadow.params", "none", remedy, also)
    elif (shadow.estimator, shadow.params) == (recipe.estimator, recipe.params):
        remedy = "Change its estimator or its params, or remove [shadow]."
        yield Problem("shadow.estimator", "another recipe than [recipe]", toml(shadow.estimator), remedy, also)


def topics(kafka: Kafka) -> Iterator[Problem]:
    if kafka.outcomes == kafka.events:
        remedy = "If the label is a field of the event, remove `outcomes`."
        yield Problem("kafka.outcomes", "another topic than kafka.events", toml(kafka.outcomes), remedy)
    if kafka.predictions is not None and kafka.predictions in (kafka.events, kafka.outcomes):
        expected = "another topic than kafka.events and kafka.outcomes"
        remedy = "Answers would be read as events."
        yield Problem("kafka.predictions", expected, toml(kafka.predictions), remedy, also=("kafka.outcomes",))


def client_options(kafka: Kafka) -> Iterator[Problem]:
    for name in kafka.options:
        if remedy := SET_BY_THE_FLEET.get(name.strip().lower()):
            yield Problem(f"kafka.options.{name}", "an option that the fleet does not set itself", f"`{name}`", remedy)


def label_horizon(fleet: Fleet, kafka: Kafka) -> Iterator[Problem]:
    if kafka.outcomes is not None and kafka.label_horizon < fleet.label_delay:
        expected = f"at least fleet.label_delay ({durations.render(fleet.label_delay)})"
        remedy = "Health would never see the later labels."
        yield Problem("kafka.label_horizon", expected, toml(kafka.label_horizon), remedy, also=("fleet.label_delay",))


def shares(budget: Budget) -> Iterator[Problem]:
    both = budget.oldest_first_share + budget.random_share
    if both > 1:
        expected = "together with budget.oldest_first_share at most 1"
        yield Problem("budget.random_share", expected, f"{both:g}", also=("budget.oldest_first_share",))


def gate_rule(gate: Gate) -> Iterator[Problem]:
    if gate.rule in GATE_RULES[1:] or is_module_name(gate.rule):
        yield Problem("gate.rule", '"not_worse"', f"{toml(gate.rule)}, which is not in effect yet", "Remove it.")


def not_in_effect(section: str, model: BaseModel) -> Iterator[Problem]:
    """Problems for keys that do nothing yet and are set to something else than their default."""
    for name, info in type(model).model_fields.items():
        key = f"{section}.{name}"
        value = getattr(model, name)
        extra = info.json_schema_extra
        if isinstance(value, BaseModel):
            yield from not_in_effect(key, value)
        elif isinstance(extra, dict) and extra.get("in_effect") is False and value != info.default:
            expected = f"its default, {toml(info.default)}"
            yield Problem(key, expected, shown(key, value), f"`{key}` is not in effect yet: remove it.")


def undeclared(key: str, name: str, fleet: Fleet) -> Problem:
    remedy = did_you_mean(name, fleet.columns)
    return Problem(key, "a column of [fleet.columns]", f"`{name}`", remedy, also=("fleet.columns",))


def storable(name: str) -> bool:
    """Whether a column can be called this."""
    return bool(name) and name.isprintable() and not UNSTORABLE & set(name)


def _reserved() -> str:
    return f"Rename it; taken are: {', '.join(sorted(RESERVED))}."


Rule = Callable[..., Iterator[Problem]]
RULES: tuple[tuple[tuple[str, ...], Rule], ...] = (
    (("fleet",), group_columns),
    (("fleet",), features),
    (("fleet",), target),
    (("fleet",), loss),
    (("fleet",), names),
    (("fleet",), kept_names),
    (("fleet",), fields),
    (("fleet",), ranges),
    (("fleet", "recipe"), windows),
    (("recipe",), params),
    (("recipe", "shadow"), shadow),
    (("kafka",), topics),
    (("kafka",), client_options),
    (("fleet", "kafka"), label_horizon),
    (("budget",), shares),
    (("gate",), gate_rule),
)


def problems(sections: dict[str, Any]) -> Iterator[Problem]:
    """Yield what is wrong between keys. sections: name -> model, for those that are sound in themselves."""
    for needs, rule in RULES:
        if all(name in sections for name in needs):
            yield from rule(*(sections[name] for name in needs))
    for name, model in sections.items():
        if isinstance(model, BaseModel):
            yield from not_in_effect(name, model)
