"""Assess whether a dead letter would be accepted if it were sent again now."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import pyarrow.dataset as ds

from schemas import messages, tables
from schemas.contract import Contract
from spinney.core import keys
from spinney.core.config import RecordSchema
from spinney.core.records.rules import OriginalColumn, RecordRules, build_rules
from spinney.core.records.validation import validate
from spinney.operations.dead_letters.letters import LOADED
from spinney.storage.layout import FleetStore
from spinney.tables import delta, table_files

FROM_A_FILE = "came from a file, not from a topic: correct the file, and `spinney load` it again"
OTHER_TOPIC = "from a topic that this fleet does not read"
STORED = "the table has this id of its group already"
REPEATED = "another one has the same id of its group"


@dataclass(frozen=True)
class RecordId:
    """The identity of a stored record: the table (events or outcomes), the group and the id."""

    table: str
    group_key: str
    event_id: str


class RecordAssessor:
    """Assesses records by the current configuration.

    originals: as in `build_rules`. now: the timestamp that a record sent now would get.
    """

    def __init__(
        self,
        schema: RecordSchema,
        originals: Mapping[str, OriginalColumn] | None = None,
        now: datetime | None = None,
    ) -> None:
        self._fleet = schema.fleet
        self._now = now or datetime.now(UTC)
        self._kinds: dict[str, tuple[Contract, RecordRules]] = {
            schema.events_topic: (tables.EVENTS, build_rules(schema, messages.EVENT, originals=originals))
        }
        if schema.outcomes_topic is not None:
            self._kinds[schema.outcomes_topic] = (tables.OUTCOMES, build_rules(schema, messages.OUTCOME))

    def name_of(self, topic: str, value: bytes | None) -> RecordId | str:
        """Return the id under which the record would be stored, or the reason why it would be rejected."""
        if topic.startswith(LOADED):
            return FROM_A_FILE
        if topic not in self._kinds:
            return OTHER_TOPIC
        base, rules = self._kinds[topic]
        found = validate(value, self._now, rules)
        if found.values is None:
            about = f" ({found.field})" if found.field else ""
            return f"would be rejected again: {found.reason}{about}"
        fleet = self._fleet
        return RecordId(
            base.name, keys.encode([found.values[name] for name in fleet.group]), found.values[fleet.event_id]
        )


def find_stored(store: FleetStore, names: Collection[RecordId]) -> set[RecordId]:
    """Return the ids that are stored already."""
    return {record_id for base in (tables.EVENTS, tables.OUTCOMES) for record_id in _find_stored_in(store, base, names)}


def _find_stored_in(store: FleetStore, base: Contract, names: Collection[RecordId]) -> set[RecordId]:
    by_key: Mapping[tuple[str, str], RecordId] = {
        (record_id.group_key, record_id.event_id): record_id for record_id in names if record_id.table == base.name
    }
    table = delta.open_table(store.directory(base)) if by_key else None
    if table is None:
        return set()
    columns = ["group_key", "event_id"]
    same_id = ds.field("event_id").isin(sorted({event_id for _, event_id in by_key}))
    rows = table_files.read_groups(table, columns, {key for key, _ in by_key}, store.fleet.shards, same_id)
    stored = zip(*(rows[name].to_pylist() for name in columns), strict=True)
    return {by_key[pair] for pair in stored if pair in by_key}
