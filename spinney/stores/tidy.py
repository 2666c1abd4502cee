"""Keeping tables small: few files instead of many, and nothing that the retention rules have let go.

Compaction and deletion commit to a table's log like any write, and Delta's local log store does not keep two processes
from overwriting each other's commit. So a directory is tidied by its one writer: by the process that holds its query's
lease, between two batches; by whoever tidies where nobody holds it. A request in a file asks the running ones.

What is compacted or deleted stays on disk for KEPT_HOURS more, for whoever reads an older version: a round that was
planned, a stream that is behind. A directory whose readers are further behind than that keeps its files, and so does
what a round reads that was cut off so long ago. No row of a directory's newest batch is forgotten: a round that was cut
off counts what it stored, and goes on from there.
"""

from __future__ import annotations

import json
import uuid
from collections import defaultdict
from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from deltalake import DeltaTable

from schemas import tables
from schemas.vocabulary import Staleness
from spinney.core.champion import PEOPLE, Promotion
from spinney.core.config import Config
from spinney.core.errors import Busy, StoreError
from spinney.core.retention import reachable
from spinney.stores import checkpoints, delta, layout, leases, storage
from spinney.stores.layout import Directory
from spinney.stores.rounds import READ

SMALL_BYTES = 32 * 1024**2
"""A file below this is put together with others of its partition."""

KEPT_HOURS = 168
BEHIND = timedelta(hours=KEPT_HOURS) - timedelta(days=1)
"""A reader that ended no batch for this long may still need files that are no part of the table any more."""

LEAST = timedelta(days=1)
"""What is younger is never forgotten, whatever the rules say: a round may be about to decide about it."""

OWNERS = {
    "events": "ingest",
    "outcomes": "ingest",
    "dead_letters": "ingest",
    "incumbent": "ingest",
    "predictions": "score",
    "health/score": "score",
    "health/labels": "labels",
    "models/people": PEOPLE,
    "promotions/people": PEOPLE,
}
"""Directory -> whose lease it is written under; the others are retrain's (stream) and weekly's (batch)."""

READERS = {
    "predictions": ("labels",),
    "outcomes": ("labels",),
    "health": ("retrain",),
    "models": ("retrain",),
    "promotions": ("score", "retrain"),
}
"""Table -> the queries that read it as a stream."""


@dataclass(frozen=True)
class Survey:
    """What there is to tidy in one directory.

    small: of the files, those that would be put together. forgotten: rows that the rules let go. gone: files on disk
    that are no part of the table any more and would be removed. behind: a query that may still need such files, since
    it ended no batch for long, or no round.
    """

    directory: str
    files: int
    small: int
    megabytes: float
    forgotten: int
    gone: int
    behind: str | None

    @property
    def is_tidy(self) -> bool:
        return not (self.small or self.forgotten or self.gone)


def owner(directory: Directory) -> str:
    """The lease that whoever writes this directory holds."""
    by_path = {"stream": "retrain", "batch": "weekly"}
    return OWNERS.get(directory.name) or by_path[directory.name.rpartition("/")[2]]


def owned(config: Config, name: str) -> list[Directory]:
    return [each for each in layout.every_directory(config) if owner(each) == name]


def survey(config: Config, directory: Directory, now: datetime) -> Survey:
    """What there is to tidy; changes nothing. Raises StoreError when the table was never made."""
    return _surveyed(config, directory, now, _let_go(config, directory, now).num_rows)


def _surveyed(config: Config, directory: Directory, now: datetime, forgotten: int) -> Survey:
    table = _opened(config, directory)
    files = pa.table(table.get_add_actions(flatten=True)).to_pylist()
    by_partition: dict[Any, int] = defaultdict(int)
    for file in files:
        if file["size_bytes"] < SMALL_BYTES:
            by_partition[tuple(value for name, value in file.items() if name.startswith("partition"))] += 1
    late = _behind(config, directory, now)
    return Survey(
        directory=directory.name,
        files=len(files),
        small=sum(count for count in by_partition.values() if count > 1),
        megabytes=round(sum(file["size_bytes"] for file in files) / 1024**2, 3),
        forgotten=forgotten,
        gone=0 if late else len(_vacuumed(table, dry_run=True)),
        behind=late,
    )


