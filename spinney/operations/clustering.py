"""Keep `events` and `outcomes` sorted by group while they grow, so that a refit reads few rows of other groups.

Each partition is a log-structured merge tree (`spinney.tables.clustered_files.merge_selection`). Sorted files have
names of the form `clustered-<run>-<number>.parquet` and are not sorted again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deltalake import DeltaTable

from schemas import tables
from spinney.tables import table_files
from spinney.tables.clustered_files.file_rewriting import (
    Rewrite,
    RewriteSource,
    RewriteTarget,
    checkpoint_if_due,
    commit_rewrite,
    rewrite,
    workspace,
)
from spinney.tables.clustered_files.merge_selection import AT_REST, GROWING, MergeRule, Run, choose_runs
from spinney.tables.table_files import CLUSTERED, TableFile

SORT_BY = {
    tables.EVENTS.name: ("shard", "group_key", "event_time", "event_id"),
    tables.OUTCOMES.name: ("shard", "group_key", "event_id"),
}
"""Table -> columns by which its clustered files are sorted."""


@dataclass(frozen=True)
class CommitGuard:
    """Rules by which a rewrite avoids conflicts with a query that writes the same directory.

    lock: held for each commit, and by the query while it writes a batch. interrupted: returns whether to stop; files
    that are not committed by then have no effect.
    """

    lock: AbstractContextManager[Any]
    interrupted: Callable[[], bool]


UNGUARDED = CommitGuard(nullcontext(), lambda: False)


@dataclass(frozen=True)
class Merge:
    """Files of one partition to be merged into one run."""

    sources: tuple[RewriteSource, ...]

    @property
    def files(self) -> int:
        """Number of files to be merged."""
        return sum(len(source.files) for source in self.sources)


def due_merges(table: DeltaTable, *, is_requested: bool) -> list[Merge]:
    """Return the merges to do now.

    is_requested: whether a person asked for it: then every merge that makes reading faster. If not, only merges that
    pay off while the table grows.
    """
    partitions: dict[tuple[Any, ...], list[TableFile]] = defaultdict(list)
    for file in table_files.list_files(table):
        partitions[tuple(file.partition.values())].append(file)
    # Rows are partitioned by the day of their arrival, so only the newest partition grows.
    newest = max((key for key in partitions if None not in key), default=None)
    merges = (
        _merge_of_files(files, GROWING if key == newest and not is_requested else AT_REST)
        for key, files in partitions.items()
    )
    return [merge for merge in merges if merge is not None]


def _merge_of_files(files: list[TableFile], rule: MergeRule) -> Merge | None:
    by_run: dict[str, list[TableFile]] = defaultdict(list)
    for file in sorted(files, key=lambda file: file.path):
        by_run[run_name(file.path)].append(file)
    runs = {
        name: Run(name, tuple(f.path for f in found), sum(f.bytes for f in found)) for name, found in by_run.items()
    }
    chosen = choose_runs(runs.pop("", Run("", (), 0)), list(runs.values()), rule)
    if not chosen:
        return None
    return Merge(tuple(RewriteSource(tuple(by_run[run.name]), is_sorted=bool(run.name)) for run in chosen))


def run_name(path: str) -> str:
    """Return the run that a file belongs to; "" if it is not clustered."""
    name = Path(path).name
    return name[len(CLUSTERED) :].rpartition("-")[0] if name.startswith(CLUSTERED) else ""


def cluster(
    table: DeltaTable, name: str, guard: CommitGuard = UNGUARDED, *, is_requested: bool = False
) -> list[Rewrite]:
    """Carry out the merges that are due, and return them. name: of the table, a key of SORT_BY."""
    return carry_out_merges(
        table, due_merges(table, is_requested=is_requested), RewriteTarget(SORT_BY[name], CLUSTERED), guard
    )


def carry_out_merges(
    table: DeltaTable, merges: Sequence[Merge], target: RewriteTarget, guard: CommitGuard
) -> list[Rewrite]:
    """Merge these files, and return the rewrites.

    The caller must hold the directory's lease. Raises RewriteInterrupted.

    A merge is skipped if one of its files was replaced meanwhile; the next call decides about it again.
    """
    done = []
    if not merges:
        return []
    with workspace(table) as place:
        for merge in merges:
            prepared = rewrite(table, merge.sources, target, place, guard.interrupted)
            with guard.lock:
                committed = commit_rewrite(table, prepared, target.prefix.rstrip("-"))
            if committed:
                checkpoint_if_due(table)
                done.append(prepared)
    return done
