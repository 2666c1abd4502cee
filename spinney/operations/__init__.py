"""Operations by people and by maintenance: overrides, imported models, dead letters, migrations, compaction."""
