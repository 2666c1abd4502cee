"""The differences between the columns that a fleet was created with and those of an edited configuration."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from spinney.core.errors import StoreError
from spinney.core.migration.earlier_columns import FormerColumn
from spinney.core.migration.type_widening import is_widening


class ColumnChangeKind(StrEnum):
    """The change of a column."""

    ADDED = "added"
    DROPPED = "dropped"
    WIDENED = "widened"
    RENAMED = "renamed"


@dataclass(frozen=True)
class ColumnChange:
    """The change of one column.

    name: the new name; the last one of a dropped column. was, becomes: Spark SQL types; None if there is none.
    old_name: the name before a renaming, which may also widen the type. returns: whether an added column is still in
    the table from before it was dropped.
    """

    kind: ColumnChangeKind
    name: str
    was: str | None
    becomes: str | None
    old_name: str | None = None
    returns: bool = False


def column_changes(
    before: Mapping[str, str],
    now: Mapping[str, str],
    renames: Mapping[str, str],
    former: Mapping[str, FormerColumn],
    retired: Mapping[str, str],
) -> list[ColumnChange]:
    """Return the changes, in the order of the configuration, dropped columns last.

    before, now: name -> Spark SQL type. renames: old name -> new name. former: earlier name -> what became of the
    column. retired: name -> type of dropped columns that the table still has. Raises StoreError for a change that an
    existing fleet cannot make.
    """
    _refuse_renames(before, now, renames)
    old_names = {new: old for old, new in renames.items()}
    known = {name.lower(): name for name in (*former, *retired, *before)}
    found = []
    for name, kind in now.items():
        old = old_names.get(name, name)
        _refuse_other_case(name, known)
        if old not in before:
            found.append(_added(name, kind, former, retired))
        elif old != name:
            _refuse_other_type(name, before[old], kind)
            _refuse_former(name, former, retired, old)
            found.append(ColumnChange(ColumnChangeKind.RENAMED, name, before[old], kind, old))
        elif before[name] != kind:
            _refuse_other_type(name, before[name], kind)
            found.append(ColumnChange(ColumnChangeKind.WIDENED, name, before[name], kind))
    dropped = (name for name in before if name not in now and name not in renames)
    return found + [ColumnChange(ColumnChangeKind.DROPPED, name, before[name], None) for name in dropped]


def likely_renames(found: list[ColumnChange]) -> Iterator[tuple[str, str]]:
    """Yield pairs of a dropped and an added column of the same type, which may be one renamed column."""
    dropped = [change for change in found if change.kind == ColumnChangeKind.DROPPED]
    for change in (change for change in found if change.kind == ColumnChangeKind.ADDED and not change.returns):
        alike = [other for other in dropped if other.was == change.becomes]
        if len(alike) == 1:
            yield alike[0].name, change.name


def _added(name: str, kind: str, former: Mapping[str, FormerColumn], retired: Mapping[str, str]) -> ColumnChange:
    was = retired.get(name)
    if was is not None:
        _refuse_other_type(name, was, kind)
        return ColumnChange(ColumnChangeKind.ADDED, name, was, kind, returns=True)
    _refuse_former(name, former, retired)
    return ColumnChange(ColumnChangeKind.ADDED, name, None, kind)


def _refuse_renames(before: Mapping[str, str], now: Mapping[str, str], renames: Mapping[str, str]) -> None:
    for old, new in renames.items():
        option = f"--rename {old}={new}"
        if old not in before:
            raise StoreError(f"{option}: expected a column that the fleet has; it has {', '.join(before)}")
        if old in now:
            raise StoreError(f"{option}: expected {old} to be gone from [fleet.columns]; it is there still. Remove it")
        if new not in now:
            raise StoreError(f"{option}: expected {new} in [fleet.columns]; it is not there. Declare it")
        if new in before:
            raise StoreError(f"{option}: expected a name that no column has; the fleet has {new} already")
    if len(set(renames.values())) < len(renames):
        raise StoreError("--rename: expected a name of its own for each column; got one name twice")


def _refuse_other_type(name: str, was: str, becomes: str) -> None:
    if was != becomes and not is_widening(was, becomes):
        raise StoreError(
            f"fleet.columns.{name}: was {was} and is {becomes} now: expected the same type or a wider one (tinyint to "
            "smallint, int, bigint; whole numbers and float to double; decimal to more digits), which holds each value "
            f"that is stored. Declare a column of another name and let [fleet.fields] read it from the field {name}, "
            "or load the history into another storage.root"
        )


def _refuse_other_case(name: str, known: Mapping[str, str]) -> None:
    """Raise StoreError if a name differs from a known one only in case. known: names that the fleet has or had, by
    lower case.
    """
    existing = known.get(name.lower(), name)
    if existing != name:
        raise StoreError(
            f"fleet.columns.{name}: expected a name that differs in more than case from those that the fleet has or "
            f"had; it had {existing}, which Delta and Spark take for the same. Call it {existing}, or choose another "
            "name"
        )


def _refuse_former(
    name: str, former: Mapping[str, FormerColumn], retired: Mapping[str, str], present: str | None = None
) -> None:
    """Raise StoreError if a name belongs to an earlier column. present: the current name of the column that gets this
    name; a column may get an earlier name of its own back.
    """
    if name in retired:
        raise StoreError(
            f"fleet.columns.{name}: the table events still has a column of this name, dropped before. Choose another"
        )
    if name in former and former[name].now not in (None, present):
        raise StoreError(
            f"fleet.columns.{name}: a column of this name was renamed to {former[name].now}, and models that were "
            "fitted before still ask for it by this name. Choose another name"
        )
