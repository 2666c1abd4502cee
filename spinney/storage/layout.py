"""The layout of a fleet's root folder, and the columns of its tables."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from schemas import tables
from schemas.contract import Column, Contract
from spinney.core.config import Config, Fleet, RecordSchema
from spinney.storage import atomic_files


@dataclass(frozen=True)
class Directory:
    """One directory of a table, written by exactly one process.

    name: ``models/stream``, or ``events`` if the table has a single directory. uri: of its Delta table.
    storage_options: credentials and settings of the store; left out of `repr`.
    """

    contract: Contract
    name: str
    uri: str
    storage_options: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True)
class FleetStore:
    """The root folder of one fleet: its tables, checkpoints and other files, by path.

    Functions that read or write tables take this in place of the whole configuration. Nothing is opened by making one.

    record_schema: of its events and outcomes. root: URI or path, without a slash at its end. storage_options:
    credentials and settings of the store; left out of `repr`.
    """

    record_schema: RecordSchema
    root: str
    storage_options: Mapping[str, str] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, config: Config) -> FleetStore:
        """Return the store of a configuration."""
        return cls(config.record_schema, config.storage.root.rstrip("/"), config.storage.options)

    @property
    def fleet(self) -> Fleet:
        """The section `[fleet]`."""
        return self.record_schema.fleet

    @property
    def event_columns(self) -> Mapping[str, str]:
        """Name -> Spark SQL type of an event's fields other than its id and time."""
        return self.record_schema.event_columns

    @property
    def has_label_in_event(self) -> bool:
        """Whether the label is a field of the event."""
        return self.record_schema.has_label_in_event

    @property
    def folder(self) -> Path:
        """The root as an absolute path. Raises StoreError when it is not on a file system of this machine."""
        return atomic_files.local_folder(self.root)

    @property
    def answer_type(self) -> str:
        """Spark SQL type of `prediction` and of the label it is compared with: a number, or the name of a class."""
        return "double" if self.fleet.task == "regression" else "string"

    def contract(self, base: Contract) -> Contract:
        """Return the contract of a table in this fleet, with its declared columns and types of answers."""
        if base.name == tables.EVENTS.name:
            extra = (Column(name, type_, "declared in fleet.columns") for name, type_ in self.event_columns.items())
            return base.with_columns(*extra, after="event_time")
        if base.name == tables.OUTCOMES.name:
            target = self.fleet.columns[self.fleet.target]
            return base.with_columns(Column("label", target, "the target", nullable=False), after="event_id")
        if base.name in (tables.PREDICTIONS.name, tables.INCUMBENT.name):
            types = {"prediction": self.answer_type, "label": self.answer_type}
            columns = tuple(replace(column, type=types.get(column.name, column.type)) for column in base.columns)
            return replace(base, columns=columns)
        return base

    def directories(self, base: Contract) -> tuple[Directory, ...]:
        """Return the directories whose union is this table."""
        contract, options = self.contract(base), self.storage_options
        names = [f"{base.name}/{part}" for part in base.directories] or [base.name]
        return tuple(Directory(contract, name, f"{self.root}/tables/{name}", options) for name in names)

    def directory(self, base: Contract, part: str = "") -> Directory:
        """Return one directory of a table. part: for `models/stream`, ``stream``. Raises KeyError: no such part."""
        name = f"{base.name}/{part}" if part else base.name
        for directory in self.directories(base):
            if directory.name == name:
                return directory
        raise KeyError(f"table {base.name} has no directory {part!r}")

    def every_directory(self) -> Iterator[Directory]:
        """Yield the directories of all tables."""
        for base in tables.ALL:
            yield from self.directories(base)

    def checkpoint(self, query: str) -> str:
        """Return where a query keeps its checkpoint."""
        return f"{self.root}/checkpoints/{query}"


def feature_sources(fleet: Fleet) -> dict[str, str]:
    """Feature -> column of `events` that holds it, for the features that are not `event_time` itself."""
    at = fleet.event_time
    return {name: "event_time" if name == at else name for name in fleet.features if name != "event_time"}


def possible_features(store: FleetStore) -> tuple[str, ...]:
    """Spark SQL expressions of every column that a model of this fleet may have been fitted on.

    These are all columns of an event except the target, since `features` may have been edited after a model was fitted.
    """
    fleet = store.fleet
    names = (name for name in store.event_columns if name != fleet.target)
    return _with_event_time_renamed(fleet.event_time, (fleet.event_time, *names))


def _with_event_time_renamed(event_time: str, names: Iterable[str]) -> tuple[str, ...]:
    """Return names with the fleet's name of the event's time replaced by `event_time`, as the table has it."""
    others = (name for name in names if name != "event_time")
    return tuple(f"event_time AS `{name}`" if name == event_time else f"`{name}`" for name in others)
