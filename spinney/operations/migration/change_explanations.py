"""What a change of columns means for rows, messages and models, in sentences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from spinney.core.config import Fleet
from spinney.core.migration import ColumnChange, ColumnChangeKind, likely_renames

MIB = 1024**2


def explain_changes(fleet: Fleet, found: Sequence[ColumnChange], rewritten: int) -> Iterator[str]:
    """rewritten: bytes of the files that are written again; 0 for none."""
    for each in found:
        yield _column_note(fleet, each)
    for old, new in likely_renames(list(found)):
        yield (
            f"{old} is dropped and {new} added, both of one type: if it is one column under another name, use "
            f"--rename {old}={new}, and its values stay"
        )
    mine = [each for each in found if {each.name, each.old_name} & set(fleet.features)]
    if any(each.kind != ColumnChangeKind.DROPPED for each in mine):
        yield (
            f"the recipe changes with {', '.join(each.name for each in mine)}: a group is fitted by it when it next "
            "falls due, all of them by `spinney retrain --all`; until then the models that are there answer"
        )
    if rewritten:
        yield (
            f"the files that are there stay on disk beside the new ones, {rewritten / MIB:,.1f} MiB, until "
            "`spinney tidy` removes them after 168 h; as much must be free"
        )
    if found:
        yield "versions of the fleet that were registered before answer as before; register again for the new columns"


def _column_note(fleet: Fleet, change: ColumnChange) -> str:
    field = fleet.fields.get(change.name, change.name)
    if change.kind == ColumnChangeKind.ADDED and change.returns:
        return f"{change.name}: was dropped before; its values of then are there again, and it is read from {field}"
    if change.kind == ColumnChangeKind.ADDED:
        return f"{change.name}: null in the rows that are there; read from the field {field} from now on"
    if change.kind == ColumnChangeKind.DROPPED:
        return (
            f"{change.name}: stays in the table and is not read any more, null in new rows; messages may go on with "
            "it. Models that were fitted on it answer as where it is missing, until their groups are fitted again"
        )
    if change.kind == ColumnChangeKind.WIDENED:
        exact = change.was == "bigint" and change.becomes == "double"
        return f"{change.name}: every value stays" + (
            "; a whole number beyond 2**53, which has no double, stops the migration before it changes anything"
            if exact
            else ""
        )
    return _rename_note(change, field)


def _rename_note(change: ColumnChange, field: str) -> str:
    told = f"{change.old_name} → {change.name}: the values stay, and models fitted on {change.old_name} go on answering"
    if field == change.name:
        return (
            f"{told}. Messages and files must call the field {field} from now on; while they call it otherwise, say so "
            f'in [fleet.fields]: {change.name} = "{change.old_name}"'
        )
    return f"{told}. Messages and files go on calling the field {field}, as [fleet.fields] says"
