"""What a fleet's root was made with, and which ranges hold from which Kafka offset on.

Two queries judge the same records, each at its own pace, and a crash makes either judge some of them again. Were an
edited range to hold from a query's next batch on, they would disagree: a record could be a dead letter to ingest and be
answered by score. So an edit holds from an offset on, the same for both: the first that neither has begun. A record's
validity depends on the record, its offset and this file, never on when it is read.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from schemas.vocabulary import QueryName
from spinney.core.config import Config
from spinney.core.errors import Busy, StoreError
from spinney.stores import checkpoints, leases, storage
from spinney.stores.layout import checkpoint, root

FILE = "charter.json"
JUDGING = (QueryName.INGEST, QueryName.SCORE)
"""The queries that judge records."""

Ranges = Mapping[str, tuple[float, float]]
Offsets = Mapping[str, Mapping[str, int]]
"""topic -> partition -> the first offset."""


@dataclass(frozen=True)
class Edition:
    """The ranges as they stand from some offsets on; a partition not named counts from its start."""

    ranges: Ranges
    since: Offsets = field(default_factory=dict)


@dataclass(frozen=True)
class Charter:
    """fleet_id: tells this fleet from every other, of the same name too. fixed: dotted key -> what may never change
    under one root. editions: of the ranges, oldest first.
    """

    fleet_id: str
    fixed: Mapping[str, Any]
    editions: tuple[Edition, ...]


def settled(config: Config) -> Charter:
    """The charter in force, written or amended when need be. An edit is only for who holds the leases of JUDGING.

    Raises StoreError when something fixed was changed.
    """
    there, ranges = ensure_fixed(config), _ranges(config)
    if dict(there.editions[-1].ranges) == ranges:
        return there
    amended_ = replace(there, editions=(*there.editions, Edition(ranges, _begun(config))))
    storage.replace(_file(config), _text(amended_))
    return amended_


def ensure_fixed(config: Config) -> Charter:
    """For who does not judge records: make the charter when there is none, and leave its editions alone.

    Raises StoreError when something fixed was changed.
    """
    if not _file(config).exists():
        made = Charter(str(uuid.uuid4()), _fixed(config), (Edition(_ranges(config)),))
        storage.create(_file(config), _text(made))
    there = _read(config)
    _refuse_changes(config, there.fixed)
    return there


def beginning(config: Config) -> str | None:
    """Return the sentence that says that a fleet begins here; None where there is one already.

    For who is about to make one: a wrong ``storage.root`` looks like a fleet that is empty.
    """
    place = storage.folder(root(config))
    if _file(config).exists() or (place / "tables").exists():
        return None
    return f"fleet {config.fleet.name}: none at {place} yet; it begins there"


def standing(config: Config) -> Charter | None:
    """The charter as it stands; None where no fleet was made yet."""
    return _read(config) if _file(config).exists() else None


def ensure_kept(config: Config) -> None:
    """For who only reads: nothing is made. Raises StoreError when something fixed was changed."""
    if _file(config).exists():
        _refuse_changes(config, _read(config).fixed)


def amended(config: Config, mine: tuple[str, ...]) -> Charter:
    """`settled` for a process that holds the leases `mine`: an edit waits until nobody judges by the old ranges.

    Raises StoreError when something fixed was changed, Busy while another process judges by the old ranges.
    """
    there = ensure_fixed(config)
    if dict(there.editions[-1].ranges) == _ranges(config):
        return there
    try:
        with leases.held(config, [name for name in JUDGING if name not in mine]):
            return settled(config)
    except Busy as error:
        raise Busy(
            f"fleet {config.fleet.name}: fleet.ranges was edited, and the new ranges begin at one offset for "
            f"{' and '.join(JUDGING)} together: expected both to have stopped; got {error}. Then start both again"
        ) from error


def begin_topic(config: Config, topic: str) -> None:
    """For a topic that was made again: the newest edition holds from its start, whatever the old topic's offsets were.

    Only for who holds the leases of JUDGING.
    """
    if not _file(config).exists():
        return
    there = _read(config)
    editions = tuple(
        replace(each, since={name: offsets for name, offsets in each.since.items() if name != topic})
        for each in there.editions
    )
    if editions != there.editions:
        storage.replace(_file(config), _text(replace(there, editions=editions)))


def _fixed(config: Config) -> dict[str, Any]:
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
        "fleet.columns": dict(fleet.columns),
        "kafka.events": kafka.events,
        "kafka.outcomes": kafka.outcomes,
    }


def _ranges(config: Config) -> dict[str, tuple[float, float]]:
    return {name: (float(low), float(high)) for name, (low, high) in config.fleet.ranges.items()}


def _refuse_changes(config: Config, there: Mapping[str, Any]) -> None:
    for name, value in _fixed(config).items():
        if there.get(name) != value:
            before, now = json.dumps(there.get(name)), json.dumps(value)
            raise StoreError(
                f"fleet {config.fleet.name} at {root(config)}: {name} was {before} when it was made and is {now} "
                "now; what is stored would no longer mean the same. Put it back, or give the new fleet another "
                "storage.root"
            )


def _begun(config: Config) -> dict[str, dict[str, int]]:
    """Per topic and partition, the greatest end offset of any batch that ingest or score has begun."""
    begun: dict[str, dict[str, int]] = {}
    for query in JUDGING:
        location = checkpoint(config, query)
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


def _file(config: Config) -> Path:
    return storage.folder(root(config)) / FILE


def _read(config: Config) -> Charter:
    said = json.loads(_file(config).read_text(encoding="utf-8"))
    editions = tuple(
        Edition({name: (low, high) for name, (low, high) in each["ranges"].items()}, each["since"])
        for each in said["editions"]
    )
    return Charter(said["fleet_id"], said["fixed"], editions)


def _text(charter: Charter) -> bytes:
    editions = [{"ranges": {**each.ranges}, "since": {**each.since}} for each in charter.editions]
    return json.dumps({"fleet_id": charter.fleet_id, "fixed": charter.fixed, "editions": editions}, indent=1).encode()
