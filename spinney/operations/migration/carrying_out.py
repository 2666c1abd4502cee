"""Carrying out a migration: begun in the charter, done in one commit, ended in the charter.

Killed between any two of these steps, the fleet refuses everything but `migrate`. The next call looks whether the
commit is there: then it only ends what was begun, else it starts over.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from spinney.core.config import Config
from spinney.core.errors import StoreError
from spinney.operations.migration import events_table
from spinney.operations.migration.planning import MigrationPlan, plan_from_charter, settled_charter
from spinney.storage import charter, leases, step_observer
from spinney.storage.layout import FleetStore


def carry_out_migration(config: Config, renames: Mapping[str, str]) -> MigrationPlan:
    """Change the fleet's columns to those of the configuration. Returns what was done.

    renames: old name -> new name. Raises Busy while a process of the fleet runs, StoreError for a change that no
    migration makes or that has to wait.
    """
    store = FleetStore.of(config)
    with leases.held(store, leases.ALL_LEASES):
        there, present = settled_charter(config), charter.load_charter(store)
        made = plan_from_charter(config, there, renames)
        if made.obstacles:
            raise StoreError(f"fleet {config.fleet.name}: not now: {'; '.join(made.obstacles)}")
        begun = None if present is None else present.unfinished_migration
        if begun is not None and begun in there.migrations:
            made = replace(made, notes=(f"the migration that was begun at {begun.at} is ended", *made.notes))
        if made.migration is None:
            if begun is not None:
                charter.write_charter(store, replace(there, unfinished_migration=None))
            return made
        charter.write_charter(store, replace(there, unfinished_migration=made.migration))
        step_observer.announce("migrate.begun", 0)
        events_table.alter_table(made.alteration, made.migration.id)
        step_observer.announce("migrate.table", 0)
        charter.write_charter(store, charter.after_migration(config, there, made.migration))
    return made
