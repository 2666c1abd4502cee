"""The rows of one group that the fleet would fit on, without Spark: from its tables, or from a file."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from schemas import tables
from schemas.contract import Contract
from spinney.core import keys
from spinney.core.config import Config
from spinney.core.errors import ContractError, StoreError
from spinney.local import records
from spinney.stores import layout
from spinney.stores.arrow import to_pandas

NO_ID, NO_LABEL = "without an id or a time", "without a label"
OUTSIDE, YOUNG = "outside fleet.ranges", "younger than fleet.label_delay"


@dataclass(frozen=True)
class Rows:
    """One group's mature rows with a label, in any order.

    frame: group_key, event_id, event_time, the features and label, as `fit_groups` takes them. clock: the fleet's.
    source: where they are from, for people. left_out: rows of the group that the fleet would not fit, by reason.
    """

    group_key: str
    frame: pd.DataFrame
    clock: datetime
    source: str
    left_out: Mapping[str, int] = field(default_factory=dict)


def stored(config: Config, group_key: str) -> Rows:
    """The rows that the fleet's tables hold. Raises StoreError: no tables, or nothing of this group."""
    _check_key(config, group_key)
    clock = _stored_clock(config)
    fleet = config.fleet
    newest, oldest = clock - fleet.label_delay, clock - config.recipe.window
    mine = ds.field("group_key") == group_key
    features = [name for name in fleet.features if name != fleet.event_time]
    names = ["event_id", "event_time", *features, *([fleet.target] if config.label_inside else [])]
    events = _read(config, tables.EVENTS, names, mine & _between("event_time", oldest, newest))
    if not len(events) and not len(_read(config, tables.EVENTS, ["event_id"], mine)):
        raise StoreError(
            f"group {group_key}: no event of it in the tables below {config.storage.root}; `spinney fleet` lists the "
            f"groups, and --rows FILE takes rows that are not there"
        )
    if config.label_inside:
        labelled = events.rename(columns={fleet.target: "label"}).dropna(subset=["label"])
    else:
        seen = mine & _between("observed_at", oldest, clock)
        outcomes = _read(config, tables.OUTCOMES, ["event_id", "label", "observed_at"], seen)
        first = outcomes.sort_values(["observed_at", "label"]).drop_duplicates("event_id")
        labelled = events.merge(first[["event_id", "label"]], on="event_id")
    left_out = {NO_LABEL: len(events) - len(labelled)} if len(labelled) < len(events) else {}
    labelled = labelled.assign(group_key=group_key)
    if fleet.event_time in fleet.features:
        labelled[fleet.event_time] = labelled["event_time"]
    return Rows(group_key, labelled, clock, f"the tables below {config.storage.root}", left_out)


def of_file(config: Config, source: Path, group_key: str) -> Rows:
    """The rows of a Parquet, CSV or JSON lines file whose rows have their labels.

    The clock is the newest event time of the file, whichever group's. Rows that the fleet would reject are left out,
    as far as that shows in the row. Raises ContractError: another kind of file, without a column that is needed, or
    without the group.
    """
    _check_key(config, group_key)
    fleet, wall = config.fleet, fleet_wall(config)
    found: list[dict[str, Any]] = []
    others: set[str] = set()
    clock = wall
    for row in records.rows(source, config):
        at = records.instant(row.get(fleet.event_time))
        clock = at if wall is None and at is not None and (clock is None or at > clock) else clock
        key = records.group_key(row, config)
        if key == group_key:
            found.append({**row, "event_time": at})
        elif len(others) < 3:
            others.add(key)
    if not found or clock is None:
        known = f"those of {', '.join(sorted(others))} …" if others else "no rows at all"
        raise ContractError(f"{source}: expected rows of group {group_key}; got {known}. Name one that is there")
    needed = [fleet.event_id, fleet.event_time, fleet.target, *fleet.features]
    if missing := [name for name in dict.fromkeys(needed) if name not in found[0]]:
        raise ContractError(f"{source}: expected columns {needed}; got none of the name {', '.join(missing)}. Add them")
    reasons = [_reason(row, config, clock) for row in found]
    kept = [row for row, reason in zip(found, reasons, strict=True) if reason is None]
    left_out = Counter(reason for reason in reasons if reason is not None)
    frame = pd.DataFrame(
        {
            "group_key": pd.Series([group_key] * len(kept), dtype=object),
            "event_id": pd.Series([str(row[fleet.event_id]) for row in kept], dtype=object),
            "event_time": pd.Series([row["event_time"] for row in kept], dtype="datetime64[us, UTC]"),
            "label": [row[fleet.target] for row in kept],
        }
    )
    for name in fleet.features:
        frame[name] = _column([row[name] for row in kept], fleet.type_of(name))
    return Rows(group_key, frame, clock, str(source), dict(left_out))


