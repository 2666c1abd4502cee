"""What validation depended on before a migration, said of the columns as they are called after it."""

from __future__ import annotations

from dataclasses import replace

from spinney.core.migration.migration_record import Migration
from spinney.core.records.rules import ValidationSettings


def settings_before(settings: ValidationSettings, migration: Migration) -> ValidationSettings:
    """The same rules for records of before, whose values go into the columns of after.

    basis: of the columns before this migration; migrations are taken one after the other, oldest first.
    """
    now = migration.renamed
    types = {now.get(name, name): kind for name, kind in settings.types.items() if name not in migration.dropped}
    for name, kind in migration.before.items():
        mine = now.get(name, name)
        if migration.after.get(mine, kind) != kind:
            types.setdefault(mine, kind)
    dropped = dict(settings.dropped)
    for name in migration.dropped:
        if name not in settings.undeclared:
            dropped[name] = settings.types.get(name, migration.before[name])
    undeclared = [now.get(name, name) for name in settings.undeclared if name not in migration.dropped]
    for name in migration.added:
        if name not in dropped:
            undeclared.append(name)
        elif (kind := dropped.pop(name)) != migration.after[name]:
            types[name] = kind
    implied = {new: old for old, new in now.items() if old not in settings.sources}
    return replace(
        settings,
        ranges={now.get(name, name): ends for name, ends in settings.ranges.items()},
        sources=implied | {now.get(name, name): source for name, source in settings.sources.items()},
        units={now.get(name, name): unit for name, unit in settings.units.items()},
        undeclared=tuple(undeclared),
        types=types,
        dropped=dropped,
    )
