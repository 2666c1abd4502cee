"""Explain what a change of columns means for rows, messages and models."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from spinney.core.config import Fleet
from spinney.core.config.value_types import EVERY_COLUMN
from spinney.core.migration import ColumnChange, ColumnChangeKind, likely_renames

MIB = 1024**2


def explain_changes(
    fleet: Fleet, found: Sequence[ColumnChange], rewritten: int, originals: Collection[str]
) -> Iterator[str]:
    """Yield one sentence per consequence.

    rewritten: bytes of the files that are rewritten; 0 for none. originals: current names of the columns that the fleet
    was made with.
    """
    for change in found:
        yield _column_note(fleet, change)
    if fleet.fields.get(fleet.event_id) == EVERY_COLUMN:
        for change in found:
            yield from _id_note(change, is_original=change.name in originals)
    for old, new in likely_renames(list(found)):
        yield (
            f"{old} is dropped and {new} added, both of one type: if the column was renamed, use "
            f"--rename {old}={new} to keep its values"
        )
    of_features = [change for change in found if {change.name, change.old_name} & set(fleet.features)]
    if any(change.kind != ColumnChangeKind.DROPPED for change in of_features):
        yield (
            f"the recipe changes with {', '.join(change.name for change in of_features)}: a group is fitted "
            "with it when it is next due, all of them by `spinney retrain --all`; until then the current models answer"
        )
    if rewritten:
        yield (
            f"the replaced files ({rewritten / MIB:,.1f} MiB) stay on disk until `spinney tidy` removes them after "
            "168 h; as much must be free"
        )
    if found:
        yield "registered versions of the fleet do not change; register again for the new columns"


def _column_note(fleet: Fleet, change: ColumnChange) -> str:
    field = fleet.fields.get(change.name, change.name)
    if change.kind == ColumnChangeKind.ADDED and change.returns:
        return f"{change.name}: was dropped before; its earlier values are back, and it is read from {field}"
    if change.kind == ColumnChangeKind.ADDED:
        return f"{change.name}: null in the stored rows; read from the field {field} from now on"
    if change.kind == ColumnChangeKind.DROPPED:
        return (
            f"{change.name}: stays in the table and is no longer read, null in new rows; messages may still have "
            "it. Models that were fitted on it treat it as missing, until their groups are refitted"
        )
    if change.kind == ColumnChangeKind.WIDENED:
        exact = change.was == "bigint" and change.becomes == "double"
        return f"{change.name}: every value stays" + (
            "; an integer beyond 2**53 that no double represents stops the migration before it changes anything"
            if exact
            else ""
        )
    return _rename_note(change, field)


def _id_note(change: ColumnChange, *, is_original: bool) -> Iterator[str]:
    """Yield what a change means for ids that are hashes of the record."""
    if change.kind == ColumnChangeKind.ADDED and not is_original:
        yield (
            f"{change.name}: no part of the events' ids, which are hashes of the columns that the fleet was made with. "
            f"Ids stay the same, and events that differ in {change.name} alone count as copies of one. Where they must "
            "not, begin a new fleet with the history"
        )
    elif change.kind == ColumnChangeKind.ADDED:
        yield (
            f"{change.name}: part of the events' ids again. Records that were read without it have another id, and are "
            "stored a second time if they are loaded again"
        )
    elif change.kind == ColumnChangeKind.DROPPED and is_original:
        yield (
            f"{change.name}: no longer part of the events' ids. New events that differ in it alone count as copies of "
            "one, and files that were loaded before are stored a second time if they are loaded again"
        )


def _rename_note(change: ColumnChange, field: str) -> str:
    kept = f"{change.old_name} → {change.name}: values are kept, and models fitted on {change.old_name} still answer"
    if field == change.name:
        return (
            f"{kept}. Messages and files must name the field {field} from now on. If they keep the old name, set it "
            f'in [fleet.fields]: {change.name} = "{change.old_name}"'
        )
    return f"{kept}. Messages and files keep the name {field} for the field, as configured in [fleet.fields]"
