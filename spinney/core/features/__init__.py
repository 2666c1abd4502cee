"""Rows as estimators see them: features encoded as numbers, frames converted to a fleet's types."""