def carry_out(config: Config, directory: Directory, now: datetime) -> Survey:
    """Forget, put together, remove. Returns what was done. Only for who holds the directory's lease, between writes."""
    forgets_models = directory.contract.name == tables.MODELS.name and owner(directory) != PEOPLE
    with leases.held(config, [PEOPLE]) if forgets_models else nullcontext():
        # No person goes back to a model while it is being forgotten.
        rows = _let_go(config, directory, now)
        found = _surveyed(config, directory, now, rows.num_rows)
        if rows.num_rows:
            _forget(config, directory, rows)
    table = _opened(config, directory)
    if found.small:
        table.optimize.compact(max_concurrent_tasks=1)
    if rows.num_rows and _has_views(table):
        table.optimize.z_order(["group_key"], max_concurrent_tasks=1)
    if found.gone:
        _vacuumed(table, dry_run=False)
    return found


def _has_views(table: DeltaTable) -> bool:
    """Whether a file holds texts as views: delta-rs leaves a merge's rest so, and Arrow cannot filter by them."""
    fields = (each for part in delta.dataset(table).get_fragments() for each in part.physical_schema)
    return any(pa.types.is_string_view(each.type) for each in fields)


def _opened(config: Config, directory: Directory) -> DeltaTable:
    table = delta.opened(config, directory)
    if table is None:
        raise StoreError(f"table {directory.name}: nothing at {directory.uri}; run `spinney init` first")
    return table


def _vacuumed(table: DeltaTable, *, dry_run: bool) -> list[str]:
    """Full: what a crash left behind too, and what the log has forgotten that it once named."""
    return list(table.vacuum(retention_hours=KEPT_HOURS, dry_run=dry_run, full=True))


def _behind(config: Config, directory: Directory, now: datetime) -> str | None:
    """A query that reads this directory and has not ended a batch for long; one that never began reads it anew."""
    for query in READERS.get(directory.contract.name, ()):
        place = layout.checkpoint(config, query)
        begun, ended = (checkpoints.newest(place, log) for log in ("offsets", "commits"))
        if begun is None:
            continue
        if ended is None or checkpoints.begun(place, ended).at < now - BEHIND:
            return query
    return _cut_off(config, now) if directory.contract.name in {each.name for each in READ} else None


def _cut_off(config: Config, now: datetime) -> str | None:
    """A path whose round was planned long ago and has not ended: it goes on with the versions that its plan named."""
    paths = (layout.directories(config, base) for base in (tables.VERDICTS, tables.ROUNDS))
    for plans, rounds in zip(*paths, strict=True):
        planned = (ds.field("decision") == Staleness.FIT.value) & (ds.field("judged_at") < now - BEHIND)
        ended = _newest_batch(delta.dataset(_opened(config, rounds)))
        if ended is not None:
            planned &= ds.field("batch_id") > ended
        if delta.dataset(_opened(config, plans)).count_rows(filter=planned):
            return owner(plans)
    return None


def _newest_batch(table: ds.Dataset) -> int | None:
    """None where nothing was ever written."""
    newest: int | None = pc.max(table.to_table(["batch_id"]).column("batch_id")).as_py()
    return newest


_RULES = {name: name for name in ("predictions", "health", "verdicts", "models")} | {"promotions": "models"}
"""Table -> the key of [retention] that it goes by."""

_DATES = {tables.PREDICTIONS.name: "scored_on", tables.HEALTH.name: "observed_on"}


def _let_go(config: Config, directory: Directory, now: datetime) -> pa.Table:
    """Of the rows that the rules let go what tells them from others: a column of dates, or names."""
    kind = directory.contract.name
    kept_for = getattr(config.retention, _RULES.get(kind, ""), None)
    if kept_for is None:
        return pa.table({})
    table, since = delta.dataset(_opened(config, directory)), now - max(kept_for, LEAST)
    if kind in _DATES:
        return table.to_table([_DATES[kind]], filter=ds.field(_DATES[kind]) < since.date())
    columns, at = _NAMED[kind]
    old, newest = ds.field(at) < since, None if owner(directory) == PEOPLE else _newest_batch(table)
    # What machines wrote last may be of a round that was cut off: its plan, or what it has to decide about and count.
    rows = table.to_table(list(columns), filter=old if newest is None else old & (ds.field("batch_id") != newest))
    if not rows.num_rows:
        return rows
    if kind == tables.VERDICTS.name:
        mask = _verdicts_gone(config, rows, since)
    elif kind == tables.PROMOTIONS.name:
        keep = {key: {_name(each) for each in history} for key, history in _wanted(config, since).items()}
        mask = [_name(Promotion.of_row(row)) not in keep[row["group_key"]] for row in rows.to_pylist()]
    else:
        models = {row.model_id for history in _wanted(config, since).values() for row in history}
        last = _last_attempts(config)
        mask = [
            row["model_id"] not in models and last[row["group_key"]] != (row["fitted_at"], row["round_id"])
            for row in rows.to_pylist()
        ]
    return rows.filter(pa.array(mask, pa.bool_()))


