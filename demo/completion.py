"""Check whether the four queries have processed everything that was sent, from the offsets that each has read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from schemas import tables
from spinney.storage.layout import Directory, FleetStore
from spinney.tables import delta
from streaming import ingest, labels, retrain, score
from streaming.app import Application


def has_finished(application: Application, sent: Mapping[str, int]) -> bool:
    """Return whether every record sent is stored, scored, joined with its label and judged, and its round has ended.

    sent: topic -> records; the topics were empty before. A query is checked after those whose tables it reads.
    """
    config = application.config
    late = {} if config.kafka.outcomes is None else {config.kafka.outcomes: sent.get(config.kafka.outcomes, 0)}
    events = {config.kafka.events: sent.get(config.kafka.events, 0)}
    if not _consumed(application, ingest.NAME, {**events, **late}) or not _consumed(application, score.NAME, events):
        return False
    store = FleetStore.of(config)
    joined = [store.directory(tables.OUTCOMES), store.directory(tables.PREDICTIONS)]
    if labels.NAME in application.names and not _has_read(application, labels.NAME, joined):
        return False
    return _has_read(application, retrain.NAME, list(store.directories(tables.HEALTH)))


def _consumed(application: Application, query: str, sent: Mapping[str, int]) -> bool:
    """Return whether the finished batches of the query have read this many records of each topic."""
    read: dict[str, int] = {}
    for _, offset in _ends(application, query):
        for topic, partitions in offset.items():
            if isinstance(partitions, dict):
                read[topic] = sum(int(end) for end in partitions.values())
    return all(read.get(topic, 0) >= records for topic, records in sent.items())


def _has_read(application: Application, query: str, directories: list[Directory]) -> bool:
    """Return whether a finished batch of the query has read the newest version of each of these directories."""
    ends = {}
    for description, offset in _ends(application, query):
        for directory in directories:
            if f"/tables/{directory.name}]" in description:
                ends[directory.name] = int(offset["reservoirVersion"])
    # Delta's end offset names the version to read next.
    return all(ends.get(directory.name, -1) > delta.current_version(directory) for directory in directories)


def _ends(application: Application, query: str) -> list[tuple[str, dict[str, Any]]]:
    """Return (description, end offset) of each source in the query's last batch."""
    last = application.progress.latest(query)
    if last is None:
        return []
    sources = json.loads(last.json)["sources"]
    return [(one["description"], one["endOffset"]) for one in sources if isinstance(one.get("endOffset"), dict)]