def _reason(row: Mapping[str, Any], config: Config, clock: datetime) -> str | None:
    """Why the fleet would not fit this row; None if it would. What is rejected for its types is not looked for here."""
    fleet = config.fleet
    if row["event_time"] is None or row[fleet.event_id] in (None, ""):
        return NO_ID
    label = row[fleet.target]
    if label is None or (isinstance(label, float) and not math.isfinite(label)):
        return NO_LABEL
    for name, (low, high) in fleet.ranges.items():
        if (value := row.get(name)) is not None and not low <= value <= high:
            return OUTSIDE
    return YOUNG if row["event_time"] > clock - fleet.label_delay else None


def _column(values: list[Any], kind: str | None) -> pd.Series[Any]:
    """A feature as the tables would hold it."""
    if kind == "timestamp":
        return pd.Series([records.instant(value) for value in values], dtype=object)
    if kind == "date":
        days = [date.fromisoformat(value) if isinstance(value, str) else value for value in values]
        return pd.Series(days, dtype=object)
    return pd.Series(values, dtype=object)


def fleet_wall(config: Config) -> datetime | None:
    """Now, where the fleet's clock is the wall's; None where it runs on event time."""
    return datetime.now(UTC) if config.fleet.clock == "wall" else None


def _check_key(config: Config, group_key: str) -> None:
    group = config.fleet.group
    got = "a parent" if keys.is_parent(group_key) else f"{len(keys.decode(group_key))}"
    if got != str(len(group)):
        wanted = f"{len(group)} columns, {', '.join(group)}, as a JSON list" if len(group) > 1 else f"one {group[0]}"
        raise ContractError(f"group {group_key}: expected {wanted}; got {got}. `spinney fleet` lists the groups")


def _stored_clock(config: Config) -> datetime:
    """Now, by the fleet's clock: the wall's, or the greatest event time stored, as the weekly batch has it."""
    if (wall := fleet_wall(config)) is not None:
        return wall
    newest = None
    for batch in _dataset(config, tables.EVENTS).to_batches(columns=["event_time"]):
        greatest = pc.max(batch.column("event_time")).as_py()
        newest = greatest if newest is None or (greatest is not None and greatest > newest) else newest
    if newest is None:
        raise StoreError(
            f"table events below {config.storage.root} is empty; `spinney load` it, or name a file with --rows"
        )
    at: datetime = newest
    return at


def _dataset(config: Config, base: Contract) -> Any:
    from spinney.stores import delta  # it knows Spark's frames too: half a second that a file's rows do not need

    (place,) = layout.directories(config, base)
    table = delta.opened(config, place)
    if table is None:
        raise StoreError(
            f"fleet {config.fleet.name}: no table {place.name} at {place.uri}; run `spinney init` and `spinney load`, "
            f"or name a file with --rows"
        )
    return delta.dataset(table)


def _read(config: Config, base: Contract, columns: list[str], where: ds.Expression) -> pd.DataFrame:
    return to_pandas(_dataset(config, base).to_table(columns, filter=where))


def _between(name: str, low: datetime, high: datetime) -> ds.Expression:
    kind = pa.timestamp("us", "UTC")
    return (ds.field(name) >= pa.scalar(low, kind)) & (ds.field(name) <= pa.scalar(high, kind))
