"""Keep tables small: merge small files, and delete rows that the retention rules no longer keep.

Compaction and deletion commit to a table's log like any write, and Delta's local log store does not keep two processes
from overwriting each other's commit. So a directory is tidied by the process that holds its query's lease; `spinney
tidy` tidies the directories whose lease is free and writes a request file for the running processes. Files are
rewritten while the query runs; its lock is held for commits and while files are removed.

Replaced files stay on disk for KEPT_HOURS, for readers of an older version: a planned round, or a stream that is
behind. Files still needed by a query or an unfinished round are kept, even if it has been stalled for longer. Rows of a
directory's newest batch are never deleted, since an interrupted round counts them when it continues.
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
import pyarrow.parquet as pq
from deltalake import DeltaTable

from schemas import tables
from schemas.vocabulary import Staleness
from spinney.core.champions.promotion import CHAMPION_DECISIONS, PEOPLE
from spinney.core.config import Retention
from spinney.core.errors import Busy, StoreError
from spinney.operations import clustering
from spinney.operations.clustering import Merge
from spinney.operations.expired_rows import DATES, ExpiredRows, find_expired_rows, newest_batch_of
from spinney.operations.request_files import read_request_file, write_request_file
from spinney.retraining.round_request import READ
from spinney.storage import checkpoints, leases
from spinney.storage.kept_since import write_kept_since
from spinney.storage.layout import Directory, FleetStore
from spinney.storage.stream_readers import reading_queries
from spinney.tables import delta, table_files
from spinney.tables.clustered_files.file_rewriting import RewriteSource, RewriteTarget
from spinney.tables.opened_tables import OpenedTables
from spinney.tables.stream_reading import TableOffset, oldest_unread
from spinney.tables.table_files import TableFile

SMALL_BYTES = 32 * 1024**2
"""Smaller files of a partition are merged."""

KEPT_HOURS = 168
BEHIND = timedelta(hours=KEPT_HOURS) - timedelta(days=1)
"""A query that has completed no batch for this long counts as behind: it may still read files that were replaced."""

LEASES = {
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
"""Directory -> lease under which it is written. The others are written under `retrain` (stream) or `weekly` (batch)."""


@dataclass(frozen=True)
class DirectoryReport:
    """The work of tidying one directory, either still to be done or done.

    small: number of files to merge. forgotten: rows that the retention rules no longer keep. gone: files on disk that
    are no longer part of the table. behind: a stalled query that may still need such files, so that no file is removed;
    None without one.
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
        """Whether there is nothing to do."""
        return not (self.small or self.forgotten or self.gone)


def lease_of(directory: Directory) -> str:
    """Return the lease under which this directory is written."""
    by_path = {"stream": "retrain", "batch": "weekly"}
    return LEASES.get(directory.name) or by_path[directory.name.rpartition("/")[2]]


def directories_of_lease(store: FleetStore, name: str) -> list[Directory]:
    """Return the directories that the holder of this lease writes. name: of a query."""
    return [directory for directory in store.every_directory() if lease_of(directory) == name]


def inspect_directory(
    store: FleetStore, retention: Retention, directory: Directory, now: datetime, opened: OpenedTables | None = None
) -> DirectoryReport:
    """Report what there is to tidy, without changes. Raises StoreError if the table does not exist.

    opened: keeps tables open from one directory to the next; None to open them again.
    """
    opened = opened or OpenedTables()
    expired = find_expired_rows(store, retention, directory, now, opened)
    return _report(store, directory, now, expired.rows, opened)


def _report(
    store: FleetStore, directory: Directory, now: datetime, forgotten: int, opened: OpenedTables
) -> DirectoryReport:
    table = opened.open(directory)
    files = table_files.list_files(table)
    late = _query_behind(store, directory, now, opened)
    return DirectoryReport(
        directory=directory.name,
        files=len(files),
        small=sum(merge.files for merge in _due_merges(table, directory)),
        megabytes=round(sum(file.bytes for file in files) / 1024**2, 3),
        forgotten=forgotten,
        gone=0 if late else len(_vacuum(table, dry_run=True)),
        behind=late,
    )


def _due_merges(table: DeltaTable, directory: Directory) -> list[Merge]:
    """Return the merges to do: clustered tables have their own rule, others merge their small files."""
    if directory.contract.name in clustering.SORT_BY:
        return clustering.due_merges(table, is_requested=True)
    by_partition: dict[Any, list[TableFile]] = defaultdict(list)
    for file in table_files.list_files(table):
        if file.bytes < SMALL_BYTES:
            by_partition[tuple(file.partition.values())].append(file)
    return [Merge((RewriteSource(tuple(small)),)) for small in by_partition.values() if len(small) > 1]


