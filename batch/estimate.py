"""What a batch would take, by fitting a sample of it: seconds, memory, bytes. Nothing is stored.

Two samples of different size are fitted as the batch would fit them, after one that warms up. What grows between them
is the cost of a group; what does not is the cost of a part, whatever its size.
"""

from __future__ import annotations

import io
import resource
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash
from pyspark.sql import SparkSession

from batch.choosing import Scope, View, pace_of, verdicts
from batch.recipe_changes import recipe_changes
from schemas import tables
from schemas.contract import Contract
from schemas.vocabulary import ModelStatus
from spinney.core.config import Config
from spinney.core.durations import format_seconds
from spinney.core.keys import is_parent
from spinney.core.planning.chunks import Pace, next_part
from spinney.retraining import gating
from spinney.retraining.group_fitting import BLOCK_ROWS, KEPT
from spinney.retraining.round_fitting import fit, fitting_of
from spinney.retraining.round_order import Ordered
from spinney.retraining.row_counts import EVENTS
from spinney.spark.session import cores_of, session, with_required
from spinney.storage import charter, signing_key
from spinney.storage.layout import FleetStore
from spinney.tables.arrow_schemas import arrow_schema

SMALL = 60
"""Groups of the smaller sample."""

SECONDS = 15.0
"""What the larger sample should take at most, by what the smaller one took."""

MOST = 4_000
KIB = 1024 if sys.platform != "darwin" else 1


@dataclass(frozen=True)
class Estimate:
    """What a batch would take.

    groups: parents too; seconds: on the wall clock, once Spark has started, in so many parts; memory_bytes: resident in
    all Python workers together at their peak; table_bytes: added to `models` and `promotions`. sample: groups that were
    fitted for it; failed: of them. changes: what will be compared where the recipe was changed, a text each. refusal:
    why the batch does not run without `unproven`.
    """

    groups: int
    seconds: float
    parts: int
    memory_bytes: int
    table_bytes: int
    sample: int
    failed: int
    changes: tuple[str, ...] = ()
    refusal: str | None = None

    def __str__(self) -> str:
        parts = "1 part" if self.parts == 1 else f"{self.parts} parts"
        whole = (
            f"{self.groups:,} groups: about {format_seconds(self.seconds)} in {parts}, "
            f"{self.memory_bytes / 1e6:,.0f} MB of memory in Python workers, {self.table_bytes / 1e6:,.1f} MB more in "
            f"tables; by a sample of {self.sample:,}, of which {self.failed:,} failed"
        )
        refused = [f"it would be refused: {self.refusal}"] if self.refusal else []
        return "\n".join([whole, *self.changes, *refused])


def estimate(
    config: Config, groups: Sequence[str] | None = None, *, stale: bool = False, spark: SparkSession | None = None
) -> Estimate:
    """What `weekly.retrain` with the same arguments would take. Raises what that raises, but never Busy."""
    spark = with_required(spark) if spark else session(config)
    charter.ensure_kept(config)
    began = time.perf_counter()
    view = View.now_of(config)
    scope = Scope.of(groups, stale=stale)
    rows = verdicts(lambda: spark, config, scope, view)
    changes = recipe_changes(config, signing_key.signer(FleetStore.of(config)), rows, scope, view)
    plan, mean_ms = sampling_order(rows)
    planning = time.perf_counter() - began
    if not len(plan):
        return Estimate(0, planning, 0, 0, 0, 0, 0)
    sampling = _Sampling(spark, config, view)
    warm = sampling.sample(plan.head(SMALL))
    are_parents = plan["group_key"].map(is_parent).to_numpy(bool)
    lines = [_Line.of(sampling, plan[mine]) for mine in (are_parents, ~are_parents) if mine.any()]
    warming = max(warm.seconds - lines[-1].small.seconds, 0.0)
    parts = _parts(len(plan), int(are_parents.sum()), lines[-1], pace_of(cores_of(spark), config, mean_ms))
    return Estimate(
        groups=len(plan),
        seconds=planning + warming + _along(lines, parts, "seconds"),
        parts=parts,
        memory_bytes=int(cores_of(spark) * max(line.peak(cores_of(spark)) for line in lines)),
        table_bytes=int(_along(lines, parts, "bytes")),
        sample=sum(line.large.groups for line in lines),
        failed=sum(line.large.failed for line in lines),
        changes=changes.lines,
        refusal=changes.refusal,
    )


def sampling_order(rows: pa.Table) -> tuple[pd.DataFrame, float | None]:
    """gating.ASKED, in an order by lot that is always the same; and the mean cost of the last fits, if any.

    Whole shards one after the other: the tables are clustered by shard, and groups from everywhere would each cost a
    row group of their own to read (measured with a million groups: an estimate of 66 times the time).
    """
    known = rows.select(["shard", "group_key", "epoch", "predicted_ms", "model_id"])
    plan = known.rename_columns({"model_id": "champion_id"}).to_pandas()
    plan["shard_lot"] = [xxhash.xxh64_intdigest(f"sample {shard}".encode()) for shard in plan["shard"]]
    plan["lot"] = [xxhash.xxh64_intdigest(f"sample {key}".encode()) for key in plan["group_key"]]
    plan = plan.sort_values(["shard_lot", "lot", "group_key"], ignore_index=True)
    plan[EVENTS] = pd.array([None] * len(plan), dtype="Int64")
    mean_ms = plan["predicted_ms"].mean()
    return plan.assign(pinned=False)[[*gating.ASKED, EVENTS]], None if pd.isna(mean_ms) else float(mean_ms)


