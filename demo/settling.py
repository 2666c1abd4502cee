"""Whether the loop has finished with what was sent: followed from table to table, by what each query has read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from schemas import tables
from spinney.storage.layout import Directory, FleetStore
from spinney.tables import delta
from streaming import ingest, labels, retrain, score
from streaming.app import Application


def settled(application: Application, sent: Mapping[str, int]) -> bool:
    """Everything sent is stored, scored, joined, judged, and its round is over.

    sent: records by topic, of topics that were empty before. The order matters: each query is looked at after those
    whose tables it reads.
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


def _consumed(application: Application, query: str, wanted: Mapping[str, int]) -> bool:
    """Whether a finished batch of the query ended at or behind these many records of each topic."""
    read: dict[str, int] = {}
    for _, offset in _ends(application, query):
        for topic, partitions in offset.items():
            if isinstance(partitions, dict):
                read[topic] = sum(int(each) for each in partitions.values())
    return all(read.get(topic, 0) >= records for topic, records in wanted.items())


def _has_read(application: Application, query: str, places: list[Directory]) -> bool:
    """Whether a finished batch of the query has read the newest version of each of these directories."""
    ends = {}
    for description, offset in _ends(application, query):
        for place in places:
            if f"/tables/{place.name}]" in description:
                ends[place.name] = int(offset["reservoirVersion"])
    # Delta's end offset names the version to read next.
    return all(ends.get(place.name, -1) > delta.current_version(place) for place in places)


def _ends(application: Application, query: str) -> list[tuple[str, dict[str, Any]]]:
    last = application.progress.latest(query)
    if last is None:
        return []
    sources = json.loads(last.json)["sources"]
    return [(each["description"], each["endOffset"]) for each in sources if isinstance(each.get("endOffset"), dict)]
