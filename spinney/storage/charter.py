"""What a fleet's root was made with, and which edition of the rules for records holds from which Kafka offset on.

Two queries validate the same records, each at its own pace, and repeat some of them after a crash. If an edited rule
took effect at a query's next batch, they would disagree: a record could be a dead letter in ingest and be answered by
score. So an edit takes effect at an offset that is the same for both: the first that neither query has begun. Whether
a record is valid depends on the record, its offset and this file, never on when it is read.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from schemas.vocabulary import QueryName
from spinney.core.config import Config
from spinney.core.errors import Busy, StoreError
from spinney.core.migration import FormerColumn, Migration, advice, former_columns, settings_before
from spinney.core.migration import retired_columns as retired_by
from spinney.core.migration.config_changes import fixed_columns
from spinney.core.records.rules import ValidationSettings, validation_settings
from spinney.core.stored_formats import CHARTER, KEY
from spinney.storage import atomic_files, checkpoints, leases
from spinney.storage.layout import FleetStore

FILE = "charter.json"
VALIDATING_QUERIES = (QueryName.INGEST, QueryName.SCORE)
"""The queries that validate records."""

Offsets = Mapping[str, Mapping[str, int]]
"""topic -> partition -> the first offset."""


@dataclass(frozen=True)
class Edition:
    """What validation depends on from some offsets on; a partition not named counts from its start."""

    settings: ValidationSettings
    since: Offsets = field(default_factory=dict)


@dataclass(frozen=True)
class Charter:
    """fleet_id: tells this fleet from every other, of the same name too. fixed: dotted key -> what nobody but `migrate`
    changes under one root. editions: of the rules, oldest first. migrations: that were carried out, oldest first.
    begun: the one that was begun and has not ended.
    """

    fleet_id: str
    fixed: Mapping[str, Any]
    editions: tuple[Edition, ...]
    migrations: tuple[Migration, ...] = ()
    begun: Migration | None = None


def settled(config: Config) -> Charter:
    """Return the charter in force, written or amended if needed. To amend it, hold the leases of VALIDATING_QUERIES.

    Raises StoreError when something fixed was changed.
    """
    there, settings = ensure_fixed(config), validation_settings(config)
    if there.editions[-1].settings == settings:
        return there
    store = FleetStore.of(config)
    amended_ = replace(there, editions=(*there.editions, Edition(settings, _begun(store))))
    keep(store, amended_)
    return amended_


def ensure_fixed(config: Config) -> Charter:
    """For who does not validate records: make the charter when there is none, and leave its editions alone.

    Raises StoreError when something fixed was changed.
    """
    store = FleetStore.of(config)
    if not _file(store).exists():
        made = Charter(str(uuid.uuid4()), fixed(config), (Edition(validation_settings(config)),))
        atomic_files.create(_file(store), _text(made))
    there = _read(store)
    _refuse_changes(config, there)
    return there


def beginning(store: FleetStore) -> str | None:
    """Return the sentence that says that a fleet begins here; None where there is one already.

    For who is about to make one: a wrong ``storage.root`` looks like a fleet that is empty.
    """
    place = store.folder
    if _file(store).exists() or (place / "tables").exists():
        return None
    return f"fleet {store.fleet.name}: none at {place} yet; it begins there"


def standing(store: FleetStore) -> Charter | None:
    """The charter as it stands; None where no fleet was made yet."""
    return _read(store) if _file(store).exists() else None


def ensure_kept(config: Config) -> None:
    """For who only reads: nothing is made. Raises StoreError when something fixed was changed."""
    if (there := standing(FleetStore.of(config))) is not None:
        _refuse_changes(config, there)


def keep(store: FleetStore, charter: Charter) -> None:
    """Put a charter into the place of the one that is there. Only for who holds every lease of the fleet."""
    atomic_files.replace(_file(store), _text(charter))


def migrated(config: Config, there: Charter, migration: Migration) -> Charter:
    """The charter after a migration: records that were begun before it are validated by the columns of then."""
    earlier = (replace(each, settings=settings_before(each.settings, migration)) for each in there.editions)
    return replace(
        there,
        fixed={**there.fixed, COLUMNS: dict(migration.after)},
        editions=(*earlier, Edition(validation_settings(config), _begun(FleetStore.of(config)))),
        migrations=(*there.migrations, migration),
        begun=None,
    )


def former(store: FleetStore) -> dict[str, FormerColumn]:
    """What became of the columns that were declared once and are not any more, by name."""
    there = standing(store)
    return {} if there is None else former_columns(there.migrations)


def retired(store: FleetStore) -> dict[str, str]:
    """Name -> type of columns that the table `events` still has and that are declared no more."""
    there = standing(store)
    return {} if there is None else retired_by(there.migrations)


def amended(config: Config, mine: tuple[str, ...]) -> Charter:
    """`settled` for a process that holds the leases `mine`: an edit waits until no other process uses the old ranges.

    Raises StoreError when something fixed was changed, Busy while another process validates by the old ranges.
    """
    there = ensure_fixed(config)
    settings, before = validation_settings(config), there.editions[-1].settings
    if before == settings:
        return there
    try:
        with leases.held(FleetStore.of(config), [name for name in VALIDATING_QUERIES if name not in mine]):
            return settled(config)
    except Busy as error:
        raise Busy(
            f"fleet {config.fleet.name}: {' and '.join(_edited(before, settings))} was edited, and the new rules begin "
            f"at one offset for {' and '.join(VALIDATING_QUERIES)} together: expected both to have stopped; got "
            f"{error}. Then start both again"
        ) from error


def begin_topic(store: FleetStore, topic: str) -> None:
    """For a topic that was made again: the newest edition holds from its start, whatever the old topic's offsets were.

    Only for who holds the leases of VALIDATING_QUERIES.
    """
    if not _file(store).exists():
        return
    there = _read(store)
    editions = tuple(
        replace(each, since={name: offsets for name, offsets in each.since.items() if name != topic})
        for each in there.editions
    )
    if editions != there.editions:
        atomic_files.replace(_file(store), _text(replace(there, editions=editions)))


COLUMNS = "fleet.columns"


def fixed(config: Config) -> dict[str, Any]:
    """What this configuration says of all that is fixed, by dotted key."""
    fleet, kafka = config.fleet, config.kafka
    return {
        "fleet.group": list(fleet.group),
        "fleet.event_id": fleet.event_id,
        "fleet.event_time": fleet.event_time,
        "fleet.target": fleet.target,
        "fleet.task": fleet.task,
        "fleet.loss": fleet.loss,
        "fleet.clock": fleet.clock,
        "fleet.shards": fleet.shards,
        COLUMNS: fixed_columns(config, fleet.columns),
        "kafka.events": kafka.events,
        "kafka.outcomes": kafka.outcomes,
    }


_KEYS = {"ranges": "ranges", "sources": "fields", "units": "columns", "coerce": "coerce", "missing": "missing"}
"""Of `ValidationSettings`: where the configuration has it."""


def _edited(before: ValidationSettings, now: ValidationSettings) -> list[str]:
    return [f"fleet.{key}" for name, key in _KEYS.items() if getattr(before, name) != getattr(now, name)]


def _refuse_changes(config: Config, there: Charter) -> None:
    root = FleetStore.of(config).root
    if there.begun is not None:
        raise StoreError(
            f"fleet {config.fleet.name} at {root}: a migration of its columns was begun at {there.begun.at} and has "
            f"not ended. {advice.END_IT}"
        )
    was = {**there.fixed, COLUMNS: fixed_columns(config, there.fixed.get(COLUMNS, {}))}
    for name, value in fixed(config).items():
        if was.get(name) != value:
            raise StoreError(
                f"fleet {config.fleet.name} at {root}: {changed(name, was.get(name), value)} "
                + (_MIGRATE if name == COLUMNS else "what is stored would no longer mean the same. " + _PUT_BACK)
            )


_PUT_BACK = "Put it back, or give the new fleet another storage.root"
_MIGRATE = f"the tables that are there have the old columns. {advice.PUT_BACK_OR_MIGRATE}"


def changed(name: str, before: Any, now: Any) -> str:
    """The beginning of a sentence about a fixed key that was edited."""
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        differing = [each for each in {**before, **now} if before.get(each) != now.get(each)]
        before, now = ({each: of[each] for each in differing if each in of} for of in (before, now))
    return f"{name} was {json.dumps(before)} when it was made and is {json.dumps(now)} now;"


def _begun(store: FleetStore) -> dict[str, dict[str, int]]:
    """Per topic and partition, the greatest end offset of any batch that ingest or score has begun."""
    begun: dict[str, dict[str, int]] = {}
    for query in VALIDATING_QUERIES:
        location = store.checkpoint(query)
        newest = checkpoints.newest(location, "offsets")
        for text in checkpoints.offsets(location, newest) if newest is not None else ():
            for topic, partitions in _kafka(text).items():
                known = begun.setdefault(topic, {})
                for partition, offset in partitions.items():
                    known[partition] = max(known.get(partition, 0), offset)
    return begun


def _kafka(text: str | None) -> dict[str, dict[str, int]]:
    """Kafka's offsets; nothing for the offsets of another source."""
    said = json.loads(text or "{}")
    if not all(isinstance(value, dict) for value in said.values()):
        return {}
    return {str(topic): {str(at): int(offset) for at, offset in value.items()} for topic, value in said.items()}