@dataclass(frozen=True)
class _Sample:
    """What fitting some groups took. rows: they were fitted on; bytes: in tables; peak: bytes resident in a worker."""

    groups: int
    seconds: float
    rows: int
    bytes: int
    peak: int
    failed: int


@dataclass(frozen=True)
class _Sampling:
    """Fits as a batch would and measures."""

    spark: SparkSession
    config: Config
    view: View

    def sample(self, plan: pd.DataFrame) -> _Sample:
        view = self.view
        ordered = Ordered("sample", len(plan), 0, {}, view.clock, view.now, None, 0.0, view.pins)
        began = time.perf_counter()
        signer = signing_key.signer(FleetStore.of(self.config))
        fitted = fit(self.spark, plan, fitting_of(self.config, signer, ordered)).toArrow().to_pandas()
        fitted = fitted[fitted["status"] != KEPT]
        models = fitted.assign(shard=0, fitted_at=view.now)
        decided = gating.Gating(self.config.gate).decided(models, plan)
        size = _parquet_bytes(models, tables.MODELS) + _parquet_bytes(decided, tables.PROMOTIONS)
        return _Sample(
            groups=len(plan),
            seconds=time.perf_counter() - began,
            rows=int(fitted["rows"].sum()),
            bytes=size,
            peak=worker_peak(self.spark),
            failed=int(fitted["status"].isin([ModelStatus.FAILED, ModelStatus.TIMED_OUT]).sum()),
        )


def worker_peak(spark: SparkSession) -> int:
    """The most bytes that a Python worker, or the child that fits for it, has had resident so far."""
    tasks = cores_of(spark)
    found = spark.range(0, tasks, 1, tasks).mapInArrow(_peaks, "peak bigint").collect()
    return max(row["peak"] for row in found)


def _peaks(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The child begins as its worker's copy: what the two share is counted once."""
    for _ in batches:
        most = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        yield pa.RecordBatch.from_pydict({"peak": [most * KIB]})


def _parquet_bytes(rows: pd.DataFrame, contract: Contract) -> int:
    schema = arrow_schema(contract)
    there = [name for name in contract.names if name in rows]
    table = pa.Table.from_pandas(rows[there], schema=pa.schema([schema.field(n) for n in there]), preserve_index=False)
    file = io.BytesIO()
    pq.write_table(table, file, compression="snappy")
    return file.tell()


@dataclass(frozen=True)
class _Line:
    """Groups of one kind, and what a smaller and a larger sample of them took."""

    groups: int
    small: _Sample
    large: _Sample

    @classmethod
    def of(cls, sampling: _Sampling, plan: pd.DataFrame) -> _Line:
        small = sampling.sample(plan.head(SMALL))
        # At least four times as many, or the difference drowns in noise.
        most = max(4 * SMALL, min(MOST, int(SMALL * SECONDS / max(small.seconds, 0.1))))
        return cls(len(plan), small, sampling.sample(plan.head(most)) if len(plan) > SMALL else small)

    def each(self, what: str) -> float:
        """What grows with a group: never more than all that the larger sample took."""
        more = getattr(self.large, what) - getattr(self.small, what)
        slope = more / max(self.large.groups - self.small.groups, 1)
        return min(max(slope, 0.0), getattr(self.large, what) / max(self.large.groups, 1))

    def fixed(self, what: str) -> float:
        """What a part has, whatever its size."""
        return float(getattr(self.large, what) - self.each(what) * self.large.groups)

    def peak(self, cores: int) -> float:
        """Bytes resident in a worker that is at a full block of rows."""
        more = (self.large.peak - self.small.peak) / max(self.large.rows - self.small.rows, 1)
        in_all = self.groups * self.large.rows / max(self.large.groups, 1)
        block = min(BLOCK_ROWS * cores, in_all)
        return self.large.peak + max(more * (block - self.large.rows), 0.0)


def _along(lines: Sequence[_Line], parts: int, what: str) -> float:
    """All groups; a part of both kinds has what is fixed of either only once."""
    fixed = [line.fixed(what) for line in lines]
    of_parts = max(fixed) if parts == 1 else sum(fixed[:-1]) + (parts - len(lines) + 1) * fixed[-1]
    return of_parts + sum(line.each(what) * line.groups for line in lines)


def _parts(total: int, parents: int, groups: _Line, pace: Pace) -> int:
    """How many parts a batch will have that begins at this pace and learns as it goes."""
    part, count = None, 0
    while part := next_part(part, total, parents, pace):
        count += 1
        if part.begin >= parents:
            size = part.end - part.begin
            pace = pace.after(size, groups.fixed("seconds") + groups.each("seconds") * size)
    return count
