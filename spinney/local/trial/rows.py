"""Read the rows of one group that the fleet would fit on, without Spark: from its tables, or from a file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from schemas import messages, tables
from schemas.contract import Contract
from schemas.vocabulary import DeadLetterReason
from spinney.core import keys
from spinney.core.config import Fleet, RecordSchema
from spinney.core.errors import ContractError, StoreError
from spinney.core.records.rules import OriginalColumn, RecordRules, build_rules
from spinney.core.records.validation import RejectedError, ValidationResult, read_message, validate, value_of
from spinney.sources import ColumnSelection, ReadOptions, Source
from spinney.sources.fleet_files import messages_of, number_fields, open_columns, stored_fields
from spinney.storage.layout import FleetStore
from spinney.tables.arrow_schemas import to_pandas

NO_ID, NO_LABEL = "without an id or a time", "without a label"
OUT_OF_RANGES, IMMATURE = "outside fleet.ranges", "younger than fleet.label_delay"
DUPLICATE_ID = "with the id of another row"
BAD_CELLS = "of no known group, since their cells are not those of the header"
MOST_NAMED = 3
FEW_ROWS = 5_000
"""Files of at most this many rows are validated row by row: that takes less time than importing `group_row_filter`."""

_MISSING = (DeadLetterReason.MISSING_FIELD, DeadLetterReason.EMPTY_ID)


@dataclass(frozen=True)
class TrialRows:
    """One group's mature rows with a label, in any order.

    frame: group_key, event_id, event_time, the features and label, as `fit_groups` takes them. clock: the fleet's.
    source: for messages. left_out: reason -> number of rows that the fleet would not fit: rows of the group, and rows
    of a file whose group cannot be read.
    """

    group_key: str
    frame: pd.DataFrame
    clock: datetime
    source: str
    left_out: Mapping[str, int] = field(default_factory=dict)


def read_stored_rows(store: FleetStore, window: timedelta, group_key: str) -> TrialRows:
    """Return the group's rows of the last `window` from the fleet's tables. window: `recipe.window`.

    Raises StoreError: no tables, or no event of this group.
    """
    _check_key(store.fleet, group_key)
    clock = _stored_clock(store)
    fleet = store.fleet
    newest, oldest = clock - fleet.label_delay, clock - window
    is_of_group = ds.field("group_key") == group_key
    features = [name for name in fleet.features if name != fleet.event_time]
    names = ["event_id", "event_time", *features, *([fleet.target] if store.has_label_in_event else [])]
    events = _read(store, tables.EVENTS, names, is_of_group & _between("event_time", oldest, newest))
    if not len(events) and not len(_read(store, tables.EVENTS, ["event_id"], is_of_group)):
        raise StoreError(
            f"group {group_key}: no event of it in the tables below {store.root}; `spinney fleet` lists the "
            f"groups, and --rows FILE takes rows that are not there"
        )
    if store.has_label_in_event:
        labelled = events.rename(columns={fleet.target: "label"}).dropna(subset=["label"])
    else:
        is_known = is_of_group & _between("observed_at", oldest, clock)
        outcomes = _read(store, tables.OUTCOMES, ["event_id", "label", "observed_at"], is_known)
        first = outcomes.sort_values(["observed_at", "label"]).drop_duplicates("event_id")
        labelled = events.merge(first[["event_id", "label"]], on="event_id")
    left_out = {NO_LABEL: len(events) - len(labelled)} if len(labelled) < len(events) else {}
    labelled = labelled.assign(group_key=group_key)
    if fleet.event_time in fleet.features:
        labelled[fleet.event_time] = labelled["event_time"]
    return TrialRows(group_key, labelled, clock, f"the tables below {store.root}", left_out)


def open_rows(schema: RecordSchema, place: str, options: ReadOptions) -> Source:
    """Open a file whose rows have their labels.

    Features that are in no file are null in every row, as for `load`. Raises ContractError: the file cannot be read,
    or the label, the id, the time or a column of the group is missing.
    """
    rules = _rules(schema)
    names = tuple(dict.fromkeys(rule.source for rule in rules.read))
    required = frozenset(rule.source for rule in rules.read if rule.required or rule.name == schema.fleet.target)
    selection = ColumnSelection(
        names, required, is_exclusive=True, numbers=number_fields(rules), stored=stored_fields(schema)
    )
    return open_columns(place, options, selection)


def read_file_rows(
    schema: RecordSchema,
    source: Source,
    group_key: str,
    originals: Mapping[str, OriginalColumn] | None = None,
) -> TrialRows:
    """Return the rows of a source, opened by `open_rows`, that the fleet would fit on.

    originals: as in `build_rules`. The clock is the newest event time of the valid rows of all groups. Raises
    ContractError: the group is not in the source.
    """
    _check_key(schema.fleet, group_key)
    collected = _RowCollector(schema, group_key, originals)
    now = datetime.now(UTC)
    others_filter = None
    if source.rows > FEW_ROWS and source.columns is not None:
        from spinney.local.trial.group_row_filter import OtherGroupsFilter  # the import takes half a second

        others_filter = OtherGroupsFilter(schema, group_key, now)
    for batch in source.batches():
        if batch.malformed:
            collected.left_out[BAD_CELLS] += len(batch.malformed)
        candidates = batch if others_filter is None else others_filter.keep_candidates(batch)
        for _, message in messages_of(candidates, collected.rules):
            collected.add(message, now)
    if others_filter is not None:
        collected.add_removed(others_filter.newest, others_filter.other_keys)
    clock = wall_clock(schema.fleet) or collected.clock
    if not collected.has_group or clock is None:
        others = ", ".join(sorted(collected.other_keys)[:MOST_NAMED])
        known = f"those of {others} …" if others else "no rows that are valid"
        raise ContractError(f"{source.name}: expected rows of group {group_key}; got {known}. Name one that is there")
    mature = [
        row for row in collected.rows.values() if row[schema.fleet.event_time] <= clock - schema.fleet.label_delay
    ]
    if immature := len(collected.rows) - len(mature):
        collected.left_out[IMMATURE] += immature
    return TrialRows(group_key, _frame(mature, schema.fleet, group_key), clock, source.name, dict(collected.left_out))


class _RowCollector:
    """Validates rows one by one and keeps the group's rows that have a label; of several rows with the same id the
    earliest.

    rows: event id -> row. left_out: reason -> number of the group's rows that were not kept. other_keys: keys of other
    groups. clock: the greatest event time of the valid rows.
    """

    def __init__(self, schema: RecordSchema, group_key: str, originals: Mapping[str, OriginalColumn] | None) -> None:
        self._fleet, self._group_key = schema.fleet, group_key
        self.rules = build_rules(schema, messages.EVENT, originals=originals)
        self._label = next(rule for rule in _rules(schema).fields if rule.name == schema.fleet.target)
        self.rows: dict[str, dict[str, Any]] = {}
        self.left_out: Counter[str] = Counter()
        self.other_keys: set[str] = set()
        self.has_group = False
        self.clock: datetime | None = None

    def add(self, message: bytes, now: datetime) -> None:
        """Validate a row, given as a message, and keep or count it."""
        result = validate(message, now, self.rules)
        if result.values is None:
            if self._key_of_invalid(message) == self._group_key:
                self.has_group = True
                self.left_out[_reason(result, self._fleet)] += 1
            return
        at = result.values[self._fleet.event_time]
        self.clock = at if self.clock is None else max(at, self.clock)
        key = keys.encode([result.values[name] for name in self._fleet.group])
        if key == self._group_key:
            self.has_group = True
            self._keep(dict(result.values), message)
        elif len(self.other_keys) < MOST_NAMED:
            self.other_keys.add(key)

    def add_removed(self, newest: datetime | None, other_keys: Iterable[str]) -> None:
        """Take note of rows that `OtherGroupsFilter` has removed. newest: their greatest event time."""
        times = [at for at in (newest, self.clock) if at is not None]
        self.clock = max(times, default=None)
        self.other_keys |= {*other_keys}

    def _keep(self, row: dict[str, Any], message: bytes) -> None:
        fleet = self._fleet
        try:
            row[fleet.target] = value_of(read_message(message), self._label, self.rules)
        except RejectedError as error:
            self.left_out[f"rejected: {error.reason} in {fleet.target}"] += 1
            return
        if row[fleet.target] is None:
            self.left_out[NO_LABEL] += 1
            return
        before = self.rows.get(row[fleet.event_id])
        if before is not None:
            self.left_out[DUPLICATE_ID] += 1
        if before is None or row[fleet.event_time] < before[fleet.event_time]:
            self.rows[row[fleet.event_id]] = row

    def _key_of_invalid(self, message: bytes) -> str | None:
        """Return the group of an invalid row; None if its key columns are invalid too."""
        try:
            record = read_message(message)
            return keys.encode([value_of(record, self.rules.rule_of(name), self.rules) for name in self._fleet.group])
        except RejectedError:
            return None


def _rules(schema: RecordSchema) -> RecordRules:
    """Return the rules of events, with the label added if it is not a column of the event."""
    rules = build_rules(schema, messages.EVENT)
    if schema.has_label_in_event:
        return rules
    label = build_rules(schema, messages.OUTCOME).rule_of(schema.fleet.target)
    return replace(rules, fields=(*rules.fields, replace(label, required=False)))


def _reason(result: ValidationResult, fleet: Fleet) -> str:
    """Return why a row is invalid, the same text for all rows with the same fault."""
    reason, name = result.reason, result.field
    if reason is DeadLetterReason.OUT_OF_RANGE:
        return OUT_OF_RANGES
    if reason in _MISSING and name in (fleet.event_id, fleet.event_time):
        return NO_ID
    return f"rejected: {reason}{f' in {name}' if name else ''}"


def _frame(rows: list[dict[str, Any]], fleet: Fleet, group_key: str) -> pd.DataFrame:
    frame = pd.DataFrame(
        {
            "group_key": pd.Series([group_key] * len(rows), dtype=object),
            "event_id": pd.Series([row[fleet.event_id] for row in rows], dtype=object),
            "event_time": _column([row[fleet.event_time] for row in rows], "timestamp"),
            "label": [row[fleet.target] for row in rows],
        }
    )
    for name in fleet.features:
        frame[name] = _column([row[name] for row in rows], fleet.type_of(name))
    return frame


def _column(values: list[Any], kind: str | None) -> pd.Series[Any]:
    """Return a feature as the tables would hold it; times in microseconds, since nanoseconds end in 2262."""
    if kind != "timestamp":
        return pd.Series(values, dtype=object)
    naive = [None if value is None else value.replace(tzinfo=None) for value in values]
    return pd.Series(pd.DatetimeIndex(np.array(naive, dtype="datetime64[us]"), tz="UTC"))


def wall_clock(fleet: Fleet) -> datetime | None:
    """Return the current time if the fleet runs on the wall clock; None if it runs on event time."""
    return datetime.now(UTC) if fleet.clock == "wall" else None


def _check_key(fleet: Fleet, group_key: str) -> None:
    group = fleet.group
    got = "a parent" if keys.is_parent(group_key) else f"{len(keys.decode(group_key))}"
    if got != str(len(group)):
        wanted = f"{len(group)} columns, {', '.join(group)}, as a JSON list" if len(group) > 1 else f"one {group[0]}"
        raise ContractError(f"group {group_key}: expected {wanted}; got {got}. `spinney fleet` lists the groups")


def _stored_clock(store: FleetStore) -> datetime:
    """Return the fleet's clock: the current time, or the greatest stored event time, as in the weekly batch."""
    if (wall := wall_clock(store.fleet)) is not None:
        return wall
    newest = None
    for batch in _dataset(store, tables.EVENTS).to_batches(columns=["event_time"]):
        greatest = pc.max(batch.column("event_time")).as_py()
        newest = greatest if newest is None or (greatest is not None and greatest > newest) else newest
    if newest is None:
        raise StoreError(f"table events below {store.root} is empty; `spinney load` it, or name a file with --rows")
    at: datetime = newest
    return at


def _dataset(store: FleetStore, base: Contract) -> Any:
    from spinney.tables import delta  # the import takes half a second; a file's rows do not need it

    (place,) = store.directories(base)
    table = delta.open_table(place)
    if table is None:
        raise StoreError(
            f"fleet {store.fleet.name}: no table {place.name} at {place.uri}; run `spinney init` and `spinney load`, "
            f"or name a file with --rows"
        )
    return delta.open_dataset(table)


def _read(store: FleetStore, base: Contract, columns: list[str], where: ds.Expression) -> pd.DataFrame:
    return to_pandas(_dataset(store, base).to_table(columns, filter=where))


def _between(name: str, low: datetime, high: datetime) -> ds.Expression:
    kind = pa.timestamp("us", "UTC")
    return (ds.field(name) >= pa.scalar(low, kind)) & (ds.field(name) <= pa.scalar(high, kind))
