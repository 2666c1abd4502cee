"""The charter: the fixed settings of a fleet, and the rules for records with the offsets from which they apply.

Two queries, ingest and score, validate the same records, each at its own pace. If an edited rule applied from each
query's next batch on, the two would disagree: ingest could store a record as a dead letter while score answers it. So
an edit applies from one offset for both: the first that neither query has started. Whether a record is valid depends on
the record, its offset and this file, never on when it is read.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from schemas.vocabulary import QueryName
from spinney.core.config import RecordSchema
from spinney.core.errors import Busy, StoreError
from spinney.core.migration import (
    FormerColumn,
    LossHistory,
    Migration,
    are_convertible,
    former_columns,
    mismatch_advice,
    original_columns,
    retired_columns,
    settings_before,
)
from spinney.core.migration.config_changes import GROUP, LOSS, TARGET, fixed_columns
from spinney.core.records.rules import OriginalColumn, ValidationSettings, validation_settings
from spinney.core.stored_formats import CHARTER, KEY
from spinney.storage import atomic_files, checkpoints, leases
from spinney.storage.layout import FleetStore

FILE = "charter.json"
VALIDATING_QUERIES = (QueryName.INGEST, QueryName.SCORE)

Offsets = Mapping[str, Mapping[str, int]]
"""topic -> partition -> the first offset."""


@dataclass(frozen=True)
class Edition:
    """One edition of the rules for records.

    since: the first offset of each partition to which it applies; a partition that is not named: all its offsets.
    originals: current column -> the column when the fleet was made, the same for all editions of a charter; None if no
    migration was made.
    """

    settings: ValidationSettings
    since: Offsets = field(default_factory=dict)
    originals: Mapping[str, OriginalColumn] | None = None


@dataclass(frozen=True)
class Charter:
    """The content of the file.

    fleet_id: unique, also among fleets of the same name. fixed: dotted key -> value that only `spinney migrate` may
    change. editions: of the rules, oldest first. migrations: completed ones, oldest first. unfinished_migration: one
    that was started and not completed.
    """

    fleet_id: str
    fixed: Mapping[str, Any]
    editions: tuple[Edition, ...]
    migrations: tuple[Migration, ...] = ()
    unfinished_migration: Migration | None = None

    def __post_init__(self) -> None:
        originals = original_columns(self.migrations)
        editions = tuple(replace(edition, originals=originals) for edition in self.editions)
        object.__setattr__(self, "editions", editions)


def load_charter(store: FleetStore) -> Charter | None:
    """Return the stored charter; None if there is no fleet yet."""
    return _read_charter(store) if _charter_file(store).exists() else None


def write_charter(store: FleetStore, charter: Charter) -> None:
    """Replace the stored charter. The caller must hold the leases of all processes that the change concerns."""
    atomic_files.replace_file(_charter_file(store), _encode_charter(charter))


def ensure_charter(store: FleetStore) -> Charter:
    """Return the charter, and create it if there is none.

    Its editions stay unchanged. Raises StoreError if a fixed setting was changed.
    """
    if not _charter_file(store).exists():
        made = Charter(
            str(uuid.uuid4()), fixed_values(store.record_schema), (Edition(validation_settings(store.fleet)),)
        )
        atomic_files.create_file(_charter_file(store), _encode_charter(made))
    charter = _read_charter(store)
    _refuse_changes(store, charter)
    return charter


def amend_charter(store: FleetStore) -> Charter:
    """Return the charter, with a new edition if the rules were edited. It is created if there is none.

    The caller must hold the leases of VALIDATING_QUERIES. Raises StoreError if a fixed setting was changed.
    """
    charter, settings = ensure_charter(store), validation_settings(store.fleet)
    if charter.editions[-1].settings == settings:
        return charter
    with_edition = replace(charter, editions=(*charter.editions, Edition(settings, _started_offsets(store))))
    write_charter(store, with_edition)
    return with_edition


def amend_when_idle(store: FleetStore, held: tuple[str, ...]) -> Charter:
    """Amend the charter for a process that holds only the leases `held`; otherwise as `amend_charter`.

    Raises StoreError if a fixed setting was changed, Busy if rules were edited and another process still validates by
    the old ones.
    """
    charter = ensure_charter(store)
    settings, before = validation_settings(store.fleet), charter.editions[-1].settings
    if before == settings:
        return charter
    try:
        with leases.held(store, [name for name in VALIDATING_QUERIES if name not in held]):
            return amend_charter(store)
    except Busy as error:
        raise Busy(
            f"fleet {store.fleet.name}: {' and '.join(_edited_keys(before, settings))} was edited, and the new rules "
            f"apply from one offset for {' and '.join(VALIDATING_QUERIES)}: expected both to be stopped; got {error}. "
            "Stop both, then start them again"
        ) from error


def check_unchanged(store: FleetStore) -> None:
    """Check the charter without creating it, for readers. Raises StoreError if a fixed setting was changed."""
    if (charter := load_charter(store)) is not None:
        _refuse_changes(store, charter)


def describe_new_fleet(store: FleetStore) -> str | None:
    """Return a sentence for people if there is no fleet at this root yet, else None.

    A wrong ``storage.root`` looks like an empty fleet, so commands report it before they create one.
    """
    if _charter_file(store).exists() or (store.folder / "tables").exists():
        return None
    return f"fleet {store.fleet.name}: none at {store.folder} yet; it is created there"


def after_migration(store: FleetStore, charter: Charter, migration: Migration) -> Charter:
    """Return the charter after a migration.

    Records that a query started before are validated by the earlier columns.
    """
    earlier = (replace(edition, settings=settings_before(edition.settings, migration)) for edition in charter.editions)
    changed = {COLUMNS: dict(migration.after), LOSS: migration.loss_after or charter.fixed[LOSS]}
    return replace(
        charter,
        fixed={**renamed_fixed(charter.fixed, migration.renamed), **changed},
        editions=(*earlier, Edition(validation_settings(store.fleet), _started_offsets(store))),
        migrations=(*charter.migrations, migration),
        unfinished_migration=None,
    )


def renamed_fixed(fixed: Mapping[str, Any], renamed: Mapping[str, str]) -> dict[str, Any]:
    """Return the fixed values with the current names of the group's columns and of the target.

    renamed: old -> new name.
    """
    target, group = fixed[TARGET], [renamed.get(name, name) for name in fixed[GROUP]]
    return {**fixed, TARGET: renamed.get(target, target), GROUP: group}


def former_columns_of(store: FleetStore) -> dict[str, FormerColumn]:
    """Return the columns that migrations renamed or dropped, by their old names."""
    charter = load_charter(store)
    return {} if charter is None else former_columns(charter.migrations)


def retired_columns_of(store: FleetStore) -> dict[str, str]:
    """Return name -> type of the columns of `events` that are no longer declared."""
    charter = load_charter(store)
    return {} if charter is None else retired_columns(charter.migrations)


def original_columns_of(store: FleetStore) -> dict[str, OriginalColumn] | None:
    """Return the columns that the fleet was made with, by their current names; None if no migration was made."""
    charter = load_charter(store)
    return None if charter is None else original_columns(charter.migrations)


def losses_of(store: FleetStore) -> LossHistory:
    """Return the losses by which the fleet has measured its models.

    The current loss is read from the charter, not from the configuration, which may be edited and not migrated yet, or
    older than the migration.
    """
    charter = load_charter(store)
    if charter is None:
        return LossHistory.of(str(store.fleet.loss), ())
    return LossHistory.of(str(charter.fixed[LOSS]), charter.migrations)


def restart_topic(store: FleetStore, topic: str) -> None:
    """Let the newest edition apply from the start of a topic that was deleted and created again.

    The caller must hold the leases of VALIDATING_QUERIES.
    """
    charter = load_charter(store)
    if charter is None:
        return
    editions = tuple(
        replace(edition, since={name: offsets for name, offsets in edition.since.items() if name != topic})
        for edition in charter.editions
    )
    if editions != charter.editions:
        write_charter(store, replace(charter, editions=editions))


COLUMNS = "fleet.columns"


def fixed_values(schema: RecordSchema) -> dict[str, Any]:
    """Return this configuration's value of each fixed key, by dotted key."""
    fleet = schema.fleet
    return {
        GROUP: list(fleet.group),
        "fleet.event_id": fleet.event_id,
        "fleet.event_time": fleet.event_time,
        TARGET: fleet.target,
        "fleet.task": fleet.task,
        LOSS: fleet.loss,
        "fleet.clock": fleet.clock,
        "fleet.shards": fleet.shards,
        COLUMNS: fixed_columns(fleet, fleet.columns),
        "kafka.events": schema.events_topic,
        "kafka.outcomes": schema.outcomes_topic,
    }