def tidy_directory(
    store: FleetStore,
    retention: Retention,
    directory: Directory,
    now: datetime,
    guard: clustering.CommitGuard = clustering.UNGUARDED,
    opened: OpenedTables | None = None,
) -> DirectoryReport:
    """Delete expired rows, merge small files, and remove files that no version needs; report what was done.

    The caller must hold the lease. guard: is asked before each commit, so that none conflicts with a running query's.
    opened: keeps tables open from one directory to the next; None to open them again. Raises RewriteInterrupted if
    the process is asked to stop.
    """
    opened = opened or OpenedTables()
    forgets_models = directory.contract.name == tables.MODELS.name and lease_of(directory) != PEOPLE
    with leases.held(store, [PEOPLE]) if forgets_models else nullcontext():
        # Holding the lease for people prevents a rollback to a model while it is deleted. Machines may add rows
        # meanwhile: rows of the newest batch are never deleted, and machines do not promote expired models.
        rows = find_expired_rows(store, retention, directory, now, opened)
        found = _report(store, directory, now, rows.rows, opened)
        if found.is_tidy:
            return found
        table = delta.open_existing(directory)
        _delete_expired_rows(store, directory, table, rows, guard)
    if found.small:
        table.update_incremental()
        clustering.carry_out_merges(table, _due_merges(table, directory), _rewrite_target(directory), guard)
    if found.gone:
        with guard.lock:
            table.update_incremental()
            _vacuum(table, dry_run=False)
    return found


def _delete_expired_rows(
    store: FleetStore, directory: Directory, table: DeltaTable, rows: ExpiredRows, guard: clustering.CommitGuard
) -> None:
    """Delete the rows that `find_expired_rows` has found. Raises StoreError if fewer were there."""
    if rows.until is not None:
        with guard.lock:
            table.update_incremental()
            table.delete(f"{DATES[directory.contract.name]} <= DATE '{rows.until.isoformat()}'")
    elif rows.names is not None:
        if rows.since is not None and _says_who_was_champion(rows.names):
            write_kept_since(store, directory, rows.since)
        done = clustering.carry_out_merges(table, _merges_without(table, rows.names), _rewrite_target(directory), guard)
        dropped = sum(rewrite.dropped for rewrite in done)
        if dropped < rows.rows:
            raise StoreError(
                f"table {directory.name}: expected to delete {rows.rows} rows; deleted {dropped}, since its files "
                "were replaced meanwhile; run `spinney tidy` again"
            )


def _says_who_was_champion(names: pa.Table) -> bool:
    """Whether some of these rows decide who is champion. Without them the champions of that time are not known."""
    if "decision" not in names.column_names:
        return False
    decisions = pa.array([decision.value for decision in CHAMPION_DECISIONS])
    return bool(pc.any(pc.is_in(names.column("decision"), value_set=decisions)).as_py())


def _rewrite_target(directory: Directory) -> RewriteTarget:
    """Return the order and names of rewritten files. Rows of a group are adjacent if the table has groups."""
    if directory.contract.name in clustering.SORT_BY:
        return RewriteTarget(clustering.SORT_BY[directory.contract.name], table_files.CLUSTERED)
    by = tuple(name for name in ("shard", "group_key") if name in directory.contract.names)
    return RewriteTarget(by, "compacted-")


def _merges_without(table: DeltaTable, names: pa.Table) -> list[Merge]:
    """Return merges that rewrite the files with these rows, without the rows.

    names: the identifying columns of the rows.
    """
    base, columns = table_files.table_folder(table), names.column_names
    expired = _joined_names(names)
    files, drop = [], {}
    for file in table_files.list_files(table):
        # deltalake's merge may leave texts as views, which Arrow can neither join nor compare.
        read = pq.read_table(base / file.path, columns=columns, partitioning=None, use_threads=False)
        mask = pc.is_in(
            _joined_names(read.cast(pa.schema([(name, pa.string()) for name in columns]))), value_set=expired
        )
        if mask.true_count:
            files.append(file)
            drop[file.path] = mask
    return [Merge((RewriteSource(tuple(files), drop=drop),))] if files else []


def _joined_names(names: pa.Table) -> pa.Array:
    """Return each row's texts joined by a zero byte, which neither keys (JSON) nor ids contain."""
    texts = [names.column(name).combine_chunks() for name in names.column_names]
    return pc.binary_join_element_wise(*texts, "\x00", null_handling="replace", null_replacement="\x01")


def _vacuum(table: DeltaTable, *, dry_run: bool) -> list[str]:
    """Remove old files, or only list them.

    `full` includes files left by a crash and files no longer named in the log.
    """
    return list(table.vacuum(retention_hours=KEPT_HOURS, dry_run=dry_run, full=True))


