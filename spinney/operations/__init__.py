"""What people and maintenance do to a fleet: overrides, imported models, dead letters, migrations, compaction."""
