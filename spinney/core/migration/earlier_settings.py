"""Express validation settings from before a migration in terms of the columns after it."""

from __future__ import annotations

from dataclasses import replace

from spinney.core.migration.migration_record import Migration
from spinney.core.records.rules import ValidationSettings


def settings_before(settings: ValidationSettings, migration: Migration) -> ValidationSettings:
    """Return the same settings for earlier records, whose values go into the columns after the migration.

    settings: in terms of the columns before this migration. Apply migrations one by one, oldest first.
    """
    new_name_of = migration.renamed
    types = {
        new_name_of.get(name, name): kind for name, kind in settings.types.items() if name not in migration.dropped
    }
    for name, kind in migration.before.items():
        new_name = new_name_of.get(name, name)
        if migration.after.get(new_name, kind) != kind:
            types.setdefault(new_name, kind)
    dropped = dict(settings.dropped)
    for name in migration.dropped:
        if name not in settings.undeclared:
            dropped[name] = settings.types.get(name, migration.before[name])
    undeclared = [new_name_of.get(name, name) for name in settings.undeclared if name not in migration.dropped]
    for name in migration.added:
        if name not in dropped:
            undeclared.append(name)
        elif (kind := dropped.pop(name)) != migration.after[name]:
            types[name] = kind
    implied = {new: old for old, new in new_name_of.items() if old not in settings.sources}
    return replace(
        settings,
        ranges={new_name_of.get(name, name): ends for name, ends in settings.ranges.items()},
        sources=implied | {new_name_of.get(name, name): source for name, source in settings.sources.items()},
        units={new_name_of.get(name, name): unit for name, unit in settings.units.items()},
        undeclared=tuple(undeclared),
        types=types,
        dropped=dropped,
    )
