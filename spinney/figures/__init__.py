"""What the fleet page shows, read from the tables: of the fleet, of one group, of the pipeline."""
