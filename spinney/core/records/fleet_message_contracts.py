"""The contracts of messages with a fleet's own field names and declared columns."""

from __future__ import annotations

from dataclasses import replace

from schemas import messages
from schemas.contract import Column, Contract
from spinney.core.config import RecordSchema


def message_contract(schema: RecordSchema, base: Contract) -> Contract:
    """Return the contract of this fleet's events or outcomes. base: `messages.EVENT` or `messages.OUTCOME`."""
    fleet = schema.fleet
    names = {"event_id": fleet.event_id, "event_time": fleet.event_time}
    columns = tuple(replace(column, name=names.get(column.name, column.name)) for column in base.columns)
    never_null = {*fleet.group}
    declared, after = schema.event_columns, fleet.event_time
    if base.name == messages.OUTCOME.name:
        never_null |= {fleet.target}
        declared, after = {name: fleet.columns[name] for name in (*fleet.group, fleet.target)}, fleet.event_id
    extra = (
        Column(name, str(type_), "declared in fleet.columns", nullable=name not in never_null)
        for name, type_ in declared.items()
    )
    return replace(base, columns=columns).with_columns(*extra, after=after)