def _file(store: FleetStore) -> Path:
    return store.folder / FILE


def _read(store: FleetStore) -> Charter:
    said = json.loads(_file(store).read_text(encoding="utf-8"))
    CHARTER.check_object(said, _file(store))
    editions = tuple(Edition(_basis(each), each["since"]) for each in said["editions"])
    migrations = tuple(map(Migration.from_data, said.get("migrations", ())))
    begun = said.get("begun")
    return Charter(
        said["fleet_id"], said["fixed"], editions, migrations, None if begun is None else Migration.from_data(begun)
    )


def _basis(said: Mapping[str, Any]) -> ValidationSettings:
    """What an edition says. The first ones had ranges alone: a value had to have its declared type then."""
    return ValidationSettings(
        ranges={name: (float(low), float(high)) for name, (low, high) in said["ranges"].items()},
        sources=said.get("sources", {}),
        units=said.get("units", {}),
        coerce=said.get("coerce", False),
        missing=tuple(said.get("missing", ())),
        undeclared=tuple(said.get("undeclared", ())),
        types=said.get("types", {}),
        dropped=said.get("dropped", {}),
    )


def _text(charter: Charter) -> bytes:
    editions = [{**asdict(each.settings), "since": {**each.since}} for each in charter.editions]
    said: dict[str, Any] = {
        KEY: CHARTER.version,
        "fleet_id": charter.fleet_id,
        "fixed": charter.fixed,
        "editions": editions,
    }
    if charter.migrations:
        said["migrations"] = [each.as_data() for each in charter.migrations]
    if charter.begun is not None:
        said["begun"] = charter.begun.as_data()
    return json.dumps(said, indent=1).encode()
