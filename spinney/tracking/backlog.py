"""Find the rounds that are not delivered yet, without reading the others: a stream records thousands a day."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date
from typing import Any

from deltalake import DeltaTable

from schemas import tables
from schemas.vocabulary import RoundKind
from spinney.storage.layout import Directory, FleetStore
from spinney.tables import delta, lookup
from spinney.tables.opened_tables import OpenedTables
from spinney.tracking.rounds import kind_of, today
from spinney.tracking.runs import Run

OpenedRounds = Mapping[RoundKind, tuple[Directory, DeltaTable]]


class BacklogProbe:
    """Checks whether there may be rounds to deliver, without calling MLflow or reading rows of `rounds`."""

    def __init__(self, store: FleetStore) -> None:
        self._store, self._tables = store, OpenedTables()

    def look(self) -> tuple[date, tuple[int, ...]] | None:
        """Return the values that a delivery depends on: the day, with which a stream's run ends, and the versions of
        `rounds`.

        None: unknown, so a delivery has to find out.
        """
        directories = self._store.directories(tables.ROUNDS)
        try:
            return today(), tuple(int(self._tables.open(directory).version()) for directory in directories)
        except Exception:
            return None


def unfinished_rounds(store: FleetStore) -> OpenedRounds:
    """Open the directories of `rounds`, by kind of round. Raises StoreError if one was never created."""
    found = {}
    for directory in store.directories(tables.ROUNDS):
        found[RoundKind(directory.name.rpartition("/")[2])] = (directory, delta.open_existing(directory))
    return found


def is_empty(recorded: OpenedRounds) -> bool:
    """Return whether no round was ever recorded."""
    return not any(table.file_uris() for _, table in recorded.values())


def undelivered_rounds(recorded: OpenedRounds, runs: Mapping[str, Run]) -> list[dict[str, Any]]:
    """Return the rounds that may not be delivered yet, judging by these MLflow runs. runs: by name."""
    rows = []
    for kind, (directory, table) in recorded.items():
        through = delivered_through(run for name, run in runs.items() if kind_of(name) == kind)
        rows += lookup.read_rows_after(table, directory, tables.ROUNDS.names, through).to_pylist()
    return rows


def delivered_through(runs: Iterable[Run]) -> int:
    """Return the greatest batch up to which all rounds are delivered; -1 if it is not known. runs: all runs of one
    kind.

    Rounds are delivered in order, so the first run without a delivered round is the first incomplete one. Deleted runs
    are ignored.
    """
    delivered = [run.through for run in runs if not run.deleted]
    return -1 if -1 in delivered else max(delivered, default=-1)
