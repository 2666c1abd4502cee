"""Write a proposal as the text of a `fleet.toml`, each value with its reason."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from spinney.core.config.cross_checks import OBSERVED_AT
from spinney.core.config.toml_formatting import to_toml, to_toml_key
from spinney.core.config.value_types import EVERY_COLUMN
from spinney.core.config_proposal.column_statistics import ColumnStatistics, has_unusable_name
from spinney.core.config_proposal.guesses import Guess
from spinney.core.config_proposal.training_window import Window

EVENT_ID, EVENT_TIME = "event_id", "event_time"
"""Names of the id and the time columns if the data has none."""

CLASSIFIER = "logistic_regression"
"""The estimator that is proposed for classes; the default of `[recipe]` estimates numbers."""


@dataclass(frozen=True)
class Proposal:
    """A proposed fleet. names: source → column. types: column → type. left_out: columns with the reason.

    has_content_id: whether the id is a hash of the row.
    """

    name: str
    group: Guess
    identity: Guess
    time: Guess
    target: Guess
    task: str
    features: tuple[ColumnStatistics, ...]
    names: Mapping[str, str]
    types: Mapping[str, str]
    left_out: tuple[tuple[ColumnStatistics, str], ...]
    missing: tuple[str, ...]
    window: Window
    has_content_id: bool

    @property
    def is_time_the_id(self) -> bool:
        """Whether the event's id is its time."""
        return bool(self.time.columns) and self.identity.sources == self.time.sources


def proposal_lines(plan: Proposal) -> Iterator[str]:
    """Yield the lines of the proposed `fleet.toml`."""
    yield from _fleet(plan)
    yield from _columns(plan)
    yield from _fields(plan)
    yield from _recipe(plan)
    yield from _kafka_and_storage(plan)


def _fleet(plan: Proposal) -> Iterator[str]:
    names = plan.names
    identity = _identity_name(plan)
    time = names[plan.time.sources[0]] if plan.time.columns else _unused_name(EVENT_TIME, names)
    (target,) = plan.target.sources
    yield "# Proposed by `spinney init --from`: guesses, each with its reason. Correct them, then run `spinney check`."
    yield "# Every key is explained in docs/configuration.md."
    yield ""
    yield "[fleet]"
    yield f"name = {to_toml(plan.name)}"
    group = [names[source] for source in plan.group.sources]
    yield f"group = {to_toml(group)}  # one model for each: {_printable(plan.group.reason)}"
    yield "parents = [[]]  # all groups together answer for new or thin ones"
    yield f"event_id = {to_toml(identity)}  # {_printable(plan.identity.reason)}"
    yield f"event_time = {to_toml(time)}  # {_printable(plan.time.reason)}"
    yield f"target = {to_toml(names[target])}  # {_printable(plan.target.reason)}"
    yield f"task = {to_toml(plan.task)}"
    known = f"set it if {to_toml(names[target])} becomes known later than the event, for backtests too"
    yield f'# label_delay = "1d"  # {known}'
    features = [names[column.source] for column in plan.features]
    yield f"features = {to_toml(features)}  # all the rest; remove what is not known in time"
    if plan.missing:
        yield f"missing = {to_toml(['', *plan.missing])}  # texts that mean no value{_printable(_also_in_texts(plan))}"


def _identity_name(plan: Proposal) -> str:
    """Return the name of the id's column. If the id is the time, this is a name that no column of the file has."""
    has_own = plan.identity.columns and not plan.is_time_the_id
    return plan.names[plan.identity.sources[0]] if has_own else _unused_name(EVENT_ID, plan.names)


def _unused_name(wanted: str, names: Mapping[str, str]) -> str:
    """Return a column name that neither the file nor another column uses: `wanted`, with a number if it is taken."""
    taken = {taken_name.lower() for taken_name in (*names, *names.values())}
    name, number = wanted, 1
    while name in taken:
        number += 1
        name = f"{wanted}_{number}"
    return name


def _also_in_texts(plan: Proposal) -> str:
    texts = [column for column in plan.features if column.type == "string"]
    names = [column.source for column in texts if column.values.isin(plan.missing).any()]
    return f"; in a CSV also in {', '.join(names)}" if names else ""


