"""The table `events` before and after a migration: the only one that has the columns of `[fleet.columns]`.

Delta tables stay readable by readers of version 1, which know neither column mapping nor type widening. So an added
column only changes the schema, and a renamed or widened one rewrites every file, in one commit.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, Schema
from deltalake.exceptions import DeltaError

from schemas import tables
from spinney.core.arrow_types import arrow_type
from spinney.core.errors import StoreError
from spinney.core.migration import mismatch_advice
from spinney.operations import clustering
from spinney.storage import step_observer
from spinney.storage.layout import FleetStore
from spinney.tables import delta, table_files
from spinney.tables.clustered_files import file_rewriting
from spinney.tables.clustered_files.file_rewriting import RewriteSource, RewriteTarget
from spinney.tables.table_files import CLUSTERED

MIGRATED = "migrated"
"""Key in a commit's metadata with the migration's id."""

PREFIX = "migrated-"
"""Prefix of rewritten files that are not sorted."""


@dataclass(frozen=True)
class Alteration:
    """The change of the table. schema: the new schema. old_names: new name -> name in the current files."""

    table: DeltaTable
    schema: pa.Schema
    old_names: Mapping[str, str]

    @property
    def there(self) -> pa.Schema:
        """The table's columns before the migration."""
        return table_files.arrow_schema_of(self.table)

    @property
    def added(self) -> list[pa.Field]:
        """Columns that the table does not have."""
        return list(self.schema)[len(self.there) :]

    @property
    def rewrites(self) -> bool:
        """Whether its files have to be rewritten."""
        return list(self.schema)[: len(self.there)] != list(self.there)


def plan_alteration(store: FleetStore, renamed: Mapping[str, str]) -> Alteration:
    """Return the change that gives the table the configured columns.

    Existing columns keep their order, new ones come last.

    renamed: old name -> new name. Raises StoreError if the table was never created.
    """
    place = store.directory(tables.EVENTS)
    table = delta.open_existing(place)
    wanted = {column.name: arrow_type(column.type) for column in place.contract.columns}
    fields = []
    for field in table_files.arrow_schema_of(table):
        name = renamed.get(field.name, field.name)
        fields.append(pa.field(name, wanted.pop(name, field.type)))
    schema = pa.schema([*fields, *(pa.field(name, kind) for name, kind in wanted.items())])
    return Alteration(table, schema, {new: old for old, new in renamed.items()})


def alter_table(change: Alteration, migration_id: str) -> None:
    """Carry out the change in one commit with the migration's id. The caller must hold the directory's lease.

    Raises StoreError if Delta refuses it, or if a value does not fit the wider type; nothing is changed then.
    """
    try:
        _alter(change, {MIGRATED: migration_id})
    except DeltaError as error:
        raise StoreError(
            f"table at {table_files.table_folder(change.table)}: expected Delta to take the columns "
            f"{', '.join(change.schema.names)}; got {error}. {mismatch_advice.END_IT}"
        ) from error


def _alter(change: Alteration, notes: Mapping[str, str]) -> None:
    if not change.rewrites:
        if change.added:
            # Adding columns changes only the schema: no file is opened.
            change.table.alter.add_columns(
                list(Schema.from_arrow(pa.schema(change.added)).fields),
                commit_properties=CommitProperties(custom_metadata={"userMetadata": json.dumps(notes)}),
            )
        return
    with file_rewriting.workspace(change.table) as place:
        prepared = [
            file_rewriting.rewrite(change.table, sources, target, place, lambda: False)
            for sources, target in _rewrite_parts(change)
        ]
        step_observer.announce("migrate.files", 0)
        file_rewriting.commit_full_rewrite(change.table, prepared, change.schema, notes)
    file_rewriting.checkpoint_if_due(change.table)


def is_altered(table: DeltaTable, migration_id: str, version: int) -> bool:
    """Whether the commit of this migration is among those after `version`."""
    entries = table.history(table.version() - version) if table.version() > version else []
    return any(_migration_id(entry) == migration_id for entry in entries)


def _migration_id(entry: Mapping[str, Any]) -> str | None:
    try:
        notes = json.loads(entry.get("userMetadata") or "")
    except ValueError:
        return None
    return notes.get(MIGRATED) if isinstance(notes, dict) else None


def _rewrite_parts(change: Alteration) -> list[tuple[list[RewriteSource], RewriteTarget]]:
    """Return the files to rewrite together: each sorted run of a partition, which stays sorted, and its other files."""
    found: dict[tuple[Any, ...], list[table_files.TableFile]] = defaultdict(list)
    for file in sorted(table_files.list_files(change.table), key=lambda file: file.path):
        found[(*file.partition.values(), clustering.run_name(file.path))].append(file)
    parts: list[tuple[list[RewriteSource], RewriteTarget]] = []
    for (*_, run), files in found.items():
        prefix = CLUSTERED if run else PREFIX
        parts.append(([RewriteSource(tuple(files))], RewriteTarget((), prefix, change.schema, change.old_names)))
    return parts
