"""The differences between the columns that a fleet was made with and those of an edited configuration."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from spinney.core.errors import StoreError
from spinney.core.migration.earlier_columns import Former
from spinney.core.migration.type_widening import is_widening


class Kind(StrEnum):
    """What happens to a column."""

    ADDED = "added"
    DROPPED = "dropped"
    WIDENED = "widened"
    RENAMED = "renamed"


@dataclass(frozen=True)
class Change:
    """One column's change. name: today's; of a dropped one its last. was, becomes: Spark SQL types, None for none.

    old_name: of a renamed column, whose type may be widened too. returns: an added column that the table still has
    from before it was dropped.
    """

    kind: Kind
    name: str
    was: str | None
    becomes: str | None
    old_name: str | None = None
    returns: bool = False


def changes(
    before: Mapping[str, str],
    now: Mapping[str, str],
    renames: Mapping[str, str],
    former: Mapping[str, Former],
    retired: Mapping[str, str],
) -> list[Change]:
    """What changes, in the order of the configuration, what is dropped last.

    before, now: name -> Spark SQL type. renames: old name -> new name. former: what became of earlier columns. retired:
    those that the table still has. Raises StoreError for a change that cannot be carried out on a fleet that exists.
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
            found.append(Change(Kind.RENAMED, name, before[old], kind, old))
        elif before[name] != kind:
            _refuse_other_type(name, before[name], kind)
            found.append(Change(Kind.WIDENED, name, before[name], kind))
    gone = (name for name in before if name not in now and name not in renames)
    return found + [Change(Kind.DROPPED, name, before[name], None) for name in gone]


def likely_renames(found: list[Change]) -> Iterator[tuple[str, str]]:
    """Pairs of a dropped and an added column of one type: perhaps one column under another name."""
    dropped = [each for each in found if each.kind == Kind.DROPPED]
    for each in (each for each in found if each.kind == Kind.ADDED and not each.returns):
        alike = [other for other in dropped if other.was == each.becomes]
        if len(alike) == 1:
            yield alike[0].name, each.name


def _added(name: str, kind: str, former: Mapping[str, Former], retired: Mapping[str, str]) -> Change:
    was = retired.get(name)
    if was is not None:
        _refuse_other_type(name, was, kind)
        return Change(Kind.ADDED, name, was, kind, returns=True)
    _refuse_former(name, former, retired)
    return Change(Kind.ADDED, name, None, kind)


def _refuse_renames(before: Mapping[str, str], now: Mapping[str, str], renames: Mapping[str, str]) -> None:
    for old, new in renames.items():
        said = f"--rename {old}={new}"
        if old not in before:
            raise StoreError(f"{said}: expected a column that the fleet has; it has {', '.join(before)}")
        if old in now:
            raise StoreError(f"{said}: expected {old} to be gone from [fleet.columns]; it is there still. Remove it")
        if new not in now:
            raise StoreError(f"{said}: expected {new} in [fleet.columns]; it is not there. Declare it")
        if new in before:
            raise StoreError(f"{said}: expected a name that no column has; the fleet has {new} already")
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
    """known: names that the fleet has or had, by their lower case."""
    there = known.get(name.lower(), name)
    if there != name:
        raise StoreError(
            f"fleet.columns.{name}: expected a name that differs in more than case from those that the fleet has or "
            f"had; it had {there}, which Delta and Spark take for the same. Call it {there}, or choose another name"
        )


def _refuse_former(
    name: str, former: Mapping[str, Former], retired: Mapping[str, str], present: str | None = None
) -> None:
    """present: what the column is called that is to get this name; it may get an earlier one back."""
    if name in retired:
        raise StoreError(
            f"fleet.columns.{name}: the table events still has a column of this name, dropped before. Choose another"
        )
    if name in former and former[name].now not in (None, present):
        raise StoreError(
            f"fleet.columns.{name}: a column of this name was renamed to {former[name].now}, and models that were "
            "fitted before still ask for it by this name. Choose another name"
        )
