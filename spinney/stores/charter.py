"""What a fleet's root was made with, and which ranges hold from which Kafka offset on.

Two queries judge the same records, each at its own pace, and a crash makes either judge some of them again. Were an
edited range to hold from a query's next batch on, they would disagree: a record could be a dead letter to ingest and be
answered by score. So an edit holds from an offset on, the same for both: the first that neither has begun. A record's
validity depends on the record, its offset and this file, never on when it is read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pyarrow import fs

from spinney.core.config import Config
from spinney.core.errors import StoreError
from spinney.stores import checkpoints, leases
from spinney.stores.layout import checkpoint, root
from spinney.stores.storage import filesystem

FILE = "charter.json"
JUDGING = ("ingest", "score")
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
    """fixed: what may never change under one root; editions: of the ranges, oldest first."""

    fixed: Mapping[str, Any]
    editions: tuple[Edition, ...]


def settled(config: Config) -> Charter:
    """The charter in force, written or amended when need be.

    Raises StoreError when something fixed was changed, Busy when ranges were changed while a query still runs under
    the old ones.
    """
    fixed, ranges = (
        _fixed(config),
        {name: (float(low), float(high)) for name, (low, high) in config.fleet.ranges.items()},
    )
    there = _read(config)
    if there is None:
        return _write(config, Charter(fixed, (Edition(ranges),)))
    _refuse_changes(config, there.fixed, fixed)
    if dict(there.editions[-1].ranges) == ranges:
        return there
    return _write(config, Charter(there.fixed, (*there.editions, Edition(ranges, _begun(config)))))


def ensure_fixed(config: Config) -> None:
    """For who does not judge records: make the charter when there is none, and leave its editions alone.

    Raises StoreError when something fixed was changed.
    """
    there = _read(config)
    if there is None:
        settled(config)
    else:
        _refuse_changes(config, there.fixed, _fixed(config))


def amended(config: Config, mine: tuple[str, ...]) -> Charter:
    """`settled` for a process that holds the leases `mine`: an edit waits until nobody judges by the old ranges."""
    others = [name for name in JUDGING if name not in mine]
    there = _read(config)
    if there is None or dict(there.editions[-1].ranges) == dict(config.fleet.ranges) or not others:
        return settled(config)
    with leases.held(config, others):
        return settled(config)


def _fixed(config: Config) -> dict[str, Any]:
    fleet = config.fleet
    return {
        "group": list(fleet.group),
        "event_id": fleet.event_id,
        "event_time": fleet.event_time,
        "target": fleet.target,
        "task": fleet.task,
        "shards": fleet.shards,
        "columns": dict(fleet.columns),
        "label": "inside" if config.label_inside else "late",
    }


def _refuse_changes(config: Config, there: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    for name, value in wanted.items():
        if there.get(name) != value:
            before, now = json.dumps(there.get(name)), json.dumps(value)
            raise StoreError(
                f"fleet {config.fleet.name} at {root(config)}: fleet.{name} was {before} when it was made and is {now} "
                "now; stored keys and rows would no longer mean the same. Put it back, or give the new fleet another "
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


def _read(config: Config) -> Charter | None:
    store, path = filesystem(f"{root(config)}/{FILE}")
    if store.get_file_info(path).type != fs.FileType.File:
        return None
    with store.open_input_stream(path) as stream:
        said = json.loads(stream.read())
    editions = tuple(
        Edition({name: (low, high) for name, (low, high) in each["ranges"].items()}, each["since"])
        for each in said["editions"]
    )
    return Charter(said["fixed"], editions)


def _write(config: Config, charter: Charter) -> Charter:
    store, path = filesystem(f"{root(config)}/{FILE}")
    store.create_dir(path.rpartition("/")[0], recursive=True)
    editions = [{"ranges": {**each.ranges}, "since": {**each.since}} for each in charter.editions]
    with store.open_output_stream(f"{path}.new") as stream:
        stream.write(json.dumps({"fixed": charter.fixed, "editions": editions}, indent=1).encode())
    store.move(f"{path}.new", path)
    return charter
