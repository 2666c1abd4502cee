"""The numbers that the fleet page and `/metrics` show, read from the tables: of the fleet, a group, the pipeline."""
