"""Plan a migration. Only reads."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pyarrow.compute as pc

from schemas import tables
from spinney.core import keys
from spinney.core.errors import StoreError
from spinney.core.migration import (
    ColumnChange,
    ColumnChangeKind,
    Migration,
    are_convertible,
    column_changes,
    former_columns,
    original_columns,
    retired_columns,
)
from spinney.core.migration.config_changes import ANOTHER_ROOT, LOSS, WHY_FIXED, fixed_columns
from spinney.operations.migration import events_table, readiness
from spinney.operations.migration.change_explanations import explain_changes
from spinney.operations.migration.events_table import Alteration
from spinney.operations.migration.loss_change_effects import LossMigration, explain_loss_change, plan_loss_change
from spinney.storage import charter
from spinney.storage.charter import COLUMNS, Charter
from spinney.storage.layout import FleetStore
from spinney.tables import delta, table_files

OTHERWISE = f"Put it back, or {ANOTHER_ROOT}"


@dataclass(frozen=True)
class TableChange:
    """The effect on a table. rows, files, bytes: of the table now. what: the change, in words."""

    table: str
    rows: int
    files: int
    bytes: int
    what: str


@dataclass(frozen=True)
class MigrationPlan:
    """A planned migration.

    notes: its consequences. obstacles: what must be done first. migration: to be recorded; None if nothing changes.
    alteration: of the table `events`. loss: the change of the loss; None if it stays.
    """

    changes: tuple[ColumnChange, ...]
    tables: tuple[TableChange, ...]
    notes: tuple[str, ...]
    obstacles: tuple[str, ...]
    migration: Migration | None
    alteration: Alteration
    loss: LossMigration | None = None


def plan_migration(store: FleetStore, renames: Mapping[str, str]) -> MigrationPlan:
    """Return what `carry_out_migration` would do now. Changes nothing.

    renames: old name -> new name. Raises StoreError for a change that no migration can make.
    """
    return plan_from_charter(store, settled_charter(store), renames)


def settled_charter(store: FleetStore) -> Charter:
    """Return the charter. An unfinished migration counts as done if its commit exists, otherwise as never started.

    Raises StoreError if there is no fleet at this root.
    """
    stored = charter.load_charter(store)
    if stored is None:
        raise StoreError(
            f"fleet {store.fleet.name} at {store.root}: nothing to migrate: there is no fleet. "
            "Check storage.root, or run `spinney init`"
        )
    if stored.unfinished_migration is None or not _is_committed(store, stored.unfinished_migration):
        return stored
    return charter.after_migration(store, stored, stored.unfinished_migration)


def _is_committed(store: FleetStore, migration: Migration) -> bool:
    table = delta.open_table(store.directory(tables.EVENTS))
    if table is None or migration.version is None:
        return False
    return events_table.is_altered(table, migration.id, migration.version)


def plan_from_charter(store: FleetStore, settled: Charter, renames: Mapping[str, str]) -> MigrationPlan:
    """Return the plan as `plan_migration` does, from the charter that `settled_charter` returned."""
    before, now = (fixed_columns(store.fleet, of) for of in (settled.fixed[COLUMNS], store.fleet.columns))
    renames = _remaining_renames(settled, now, renames)
    _refuse_fixed(store, settled, renames)
    _refuse_renamed_parents(store, renames)
    found = column_changes(
        before, now, renames, former_columns(settled.migrations), retired_columns(settled.migrations)
    )
    _refuse_wider_outcomes(store, found)
    change = events_table.plan_alteration(store, _stored_columns(store, renames))
    files = table_files.list_files(change.table)
    rows, size = sum(file.rows for file in files), sum(file.bytes for file in files)
    loss = _plan_loss(store, settled)
    migration = None
    if found or loss is not None:
        migration = _new_migration(change, (before, now), renames, loss)
    original = original_columns(settled.migrations) or before
    notes = explain_changes(store.fleet, found, size if change.rewrites else 0, original)
    return MigrationPlan(
        changes=tuple(found),
        tables=(
            TableChange(tables.EVENTS.name, rows, len(files), size, _describe_alteration(change, differs=bool(found))),
        ),
        notes=(*notes, *(() if loss is None else explain_loss_change(loss))),
        obstacles=() if migration is None else tuple(readiness.find_obstacles(store)),
        migration=migration,
        alteration=change,
        loss=loss,
    )


def _plan_loss(store: FleetStore, settled: Charter) -> LossMigration | None:
    """Return the change of the loss; None if it stays."""
    was, becomes = str(settled.fixed[LOSS]), str(store.fleet.loss)
    return None if was == becomes else plan_loss_change(store, was, becomes)


def _new_migration(
    change: Alteration,
    columns: tuple[Mapping[str, str], Mapping[str, str]],
    renames: Mapping[str, str],
    loss: LossMigration | None,
) -> Migration:
    """Return the migration to be recorded. columns: before and after it."""
    version = int(change.table.version()) if change.rewrites or change.added else None
    at = datetime.now(UTC).isoformat(timespec="seconds")
    losses = (None, None) if loss is None else (loss.was, loss.becomes)
    return Migration(uuid.uuid4().hex, at, *columns, renames, version, *losses)


def _remaining_renames(settled: Charter, now: Mapping[str, str], renames: Mapping[str, str]) -> dict[str, str]:
    """Return the renames still to be made: the given ones without those that are completed, and those of an interrupted
    call.
    """
    if settled.unfinished_migration is not None and not renames and dict(settled.unfinished_migration.after) == now:
        return dict(settled.unfinished_migration.renamed)
    former = former_columns(settled.migrations)
    return {old: new for old, new in renames.items() if old not in former or former[old].now != new}


def _stored_columns(store: FleetStore, renames: Mapping[str, str]) -> dict[str, str]:
    """Return the renames that concern columns of the table `events`.

    Late labels are in another table, in the column `label`, so a rename of their target changes no column.
    """
    return {old: new for old, new in renames.items() if new in store.event_columns}


def _describe_alteration(change: Alteration, *, differs: bool) -> str:
    added = ", ".join(field.name for field in change.added)
    if change.rewrites:
        return "every file is written again, in one commit" + (f"; null in its rows: {added}" if added else "")
    if added:
        return f"its schema gets {added}, null in its rows; no file is touched"
    return "the schema and the files stay as they are" if differs else "nothing"


def _refuse_fixed(store: FleetStore, settled: Charter, renames: Mapping[str, str]) -> None:
    fixed = charter.renamed_fixed(settled.fixed, renames)
    refused = list(_changes_refused(store, fixed))
    if refused:
        raise StoreError(f"fleet {store.fleet.name} at {store.root}: {' '.join(refused)} {OTHERWISE}")


def _changes_refused(store: FleetStore, fixed: Mapping[str, Any]) -> Iterator[str]:
    for name, value in charter.fixed_values(store.record_schema).items():
        before = fixed.get(name)
        is_migrated = name == COLUMNS or (name == LOSS and are_convertible(str(before), str(value)))
        if not is_migrated and before != value:
            yield f"{charter.describe_change(name, before, value)} no migration changes it: {WHY_FIXED[name]}."


def _refuse_renamed_parents(store: FleetStore, renames: Mapping[str, str]) -> None:
    """Raise StoreError for a rename of a parent's column: the stored keys of parents contain the names of their
    columns.
    """
    if not renames:
        return
    of_parents = {name for parent in store.fleet.parents for name in parent}
    of_stored = _columns_of_stored_parents(store)  # fleet.parents may be edited at any time, and with the rename
    for old, new in renames.items():
        if old in of_stored and new not in of_parents:
            raise StoreError(
                f"--rename {old}={new}: expected a column that no stored model of a parent has in its key; {old} is in "
                f'one. Keep the name, and read the column from another field by [fleet.fields]: {old} = "{new}"'
            )
        if new in of_parents:
            raise StoreError(
                f"--rename {old}={new}: expected a column that is in no parent of fleet.parents; {new} is in one. "
                f"Stored models of parents have {old} in their keys. Keep the name, and read the column from another "
                f'field by [fleet.fields]: {old} = "{new}"'
            )


def _columns_of_stored_parents(store: FleetStore) -> set[str]:
    stored = delta.read_table(store, tables.PROMOTIONS, ["group_key"]).column("group_key").unique()
    parents = stored.filter(pc.starts_with(stored, "{")).to_pylist()
    return {name for key in parents for name in keys.parent_values(key)}


def _refuse_wider_outcomes(store: FleetStore, found: list[ColumnChange]) -> None:
    for change in found:
        if (
            change.name == store.fleet.target
            and change.kind == ColumnChangeKind.WIDENED
            and not store.has_label_in_event
        ):
            raise StoreError(
                f"fleet.columns.{change.name}: was {change.was} and is {change.becomes} now: the query labels reads "
                f"the table outcomes as a stream, whose types must not change between batches. {OTHERWISE}"
            )
