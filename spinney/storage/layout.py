"""Where a fleet's things lie below its root, and the columns its tables have."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from schemas import tables
from schemas.contract import Column, Contract
from spinney.core.config import Config


@dataclass(frozen=True)
class Directory:
    """One directory of a table: one writing process.

    name: ``models/stream``, or ``events`` where the table is a single directory.
    """

    contract: Contract
    name: str
    uri: str


def feature_sources(config: Config) -> dict[str, str]:
    """Feature -> column of `events` that holds it, for those that do not stand in `event_time` itself."""
    at = config.fleet.event_time
    return {name: "event_time" if name == at else name for name in config.fleet.features if name != "event_time"}


def possible_features(config: Config) -> tuple[str, ...]:
    """Every column that a model of this fleet may have been fitted on: `features` may be edited, columns may not."""
    fleet = config.fleet
    names = (name for name in config.event_columns if name != fleet.target)
    return _beside_event_time(config, (fleet.event_time, *names))


def _beside_event_time(config: Config, names: Iterable[str]) -> tuple[str, ...]:
    """An event's time stands in `event_time` whatever the fleet calls it."""
    at = config.fleet.event_time
    wanted = (name for name in names if name != "event_time")
    return tuple(f"event_time AS `{name}`" if name == at else f"`{name}`" for name in wanted)


def answer_type(config: Config) -> str:
    """Spark SQL type of `prediction`, and of the label that it is compared with: a number, or the name of a class."""
    return "double" if config.fleet.task == "regression" else "string"


def contract(config: Config, base: Contract) -> Contract:
    """A table's contract as this fleet has it: declared columns put in, types of answers and labels filled."""
    if base.name == tables.EVENTS.name:
        extra = (Column(name, type_, "declared in fleet.columns") for name, type_ in config.event_columns.items())
        return base.with_columns(*extra, after="event_time")
    if base.name == tables.OUTCOMES.name:
        target = config.fleet.columns[config.fleet.target]
        return base.with_columns(Column("label", target, "the target", nullable=False), after="event_id")
    if base.name in (tables.PREDICTIONS.name, tables.INCUMBENT.name):
        types = {"prediction": answer_type(config), "label": answer_type(config)}
        columns = tuple(replace(each, type=types.get(each.name, each.type)) for each in base.columns)
        return replace(base, columns=columns)
    return base


def root(config: Config) -> str:
    return config.storage.root.rstrip("/")


def directories(config: Config, base: Contract) -> tuple[Directory, ...]:
    """The directories whose union is this table."""
    full = contract(config, base)
    if not base.directories:
        return (Directory(full, base.name, f"{root(config)}/tables/{base.name}"),)
    return tuple(
        Directory(full, f"{base.name}/{part}", f"{root(config)}/tables/{base.name}/{part}") for part in base.directories
    )


def directory(config: Config, base: Contract, part: str = "") -> Directory:
    for each in directories(config, base):
        if each.name == (f"{base.name}/{part}" if part else base.name):
            return each
    msg = f"table {base.name} has no directory {part!r}"
    raise KeyError(msg)


def every_directory(config: Config) -> Iterator[Directory]:
    for base in tables.ALL:
        yield from directories(config, base)


def checkpoint(config: Config, query: str) -> str:
    return f"{root(config)}/checkpoints/{query}"