_KEY_OF_BASIS = {
    "ranges": "ranges",
    "sources": "fields",
    "units": "columns",
    "coerce": "coerce",
    "missing": "missing",
}
"""Field of `ValidationSettings` -> the key below [fleet] that it comes from."""


def _edited_keys(before: ValidationSettings, now: ValidationSettings) -> list[str]:
    return [f"fleet.{key}" for name, key in _KEY_OF_BASIS.items() if getattr(before, name) != getattr(now, name)]


def _refuse_changes(store: FleetStore, charter: Charter) -> None:
    if charter.unfinished_migration is not None:
        raise StoreError(
            f"fleet {store.fleet.name} at {store.root}: a migration was started at "
            f"{charter.unfinished_migration.at} and has not ended. {mismatch_advice.END_IT}"
        )
    stored = {**charter.fixed, COLUMNS: fixed_columns(store.fleet, charter.fixed.get(COLUMNS, {}))}
    for name, value in fixed_values(store.record_schema).items():
        if stored.get(name) != value:
            raise StoreError(
                f"fleet {store.fleet.name} at {store.root}: {describe_change(name, stored.get(name), value)} "
                + _remedy_of_change(name, stored.get(name), value)
            )


_PUT_BACK = "Put it back, or give the new fleet another storage.root"


