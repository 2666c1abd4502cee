"""A fleet that has stored events gets other columns: what that means, and carrying it out."""

from __future__ import annotations

from spinney.operations.migration.carrying_out import carry_out
from spinney.operations.migration.planning import Plan, TableChange, plan

__all__ = ["Plan", "TableChange", "carry_out", "plan"]
