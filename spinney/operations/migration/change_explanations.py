"""Explain what a change of columns means for rows, messages and models."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from spinney.core.config import Fleet
from spinney.core.migration import ColumnChange, ColumnChangeKind, likely_renames

MIB = 1024**2


def explain_changes(fleet: Fleet, found: Sequence[ColumnChange], rewritten: int) -> Iterator[str]:
    """Yield one sentence per consequence. rewritten: bytes of the files that are rewritten; 0 for none."""
    for change in found:
        yield _column_note(fleet, change)
    for old, new in likely_renames(list(found)):
        yield (
            f"{old} is dropped and {new} added, both of one type: if the column was renamed, use "
            f"--rename {old}={new} to keep its values"
        )
    of_features = [change for change in found if {change.name, change.old_name} & set(fleet.features)]
    if any(change.kind != ColumnChangeKind.DROPPED for change in of_features):
        yield (
            f"the recipe changes with {', '.join(change.name for change in of_features)}: a group is fitted "
            "with it when it is next due, all of them by `spinney retrain --all`; until then the present models answer"
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


def _rename_note(change: ColumnChange, field: str) -> str:
    kept = f"{change.old_name} → {change.name}: values are kept, and models fitted on {change.old_name} still answer"
    if field == change.name:
        return (
            f"{kept}. Messages and files must name the field {field} from now on. If they keep the old name, set it "
            f'in [fleet.fields]: {change.name} = "{change.old_name}"'
        )
    return f"{kept}. Messages and files keep the name {field} for the field, as configured in [fleet.fields]"