def _remedy_of_change(name: str, before: Any, now: Any) -> str:
    if name == COLUMNS:
        return f"the existing tables have the old columns. {mismatch_advice.PUT_BACK_OR_MIGRATE}"
    if name == LOSS and are_convertible(str(before), str(now)):
        return f"stored losses are by the old one. {mismatch_advice.PUT_BACK_OR_MIGRATE}"
    if name in (TARGET, GROUP):
        return f"stored data would change its meaning. {mismatch_advice.IF_RENAMED} {_PUT_BACK}"
    return f"stored data would change its meaning. {_PUT_BACK}"


def describe_change(name: str, before: Any, now: Any) -> str:
    """Return the beginning of a sentence about a fixed key that was edited.

    before, now: values of the key. For columns it names only those that differ.
    """
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        differing = [column for column in {**before, **now} if before.get(column) != now.get(column)]
        before, now = ({column: of[column] for column in differing if column in of} for of in (before, now))
    return f"{name} was {json.dumps(before)} when it was made and is {json.dumps(now)} now;"


def _started_offsets(store: FleetStore) -> dict[str, dict[str, int]]:
    """Return topic -> partition -> the greatest end offset of any batch that ingest or score has started."""
    greatest: dict[str, dict[str, int]] = {}
    for query in VALIDATING_QUERIES:
        location = store.checkpoint(query)
        batch_id = checkpoints.newest_batch_id(location, "offsets")
        for text in checkpoints.end_offsets(location, batch_id) if batch_id is not None else ():
            for topic, partitions in _kafka_offsets(text).items():
                known = greatest.setdefault(topic, {})
                for partition, offset in partitions.items():
                    known[partition] = max(known.get(partition, 0), offset)
    return greatest


def _kafka_offsets(text: str | None) -> dict[str, dict[str, int]]:
    """Topic -> partition -> offset; empty for the offsets of a source that is not Kafka."""
    data = json.loads(text or "{}")
    if not all(isinstance(value, dict) for value in data.values()):
        return {}
    return {str(topic): {str(at): int(offset) for at, offset in value.items()} for topic, value in data.items()}


def _charter_file(store: FleetStore) -> Path:
    return store.folder / FILE


def _read_charter(store: FleetStore) -> Charter:
    data = json.loads(_charter_file(store).read_text(encoding="utf-8"))
    CHARTER.check_object(data, _charter_file(store))
    editions = tuple(Edition(_decode_basis(edition), edition["since"]) for edition in data["editions"])
    migrations = tuple(map(Migration.from_data, data.get("migrations", ())))
    unfinished = Migration.from_data(data["begun"]) if data.get("begun") is not None else None
    return Charter(data["fleet_id"], data["fixed"], editions, migrations, unfinished)


def _decode_basis(data: Mapping[str, Any]) -> ValidationSettings:
    """Decode the rules of an edition. The first version stored ranges only; it did not coerce values."""
    return ValidationSettings(
        ranges={name: (float(low), float(high)) for name, (low, high) in data["ranges"].items()},
        sources=data.get("sources", {}),
        units=data.get("units", {}),
        coerce=data.get("coerce", False),
        missing=tuple(data.get("missing", ())),
        undeclared=tuple(data.get("undeclared", ())),
        types=data.get("types", {}),
        dropped=data.get("dropped", {}),
    )


def _encode_charter(charter: Charter) -> bytes:
    editions = [{**asdict(edition.settings), "since": {**edition.since}} for edition in charter.editions]
    data: dict[str, Any] = {
        KEY: CHARTER.version,
        "fleet_id": charter.fleet_id,
        "fixed": charter.fixed,
        "editions": editions,
    }
    if charter.migrations:
        data["migrations"] = [migration.as_data() for migration in charter.migrations]
    if charter.unfinished_migration is not None:
        data["begun"] = charter.unfinished_migration.as_data()
    return json.dumps(data, indent=1).encode()
