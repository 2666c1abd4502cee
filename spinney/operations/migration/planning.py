"""What a migration would do: found by reading alone."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from schemas import tables
from spinney.core.config import Config
from spinney.core.errors import StoreError
from spinney.core.migration import (
    ColumnChange,
    ColumnChangeKind,
    Migration,
    column_changes,
    former_columns,
    retired_columns,
)
from spinney.core.migration.config_changes import ANOTHER_ROOT, WHY_FIXED, fixed_columns
from spinney.operations.migration import events_table, readiness
from spinney.operations.migration.change_explanations import explain_changes
from spinney.operations.migration.events_table import Alteration
from spinney.storage import charter
from spinney.storage.charter import COLUMNS, Charter
from spinney.storage.layout import FleetStore
from spinney.tables import delta, table_files

OTHERWISE = f"Put it back, or {ANOTHER_ROOT}"


@dataclass(frozen=True)
class TableChange:
    """What happens to a table. rows, files, bytes: that it has now; what: in words."""

    table: str
    rows: int
    files: int
    bytes: int
    what: str


@dataclass(frozen=True)
class MigrationPlan:
    """What would be done. notes: what it means. obstacles: what has to be done first.

    migration: to be recorded; None where nothing changes. alteration: of the table `events`.
    """

    changes: tuple[ColumnChange, ...]
    tables: tuple[TableChange, ...]
    notes: tuple[str, ...]
    obstacles: tuple[str, ...]
    migration: Migration | None
    alteration: Alteration


def plan_migration(config: Config, renames: Mapping[str, str]) -> MigrationPlan:
    """Return what `carry_out` would do now. Changes nothing.

    renames: old name -> new name. Raises StoreError for a change that no migration makes.
    """
    return plan_from_charter(config, settled_charter(config), renames)


def settled_charter(config: Config) -> Charter:
    """The charter, a migration that was begun counted as carried out where its commit is there, else as never begun.

    Raises StoreError where no fleet has begun.
    """
    store = FleetStore.of(config)
    there = charter.load_charter(store)
    if there is None:
        raise StoreError(
            f"fleet {config.fleet.name} at {store.root}: nothing to migrate: no fleet has begun there. "
            "Check storage.root, or run `spinney init`"
        )
    if there.unfinished_migration is None or not _is_committed(store, there.unfinished_migration):
        return there
    return charter.after_migration(config, there, there.unfinished_migration)


def _is_committed(store: FleetStore, migration: Migration) -> bool:
    table = delta.open_table(store.directory(tables.EVENTS))
    if table is None or migration.version is None:
        return False
    return events_table.is_altered(table, migration.id, migration.version)


def plan_from_charter(config: Config, there: Charter, renames: Mapping[str, str]) -> MigrationPlan:
    """Return the plan as `plan_migration` does, from the charter that `settled_charter` returned."""
    _refuse_fixed(config, there)
    before, now = (fixed_columns(config, of) for of in (there.fixed[COLUMNS], config.fleet.columns))
    renames = _remaining_renames(there, now, renames)
    found = column_changes(before, now, renames, former_columns(there.migrations), retired_columns(there.migrations))
    _refuse_wider_outcomes(config, found)
    store = FleetStore.of(config)
    change = events_table.plan_alteration(store, _stored_columns(config, renames))
    files = table_files.list_files(change.table)
    rows, size = sum(each.rows for each in files), sum(each.bytes for each in files)
    migration = None
    if found:
        version = int(change.table.version()) if change.rewrites or change.added else None
        at = datetime.now(UTC).isoformat(timespec="seconds")
        migration = Migration(uuid.uuid4().hex, at, before, now, renames, version)
    return MigrationPlan(
        changes=tuple(found),
        tables=(
            TableChange(tables.EVENTS.name, rows, len(files), size, _describe_alteration(change, differs=bool(found))),
        ),
        notes=tuple(explain_changes(config.fleet, found, size if change.rewrites else 0)),
        obstacles=tuple(readiness.find_obstacles(store)) if found else (),
        migration=migration,
        alteration=change,
    )


def _remaining_renames(there: Charter, now: Mapping[str, str], renames: Mapping[str, str]) -> dict[str, str]:
    """The renames that are still to be made: without those of an earlier call, with those of one that was cut off."""
    if there.unfinished_migration is not None and not renames and dict(there.unfinished_migration.after) == now:
        return dict(there.unfinished_migration.renamed)
    former = former_columns(there.migrations)
    return {old: new for old, new in renames.items() if old not in former or former[old].now != new}


def _stored_columns(config: Config, renames: Mapping[str, str]) -> dict[str, str]:
    """Renames of columns that the table `events` has; late labels stand elsewhere, without the target's name."""
    return {old: new for old, new in renames.items() if new in config.event_columns}


def _describe_alteration(change: Alteration, *, differs: bool) -> str:
    added = ", ".join(each.name for each in change.added)
    if change.rewrites:
        return "every file is written again, in one commit" + (f"; null in its rows: {added}" if added else "")
    if added:
        return f"its schema gets {added}, null in its rows; no file is touched"
    return "the schema and the files stay as they are" if differs else "nothing"


def _refuse_fixed(config: Config, there: Charter) -> None:
    refused = list(_changes_refused(config, there))
    if refused:
        raise StoreError(f"fleet {config.fleet.name} at {FleetStore.of(config).root}: {' '.join(refused)} {OTHERWISE}")


def _changes_refused(config: Config, there: Charter) -> Iterator[str]:
    for name, value in charter.fixed_values(config).items():
        before = there.fixed.get(name)
        if name != COLUMNS and before != value:
            yield f"{charter.describe_change(name, before, value)} no migration changes it: {WHY_FIXED[name]}."


def _refuse_wider_outcomes(config: Config, found: list[ColumnChange]) -> None:
    for each in found:
        if each.name == config.fleet.target and each.kind == ColumnChangeKind.WIDENED and not config.has_label_in_event:
            raise StoreError(
                f"fleet.columns.{each.name}: was {each.was} and is {each.becomes} now: the query labels reads the "
                f"table outcomes as a stream, which has no other type from one batch to the next. {OTHERWISE}"
            )
