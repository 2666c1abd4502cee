"""Change the columns and the loss of a fleet that has stored events: plan a migration, explain it, carry it out."""

from __future__ import annotations

from spinney.operations.migration.execution import carry_out_migration
from spinney.operations.migration.planning import MigrationPlan, TableChange, plan_migration

__all__ = ["MigrationPlan", "TableChange", "carry_out_migration", "plan_migration"]
