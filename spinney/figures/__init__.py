"""Figures of the fleet page, read from the tables: of the fleet, of one group, of the pipeline."""
