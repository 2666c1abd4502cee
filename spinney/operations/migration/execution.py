"""Carry out a migration: record its beginning in the charter, alter the table in one commit, record its end.

If it is killed between two of these steps, every command but `migrate` refuses the fleet. The next call checks whether
the commit exists. If so, it only records the end; otherwise it starts over.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from spinney.core.errors import StoreError
from spinney.operations.migration import events_table
from spinney.operations.migration.planning import MigrationPlan, plan_from_charter, settled_charter
from spinney.storage import charter, leases, step_observer
from spinney.storage.layout import FleetStore


def carry_out_migration(store: FleetStore, renames: Mapping[str, str]) -> MigrationPlan:
    """Change the fleet's columns and its loss to those of the configuration. Returns what was done.

    renames: old name -> new name. Raises Busy while a process of the fleet runs, StoreError for a change that no
    migration can make, or if something must be done first.
    """
    with leases.held(store, leases.ALL_LEASES):
        settled, present = settled_charter(store), charter.load_charter(store)
        plan = plan_from_charter(store, settled, renames)
        if plan.obstacles:
            raise StoreError(f"fleet {store.fleet.name}: cannot be migrated now: {'; '.join(plan.obstacles)}")
        begun = None if present is None else present.unfinished_migration
        if begun is not None and begun in settled.migrations:
            plan = replace(plan, notes=(f"the migration that began at {begun.at} was completed", *plan.notes))
        if plan.migration is None:
            if begun is not None:
                charter.write_charter(store, replace(settled, unfinished_migration=None))
            return plan
        charter.write_charter(store, replace(settled, unfinished_migration=plan.migration))
        step_observer.announce("migrate.begun", 0)
        events_table.alter_table(plan.alteration, plan.migration.id)
        step_observer.announce("migrate.table", 0)
        charter.write_charter(store, charter.after_migration(store, settled, plan.migration))
    return plan
