"""A proposal as the text of a `fleet.toml`, each value with its reason."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from spinney.core.config.rules import OBSERVED_AT
from spinney.core.config.toml_text import toml, toml_key
from spinney.core.proposal.guesses import Guess
from spinney.core.proposal.seen import Column
from spinney.core.proposal.window import Window


@dataclass(frozen=True)
class Plan:
    """What a fleet is proposed to be. names: source → column. types: column → type. left_out: with the reason."""

    name: str
    group: Guess
    identity: Guess
    time: Guess
    target: Guess
    task: str
    features: tuple[Column, ...]
    names: Mapping[str, str]
    types: Mapping[str, str]
    left_out: tuple[tuple[Column, str], ...]
    missing: tuple[str, ...]
    window: Window


def lines(plan: Plan) -> Iterator[str]:
    yield from _fleet(plan)
    yield from _columns(plan)
    yield from _fields(plan)
    yield from _recipe(plan.window)
    yield from _tail(plan)


def _fleet(plan: Plan) -> Iterator[str]:
    names = plan.names
    identity = names[plan.identity.sources[0]] if plan.identity.columns else "event_id"
    time = names[plan.time.sources[0]] if plan.time.columns else "event_time"
    (target,) = plan.target.sources
    yield "# Proposed by `spinney init --from`: guesses, each with its reason. Correct them, then run `spinney check`."
    yield "# Every key is explained in docs/configuration.md."
    yield ""
    yield "[fleet]"
    yield f"name = {toml(plan.name)}"
    yield f"group = {toml([names[each] for each in plan.group.sources])}  # one model for each: {_line(plan.group.why)}"
    yield "parents = [[]]  # all groups together answer for new or thin ones"
    yield f"event_id = {toml(identity)}  # {_line(plan.identity.why)}"
    yield f"event_time = {toml(time)}  # {_line(plan.time.why)}"
    yield f"target = {toml(names[target])}  # {_line(plan.target.why)}"
    yield f"task = {toml(plan.task)}"
    features = [names[column.source] for column in plan.features]
    yield f"features = {toml(features)}  # all the rest; remove what is not known in time"
    if plan.missing:
        yield f"missing = {toml(['', *plan.missing])}  # texts in columns of numbers or times that mean no value"


def _columns(plan: Plan) -> Iterator[str]:
    yield ""
    yield "[fleet.columns]  # name = Spark SQL type"
    gaps = {plan.names[column.source]: column for column in (*plan.features, *plan.target.columns, *plan.group.columns)}
    for name, kind in plan.types.items():
        yield f"{toml_key(name)} = {toml(kind)}{_gaps(gaps.get(name))}"
    for column, why in plan.left_out:
        yield f"# left out: {toml(column.source)}, {why}"


def _fields(plan: Plan) -> Iterator[str]:
    used = [*plan.group.sources, *plan.identity.sources, *plan.time.sources, *plan.target.sources]
    used += [column.source for column in plan.features]
    renamed = [source for source in dict.fromkeys(used) if plan.names[source] != source]
    if not renamed:
        return
    yield ""
    yield "[fleet.fields]  # column = its name in files and messages; dots reach into objects"
    for source in renamed:
        yield f"{toml_key(plan.names[source])} = {toml(source)}"


def _recipe(window: Window) -> Iterator[str]:
    if window.window is None and window.min_rows is None:
        return
    yield ""
    yield f"[recipe]  # {window.why}"
    if window.window is not None:
        yield f"window = {toml(window.window)}"
    if window.min_rows is not None:
        yield f"min_rows = {window.min_rows}"


def _gaps(column: Column | None) -> str:
    if column is None or column.filled == column.rows:
        return ""
    return f"  # missing in {column.rows - column.filled} of {column.rows} rows"


def _tail(plan: Plan) -> Iterator[str]:
    (target,) = plan.target.sources
    yield ""
    yield "[kafka]"
    yield 'bootstrap_servers = "localhost:9092"'
    yield f'events = "{plan.name}.events"'
    known = f"set it if {toml(plan.names[target])} becomes known later than the event"
    yield f'# outcomes = "{plan.name}.outcomes"  # {known}'
    yield f'predictions = "{plan.name}.predictions"'
    yield ""
    yield "[storage]"
    yield f'root = "work/{plan.name}"'


def _line(text: str) -> str:
    """A comment is one line of printable characters."""
    return "".join(each if each.isprintable() else "?" for each in text)


def why_left_out(column: Column) -> str:
    if column.source == OBSERVED_AT:
        return "when a late label became known: it is no feature"
    if not column.source:
        return "without a name"
    if column.is_index:
        return "pandas' numbering of the rows"
    if column.distinct < 0:
        return "no plain value"
    if column.distinct == 0:
        return "no value in any row"
    return "different in each row"