def _verdicts_gone(config: Config, rows: pa.Table, since: datetime) -> list[bool]:
    """Not the last that was said of a group before `since`, which held then."""
    old = delta.read(config, tables.VERDICTS, ["group_key", "judged_at"], ds.field("judged_at") < since)
    last = dict(
        zip(*(each.to_pylist() for each in old.group_by("group_key").aggregate([("judged_at", "max")])), strict=True)
    )
    return [row["judged_at"] != last[row["group_key"]] for row in rows.to_pylist()]


_ATTEMPT = ("group_key", "round_id", "model_id", "fitted_at")
_DECISION = (
    "group_key", "round_id", "model_id", "decision", "epoch", "trained_through", "fitted_at", "decided_at",
)  # fmt: skip

_NAMED = {
    tables.VERDICTS.name: (("group_key", "round_id", "judged_at"), "judged_at"),
    tables.PROMOTIONS.name: (_DECISION, "decided_at"),
    tables.MODELS.name: (_ATTEMPT, "fitted_at"),
}
"""Table -> the columns that its rule looks at, and which of them is the row's age."""


def _name(row: Promotion) -> tuple[str, str, str]:
    return (row.round_id, row.model_id, row.decision)


def _wanted(config: Config, since: datetime) -> dict[str, list[Promotion]]:
    """Of each group the decisions that a rollback may need, from all directories."""
    histories: dict[str, list[Promotion]] = defaultdict(list)
    for row in delta.read(config, tables.PROMOTIONS, list(_DECISION)).to_pylist():
        histories[row["group_key"]].append(Promotion.of_row(row))
    at = Promotion.of_row({"decided_at": since}).decided_at
    return {key: reachable(history, at) for key, history in histories.items()}


def _last_attempts(config: Config) -> dict[str, tuple[datetime, str]]:
    """Of each group the newest attempt, which says whether it is failing."""
    newest: dict[str, tuple[datetime, str]] = {}
    for row in delta.read(config, tables.MODELS, ["group_key", "fitted_at", "round_id"]).to_pylist():
        mine = (row["fitted_at"], row["round_id"])
        newest[row["group_key"]] = max(newest.get(row["group_key"], mine), mine)
    return newest


def _forget(config: Config, directory: Directory, rows: pa.Table) -> None:
    table, kind = _opened(config, directory), directory.contract.name
    if kind in _DATES:
        newest = pc.max(rows.column(_DATES[kind])).as_py()
        table.delete(f"{_DATES[kind]} <= DATE '{newest.isoformat()}'")
        return
    names = ["group_key", "round_id"] + (["model_id", "decision"] if kind == tables.PROMOTIONS.name else [])
    same = " AND ".join(f"t.{name} = s.{name}" for name in names)
    gone = rows.select(names).group_by(names).aggregate([])
    table.merge(gone, same, source_alias="s", target_alias="t").when_matched_delete().execute()


@dataclass(frozen=True)
class Served:
    """What a process answered to a request. error: why it could not do it all."""

    request: str
    done: tuple[Survey, ...]
    error: str | None = None


def ask(config: Config) -> str:
    """Ask whoever runs a query to tidy its directories. Returns the request's id."""
    made = uuid.uuid4().hex
    storage.replace(_place(config) / "request", json.dumps({"id": made}).encode())
    return made


def requested(config: Config, name: str) -> str | None:
    """The id of a request that this query has not served yet."""
    try:
        made = str(json.loads((_place(config) / "request").read_text())["id"])
    except OSError:
        return None
    answer = served(config, name)
    return None if answer is not None and answer.request == made else made


def serve(config: Config, name: str, answer: Served) -> None:
    storage.replace(_place(config) / f"{name}.served", json.dumps(asdict(answer)).encode())


def served(config: Config, name: str) -> Served | None:
    try:
        said = json.loads((_place(config) / f"{name}.served").read_text())
    except OSError:
        return None
    return Served(said["request"], tuple(Survey(**each) for each in said["done"]), said["error"])


def serve_here(config: Config, name: str, request: str) -> bool:
    """Tidy the directories of a query that nobody runs; whether that was so."""
    try:
        with leases.held(config, [name]):
            done = tuple(carry_out(config, each, datetime.now(UTC)) for each in owned(config, name))
            serve(config, name, Served(request, done))
    except Busy:
        return False
    return True


def names(config: Config) -> Iterable[str]:
    """The leases that there are directories of."""
    return dict.fromkeys(owner(each) for each in layout.every_directory(config))


def _place(config: Config) -> Path:
    return storage.folder(layout.root(config)) / "tidy"