def _columns(plan: Proposal) -> Iterator[str]:
    yield ""
    yield "[fleet.columns]  # name = Spark SQL type"
    seen = (*plan.features, *plan.target.columns, *plan.group.columns)
    columns = {plan.names[column.source]: column for column in seen}
    for name, kind in plan.types.items():
        yield f"{to_toml_key(name)} = {to_toml(kind)}{_remarks(columns.get(name))}"
    for column, why in plan.left_out:
        yield f"# left out: {_printable(to_toml(column.source))}, {why}"


def _fields(plan: Proposal) -> Iterator[str]:
    used = [*plan.group.sources, *plan.identity.sources, *plan.time.sources, *plan.target.sources]
    used += [column.source for column in plan.features]
    renamed = [source for source in dict.fromkeys(used) if plan.names[source] != source]
    if not renamed and not plan.is_time_the_id and not plan.has_content_id:
        return
    yield ""
    yield "[fleet.fields]  # column = its name in files and messages; dots reach into objects"
    for source in renamed:
        yield f"{to_toml_key(plan.names[source])} = {to_toml(source)}"
    if plan.is_time_the_id:
        yield f"{to_toml_key(_identity_name(plan))} = {to_toml(plan.time.sources[0])}"
    if plan.has_content_id:
        yield f"{to_toml_key(_identity_name(plan))} = {to_toml(EVERY_COLUMN)}  # better: the field of an id"


def _recipe(plan: Proposal) -> Iterator[str]:
    window = plan.window
    needs_classifier = plan.task == "classification"
    if window.window is None and window.min_rows is None and not needs_classifier:
        return
    yield ""
    yield f"[recipe]  # {window.reason}" if window.reason else "[recipe]"
    if needs_classifier:
        yield f"estimator = {to_toml(CLASSIFIER)}  # the default is for numbers"
    if window.window is not None:
        yield f"window = {to_toml(window.window)}"
    if window.min_rows is not None:
        yield f"min_rows = {window.min_rows}"


def _remarks(column: ColumnStatistics | None) -> str:
    """Return a comment about unusual values of a column; empty if there are none."""
    if column is None:
        return ""
    remarks = [f"missing in {column.rows - column.filled} of {column.rows} rows"] if column.filled < column.rows else []
    if column.has_whole_texts:
        taken = "names as they are" if column.type == "string" else "numbers"
        remarks.append(f"texts of whole numbers, {column.distinct} different ones, taken for {taken}")
    if column.is_like_amounts:
        remarks.append("different in each row, but looks like amounts: or is it an id?")
    return f"  # {'; '.join(remarks)}" if remarks else ""


def _kafka_and_storage(plan: Proposal) -> Iterator[str]:
    (target,) = plan.target.sources
    yield ""
    yield "[kafka]"
    yield 'bootstrap_servers = "localhost:9092"'
    yield f'events = "{plan.name}.events"'
    known = f"set it if {to_toml(plan.names[target])} becomes known later than the event"
    yield f'# outcomes = "{plan.name}.outcomes"  # {known}'
    yield f'predictions = "{plan.name}.predictions"'
    yield ""
    yield "[storage]"
    yield f'root = "work/{plan.name}"'


def _printable(text: str) -> str:
    """Return the text as one line of printable characters, for a comment."""
    return "".join(character if character.isprintable() else "?" for character in text)


def reason_left_out(column: ColumnStatistics, expected: Collection[str]) -> str:
    """Return why a column is left out. expected: names of the id and the time if the file has no usable column for
    them.
    """
    if column.source in expected and column.distinct > 0:
        return "its values are no event's id" if column.source == EVENT_ID else "its values are no ISO 8601 times"
    if column.source == OBSERVED_AT:
        return "when a late label became known: it is no feature"
    if not column.source:
        return "without a name"
    if has_unusable_name(column):
        return "a name that cannot be used here"
    if column.is_index:
        return "pandas' numbering of the rows"
    if column.distinct < 0:
        return "no plain value"
    if column.distinct == 0:
        return "no value in any row"
    return "different in each row"
