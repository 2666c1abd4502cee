"""The table `events` before and after a migration: the only one that has the columns of `[fleet.columns]`.

Delta tables stay open to readers of version 1, which know neither column mapping nor type widening. So an added column
is a change of the schema alone, and a renamed or widened one makes every file anew, in one commit.
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
from spinney.core.migration import advice
from spinney.operations import clustering
from spinney.storage import step_observer
from spinney.storage.layout import FleetStore
from spinney.tables import delta, file_rewriting, table_files
from spinney.tables.file_rewriting import RewriteSource, RewriteTarget
from spinney.tables.table_files import CLUSTERED

MIGRATED = "migrated"
"""The key of a commit's own words whose value is the migration's id."""

PREFIX = "migrated-"
"""How a file that is not sorted is called when it was written again."""


@dataclass(frozen=True)
class Alteration:
    """What has to be done to the table. schema: wanted. old_names: new name -> name in the files that are there."""

    table: DeltaTable
    schema: pa.Schema
    old_names: Mapping[str, str]

    @property
    def there(self) -> pa.Schema:
        """The table's columns before the migration."""
        return table_files.arrow_schema_of(self.table)

    @property
    def added(self) -> list[pa.Field]:
        """Columns that no column of the table becomes."""
        return list(self.schema)[len(self.there) :]

    @property
    def rewrites(self) -> bool:
        """Whether its files have to be written again."""
        return list(self.schema)[: len(self.there)] != list(self.there)


def plan_alteration(store: FleetStore, renamed: Mapping[str, str]) -> Alteration:
    """What makes the table as this configuration has it; its columns stay in their order, new ones stand last.

    renamed: old name -> new name. Raises StoreError when the table was never made.
    """
    place = store.directory(tables.EVENTS)
    table = delta.open_existing(place)
    wanted = {each.name: arrow_type(each.type) for each in place.contract.columns}
    fields = []
    for each in table_files.arrow_schema_of(table):
        name = renamed.get(each.name, each.name)
        fields.append(pa.field(name, wanted.pop(name, each.type)))
    schema = pa.schema([*fields, *(pa.field(name, kind) for name, kind in wanted.items())])
    return Alteration(table, schema, {new: old for old, new in renamed.items()})


def alter_table(change: Alteration, migration_id: str) -> None:
    """Carry it out in one commit that bears the migration's id. Only for whoever holds the lease of the directory.

    Raises StoreError for what Delta refuses, and, with nothing changed, for a value that the wider type does not have.
    """
    try:
        _alter(change, {MIGRATED: migration_id})
    except DeltaError as error:
        raise StoreError(
            f"table at {table_files.table_folder(change.table)}: expected Delta to take the columns "
            f"{', '.join(change.schema.names)}; got {error}. {advice.END_IT}"
        ) from error


def _alter(change: Alteration, said: Mapping[str, str]) -> None:
    if not change.rewrites:
        if change.added:
            # Commits of columns alone look at nothing else: no file is opened.
            change.table.alter.add_columns(
                list(Schema.from_arrow(pa.schema(change.added)).fields),
                commit_properties=CommitProperties(custom_metadata={"userMetadata": json.dumps(said)}),
            )
        return
    with file_rewriting.workspace(change.table) as place:
        prepared = [
            file_rewriting.rewrite(change.table, sources, target, place, lambda: False)
            for sources, target in _rewrite_parts(change)
        ]
        step_observer.announce("migrate.files", 0)
        file_rewriting.commit_full_rewrite(change.table, prepared, change.schema, said)
    file_rewriting.checkpoint_if_due(change.table)


def is_altered(table: DeltaTable, migration_id: str, version: int) -> bool:
    """Whether the commit of this migration is among those after `version`."""
    entries = table.history(table.version() - version) if table.version() > version else []
    return any(_migration_id(entry) == migration_id for entry in entries)


def _migration_id(entry: Mapping[str, Any]) -> str | None:
    try:
        said = json.loads(entry.get("userMetadata") or "")
    except ValueError:
        return None
    return said.get(MIGRATED) if isinstance(said, dict) else None


def _rewrite_parts(change: Alteration) -> list[tuple[list[RewriteSource], RewriteTarget]]:
    """Files to be written again together: of each partition each sorted run, which stays one, and the rest."""
    found: dict[tuple[Any, ...], list[table_files.TableFile]] = defaultdict(list)
    for file in sorted(table_files.list_files(change.table), key=lambda each: each.path):
        found[(*file.partition.values(), clustering.run_name(file.path))].append(file)
    parts: list[tuple[list[RewriteSource], RewriteTarget]] = []
    for (*_, run), files in found.items():
        prefix = CLUSTERED if run else PREFIX
        parts.append(([RewriteSource(tuple(files))], RewriteTarget((), prefix, change.schema, change.old_names)))
    return parts