def _query_behind(store: FleetStore, directory: Directory, now: datetime, opened: OpenedTables) -> str | None:
    """Return a query that reads this directory and may still need files that were replaced; None if there is none.

    Such a query has completed no batch for BEHIND, or still has rows to read that are older than BEHIND. The second
    matters after a stall: the query completes batches again, but they read old rows.
    """
    for query in reading_queries(directory):
        place = store.checkpoint(query)
        begun, ended = (checkpoints.newest_batch_id(place, log) for log in ("offsets", "commits"))
        if begun is None:
            continue
        if ended is None or checkpoints.started_batch(place, ended).started_at < now - BEHIND:
            return query
        unread = _oldest_unread_of(directory, opened.open(directory), place, ended)
        if unread is not None and unread < now - BEHIND:
            return query
    is_pinned = directory.contract.name in {contract.name for contract in READ}
    return _unfinished_round(store, now, opened) if is_pinned else None


def _oldest_unread_of(directory: Directory, table: DeltaTable, location: str, batch_id: int) -> datetime | None:
    """Return the commit time of the oldest rows of a directory that a query had not read by the end of a batch.

    None if it had read all, or nothing since the directory was empty. location: of the query's checkpoint.
    """
    name, newest = str(table.metadata().id), int(table.version())
    for text in checkpoints.end_offsets(location, batch_id):
        if text is not None and "reservoirId" in json.loads(text):
            offset = TableOffset.parse(text)
            if offset.table_id == name:
                return oldest_unread(directory, offset, newest)
    return None


def _unfinished_round(store: FleetStore, now: datetime, opened: OpenedTables) -> str | None:
    """Return the lease of the stream or the batch if its unfinished round still needs old
    pinned versions; else None.
    """
    paths = (store.directories(base) for base in (tables.VERDICTS, tables.ROUNDS))
    for plans, rounds in zip(*paths, strict=True):
        planned = (ds.field("decision") == Staleness.FIT.value) & (ds.field("judged_at") < now - BEHIND)
        ended = newest_batch_of(delta.open_dataset(opened.open(rounds)))
        if ended is not None:
            planned &= ds.field("batch_id") > ended
        if delta.open_dataset(opened.open(plans)).count_rows(filter=planned):
            return lease_of(plans)
    return None


@dataclass(frozen=True)
class TidyAnswer:
    """A process's answer to a request. error: why some directories were not tidied."""

    request: str
    done: tuple[DirectoryReport, ...]
    error: str | None = None


def request_tidy(store: FleetStore) -> str:
    """Ask running queries to tidy their directories. Return the id of the request."""
    made = uuid.uuid4().hex
    write_request_file(_request_folder(store) / "request", {"id": made})
    return made


def pending_request(store: FleetStore, name: str) -> str | None:
    """Return the id of a request that this query has not answered yet; None without one."""
    content = _read_if_possible(_request_folder(store) / "request")
    if content is None:
        return None
    made = str(content["id"])
    answer = read_answer(store, name)
    return None if answer is not None and answer.request == made else made


def write_answer(store: FleetStore, name: str, answer: TidyAnswer) -> None:
    """Store what a query has tidied, for the command that asked for it. name: of the query."""
    write_request_file(_request_folder(store) / f"{name}.served", asdict(answer))


def read_answer(store: FleetStore, name: str) -> TidyAnswer | None:
    """Return the last answer of a query; None if it has never answered. name: of the query."""
    content = _read_if_possible(_request_folder(store) / f"{name}.served")
    if content is None:
        return None
    return TidyAnswer(
        content["request"], tuple(DirectoryReport(**report) for report in content["done"]), content["error"]
    )


def tidy_if_idle(store: FleetStore, retention: Retention, name: str, request: str) -> bool:
    """Tidy the directories of a query if no process runs it. Returns whether it did."""
    try:
        with leases.held(store, [name]):
            opened = OpenedTables()
            done = tuple(
                tidy_directory(store, retention, directory, datetime.now(UTC), opened=opened)
                for directory in directories_of_lease(store, name)
            )
            write_answer(store, name, TidyAnswer(request, done))
    except Busy:
        return False
    return True


def lease_names(store: FleetStore) -> Iterable[str]:
    """Return the leases under which directories are written."""
    return dict.fromkeys(lease_of(directory) for directory in store.every_directory())


def _read_if_possible(file: Path) -> dict[str, Any] | None:
    """The request or answer; None if it does not exist or cannot be read now. Raises UnknownFormat."""
    try:
        return read_request_file(file)
    except OSError:
        return None


def _request_folder(store: FleetStore) -> Path:
    return store.folder / "tidy"
