"""A round: plan → fit → gate → record. The stream and the weekly batch both retrain by this, and by nothing else.

=======  ===================  =======================================================================
step     writes               derived from
=======  ===================  =======================================================================
plan     verdicts/<kind>      the judge's verdicts; pins the version of every table that the round reads
fit      models/<kind>        the stored plan and the pinned tables
gate     promotions/<kind>    the stored plan and the stored models of this round
record   rounds/<kind>        the stored plan, models and promotions of this round
=======  ===================  =======================================================================

A replay finds what is stored, derives the rest from that, and changes nothing twice, whatever happened to the world
or to the configuration meanwhile. A large round does fit and gate part by part: what was stored before it was killed is
not fitted again.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from schemas import tables
from schemas.contract import Contract
from schemas.vocabulary import Decision, ModelStatus, QueryName, RoundKind, Staleness
from spinney.core.champions.gate import UncomparedPolicy
from spinney.core.config import Config
from spinney.core.errors import StoreError
from spinney.core.keys import is_parent
from spinney.core.models.signing import Signer
from spinney.core.planning.chunks import Pace, Part, Progress, next_part
from spinney.core.recipes.recipe import Recipe
from spinney.retraining import gating, group_fitting, local_fitting, stored_payloads
from spinney.retraining.group_fitting import Output
from spinney.retraining.model_writing import REPORT_DDL, ModelWriting, actions
from spinney.retraining.round_fitting import fit, fitting_of, requests_of
from spinney.retraining.round_order import Ordered, reads_of
from spinney.retraining.row_counts import EVENTS, EventCounting
from spinney.retraining.training_tables import TrainingTables
from spinney.spark.session import Start, errors_of_tasks, is_started
from spinney.storage.atomic_files import folder
from spinney.storage.layout import FleetStore
from spinney.tables import delta, recipe_store
from spinney.tables.arrow_schemas import arrow_schema
from spinney.tables.delta import Writer

PLAN, FIT, GATE, RECORD = "plan", "fit", "gate", "record"
GATED_TOGETHER = 20_000
"""Groups that the gate decides about at once: what it holds in memory does not grow with the fleet."""


class Rounds:
    """The rounds of one path, and the writers of its directories."""

    def __init__(
        self, spark: SparkSession | Start, config: Config, signer: Signer, kind: RoundKind, checkpoint: str
    ) -> None:
        """spark: what starts a session if it is not needed for anything else: then few groups are fitted without it."""
        self._spark = spark
        store = FleetStore.of(config)
        self._config, self._store = config, store
        self._signer = signer
        self._kind = kind
        query = (QueryName.RETRAIN if kind == RoundKind.STREAM else QueryName.WEEKLY).value
        bases = {PLAN: tables.VERDICTS, FIT: tables.MODELS, GATE: tables.PROMOTIONS, RECORD: tables.ROUNDS}
        self._writers = {
            step: Writer(store.directory(base, kind.value), query, checkpoint) for step, base in bases.items()
        }
        self._seconds: dict[str, float] = {}
        self._fits_here = False

    def planned(self, batch_id: int) -> bool:
        return self._writers[PLAN].done(PLAN, batch_id)

    def unfinished(self) -> tuple[int, Ordered] | None:
        """The batch whose plan is stored but whose round is not recorded; None when the last one ended."""
        plan = self._writers[PLAN].last(PLAN)
        if plan is None or self._writers[RECORD].done(RECORD, plan.batch_id) or not plan.notes["groups_in"]:
            return None
        return plan.batch_id, Ordered.of_notes(plan.notes)

    def next_batch(self) -> int:
        """The number of a new batch, for a path whose batches nobody else numbers."""
        plan = self._writers[PLAN].last(PLAN)
        return 0 if plan is None else plan.batch_id + 1

    def plan(self, verdicts: DataFrame | pa.Table, ordered: Ordered, batch_id: int) -> None:
        """Store the plan. verdicts: columns of `verdicts` but for round_id, pins and batch_id.

        What will be read of each group to fit is counted here; a fit that finds another number fails the round.
        """
        constants = {
            "round_id": ordered.round_id,
            "pins": json.dumps(dict(ordered.pins), separators=(",", ":")),
            "batch_id": batch_id,
        }
        self._seconds.clear()  # of batches that ordered nothing
        with self._timed(PLAN):
            rows = verdicts
            if ordered.groups_in > ordered.deferred:  # most ticks of the judge fit nothing: their tables stay unopened
                counting = EventCounting(TrainingTables.of(self._config, ordered.pins, ordered.clock))
                rows = counting.in_rows(verdicts) if isinstance(verdicts, pa.Table) else counting.in_frame(verdicts)
            notes = replace(ordered, reads=reads_of(self._config)).notes()
            self._writers[PLAN].append(_with(rows, constants), step=PLAN, batch_id=batch_id, notes=notes)

    def carry_out(
        self, batch_id: int, pace: Pace | None = None, show: Callable[[Progress], None] | None = None
    ) -> Ordered | None:
        """Everything after the plan. Returns what was ordered; None when nothing was planned for this batch.

        pace: how large its parts are; without one all is one part. show: told how far it is after each.
        """
        ordered = self._ordered(batch_id)
        if ordered is None or ordered.groups_in == 0:
            return None
        if not self._writers[RECORD].done(RECORD, batch_id):
            self._fit_and_gate(ordered, batch_id, pace, show or (lambda _: None))
            self._record(ordered, batch_id)
        return ordered

    def close(self, batch_id: int) -> None:
        """Record an unfinished round as far as it came: what was fitted is decided about, the rest is deferred."""
        ordered, plan = self._ordered(batch_id), self._planned(batch_id)
        assert ordered is not None, f"batch {batch_id} was planned"
        part = self._stored_part(batch_id, len(plan))
        if part is not None:
            self._gate(ordered, plan, batch_id, part)
        self._record(ordered, batch_id, left=len(plan) - (part.end if part else 0))

    def fits_here(self, batch_id: int) -> bool:
        """Whether the whole round is fitted in this process: it is small, and Spark is neither running nor starting."""
        ordered = self._ordered(batch_id)
        return ordered is not None and self._is_fitted_here(ordered, self._planned(batch_id))

    def _is_fitted_here(self, ordered: Ordered, plan: pd.DataFrame) -> bool:
        """plan: the whole plan. A part of a large one is small too, and the next may not be."""
        if is_started(self._spark) or len(plan) > local_fitting.FEW:
            return False
        events = TrainingTables.of(self._config, ordered.pins, ordered.clock).events.rows
        return local_fitting.is_sooner(plan["group_key"].tolist(), events, ordered.predicted_seconds)

    def _fit_and_gate(
        self, ordered: Ordered, batch_id: int, pace: Pace | None, show: Callable[[Progress], None]
    ) -> None:
        plan = self._planned(batch_id)
        self._fits_here = self._is_fitted_here(ordered, plan)
        parents = sum(map(is_parent, plan["group_key"]))
        part = self._stored_part(batch_id, len(plan))
        if part is not None:
            self._gate(ordered, plan, batch_id, part)
        while part := next_part(part, len(plan), parents, pace):
            began = time.perf_counter()
            self._fit(ordered, plan, batch_id, part)
            self._gate(ordered, plan, batch_id, part)
            if pace is None:
                continue
            if part.begin >= parents:  # a parent has the rows of all its children: it says nothing of groups
                pace = pace.after(part.end - part.begin, time.perf_counter() - began)
            failed = _failed(self._stored(tables.MODELS, ["status"], batch_id))
            show(Progress(part.end, failed, len(plan), pace.seconds_for(len(plan) - part.end)))

    def _ordered(self, batch_id: int) -> Ordered | None:
        """What the plan of this batch, the newest, ordered; None when it is not planned."""
        commit = self._writers[PLAN].last(PLAN)
        return None if commit is None or commit.batch_id != batch_id else Ordered.of_notes(commit.notes)

    def _stored_part(self, batch_id: int, total: int) -> Part | None:
        """The part that was fitted last; None before the first."""
        fit = self._writers[FIT].last(FIT)
        if fit is None or fit.batch_id != batch_id:
            return None
        return Part(fit.part, fit.notes.get("begin", 0), fit.notes.get("end", total))

    def _fit(self, ordered: Ordered, whole: pd.DataFrame, batch_id: int, part: Part) -> None:
        plan = whole.iloc[part.begin : part.end]
        if ordered.reads != reads_of(self._config):  # edited since: the plan counted other events than will be read
            plan = plan.assign(**{EVENTS: pd.array([None] * len(plan), dtype="Int64")})
        with self._timed(FIT):
            recipe = Recipe.of(self._config)
            constants = {
                "round_id": ordered.round_id,
                "generation": None,
                "fitted_at": ordered.now,
                "clock": ordered.clock,
                "batch_id": batch_id,
            }
            place = self._store.directory(tables.MODELS, self._kind.value)
            writing = ModelWriting(folder(place.uri), constants, self._config.fleet.shards)
            recipe_store.keep(self._store, self._signer, recipe)
            fitting = fitting_of(self._config, self._signer, ordered)
            with errors_of_tasks():
                report = self._written(plan, fitting, writing)
            _refuse_missing(ordered.round_id, len(plan), report)
            files, notes = actions(report), {"recipe_id": recipe.recipe_id, "begin": part.begin, "end": part.end}
            self._writers[FIT].append_files(files, step=FIT, batch_id=batch_id, part=part.number, notes=notes)

    def _written(self, plan: pd.DataFrame, fitting: group_fitting.Fitter, writing: ModelWriting) -> pa.Table:
        """Fit and write the models of a plan. Returns what was written: model_writing.REPORT_DDL."""
        if self._fits_here:
            return pa.Table.from_batches(writing.write(local_fitting.fit(requests_of(plan), fitting)))
        spark = self._spark if isinstance(self._spark, SparkSession) else self._spark()
        return fit(spark, plan, fitting, Output(REPORT_DDL, writing.write)).toArrow()

    def _planned(self, batch_id: int) -> pd.DataFrame:
        """The groups of the stored plan, parents first: gating.ASKED and EVENTS. The keys of a fleet fit here."""
        columns = ["shard", "group_key", "model_id", "epoch", "numbers", "decision"]
        plan = self._stored(tables.VERDICTS, columns, batch_id).to_pandas()
        plan = plan[plan["decision"] == Staleness.FIT.value].rename(columns={"model_id": "champion_id"})
        numbers = [json.loads(text or "{}") for text in plan["numbers"]]
        plan["pinned"] = [bool(each.get("pinned")) for each in numbers]
        plan[EVENTS] = pd.array([each.get(EVENTS) for each in numbers], dtype="Int64")
        plan["is_group"] = ~plan["group_key"].map(is_parent).astype(bool)
        ordered = plan.sort_values(["is_group", "shard", "group_key"])
        asked: pd.DataFrame = ordered[[*gating.ASKED, EVENTS, "is_group"]].reset_index(drop=True)
        return asked

    def _gate(self, ordered: Ordered, whole: pd.DataFrame, batch_id: int, part: Part) -> None:
        if self._writers[GATE].done(GATE, batch_id, part.number):
            return
        with self._timed(GATE):
            plan = whole.iloc[part.begin : part.end]
            some = range(0, len(plan), GATED_TOGETHER)
            schema = pa.schema([arrow_schema(tables.PROMOTIONS).field(name) for name in gating.COLUMNS])
            gate = gating.Gating(self._config.gate, _uncompared(self._kind, ordered))
            decided = [self._decided(gate, plan.iloc[at : at + GATED_TOGETHER], batch_id, schema) for at in some]
            rows = pa.concat_tables([schema.empty_table(), *decided])
            constants = {
                "round_id": ordered.round_id,
                "decided_at": ordered.now,
                "clock": ordered.clock,
                "by": self._kind.value,
                "batch_id": batch_id,
            }
            self._writers[GATE].append(_with(rows, constants), step=GATE, batch_id=batch_id, part=part.number)

    def _decided(self, gate: gating.Gating, plan: pd.DataFrame, batch_id: int, schema: pa.Schema) -> pa.Table:
        """The gate's decisions about some groups of the plan."""
        shards = (int(plan["shard"].min()), int(plan["shard"].max()))
        stored = stored_payloads.with_small_payloads(self._store, self._kind.value, batch_id, shards).to_pandas()
        mine = stored[stored["group_key"].isin(plan["group_key"])]
        decided = gate.decided(gating.with_elsewhere(mine, self._store, self._kind), plan)
        return pa.Table.from_pandas(decided, schema=schema, preserve_index=False)

    def _record(self, ordered: Ordered, batch_id: int, left: int = 0) -> None:
        """left: groups of the plan that were not tried."""
        models = self._stored(tables.MODELS, ["group_key", "status"], batch_id)
        status = _counts(models.column("status"))
        names = ["group_key", "decision", "challenger_loss", "champion_loss"]
        promotions = self._stored(tables.PROMOTIONS, names, batch_id).to_pandas()
        decision = Counter(promotions["decision"])
        # Kept although it was fitted: the other path had promoted the very same model meanwhile.
        twice = promotions["group_key"].isin(models.column("group_key").to_pandas())
        kept = int(((promotions["decision"] == Decision.KEPT) & ~twice).sum())
        compared = promotions.dropna(subset=["challenger_loss", "champion_loss"])
        fit = self._writers[FIT].last(FIT)
        row = {
            "round_id": ordered.round_id,
            "kind": self._kind.value,
            "groups_in": ordered.groups_in,
            "fitted": status[ModelStatus.FITTED],
            "failed": _failed(models),
            "too_few_rows": status[ModelStatus.TOO_FEW_ROWS],
            "kept": kept,
            "deferred": ordered.deferred + left,
            "promoted": decision[Decision.PROMOTED],
            "unproven": decision[Decision.UNPROVEN],
            "refused": decision[Decision.REFUSED],
            "held": decision[Decision.HELD],
            "reasons": json.dumps(dict(ordered.reasons), sort_keys=True),
            "seconds": json.dumps({step: round(seconds, 3) for step, seconds in self._seconds.items()}, sort_keys=True),
            "budget_seconds": ordered.budget_seconds,
            "predicted_seconds": ordered.predicted_seconds,
            "mean_champion_loss": float(compared["champion_loss"].mean()) if len(compared) else None,
            "mean_challenger_loss": float(compared["challenger_loss"].mean()) if len(compared) else None,
            "clock": ordered.clock,
            "started_at": ordered.now,
            "pins": json.dumps(dict(ordered.pins), sort_keys=True),
            # The recipe it was fitted by: the configuration may have been edited before this step is made up for.
            "recipe_id": None if fit is None else fit.notes["recipe_id"],
            "batch_id": batch_id,
        }
        _refuse_uneven(row)
        self._seconds.clear()
        rows = pa.Table.from_pylist([row], schema=arrow_schema(tables.ROUNDS))
        self._writers[RECORD].append(rows, step=RECORD, batch_id=batch_id)

    def _stored(self, base: Contract, columns: list[str], batch_id: int) -> pa.Table:
        """A few columns of what this round has stored, read without a Spark job."""
        table = delta.opened(self._store.directory(base, self._kind.value))
        if table is None:
            return pa.table({name: [] for name in columns})
        return delta.dataset(table).to_table(columns, filter=ds.field("batch_id") == batch_id)

    @contextmanager
    def _timed(self, step: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self._seconds[step] = self._seconds.get(step, 0.0) + time.perf_counter() - began


def _uncompared(kind: RoundKind, ordered: Ordered) -> UncomparedPolicy:
    """A batch has said, before it planned, what cannot be compared; of a stream's rounds nobody has been told."""
    if ordered.unproven:
        return UncomparedPolicy.ALL
    return UncomparedPolicy.NONE if kind == RoundKind.STREAM else UncomparedPolicy.FORESEEN


def _refuse_missing(round_id: str, asked: int, report: pa.Table) -> None:
    """Raises StoreError when the tasks did not account for every request. report: model_writing.REPORT_DDL."""
    stored, kept = (int(pc.sum(report.column(name)).as_py() or 0) for name in ("rows", "kept"))
    if stored + kept != asked:
        raise StoreError(
            f"round {round_id}: expected a result for each of {asked} fit requests; got {stored} models and {kept} "
            "kept. Nothing was stored: the round stops here. Run the command again; if it happens again, report it"
        )


def _refuse_uneven(row: Mapping[str, Any]) -> None:
    """Raises StoreError when the counts of a round do not add up. row: of `rounds`."""
    parts = {name: row[name] for name in ("fitted", "failed", "too_few_rows", "kept", "deferred")}
    if sum(parts.values()) != row["groups_in"]:
        text = ", ".join(f"{name} {count}" for name, count in parts.items())
        raise StoreError(
            f"round {row['round_id']}: expected its {row['groups_in']} groups to be fitted, failed, too few rows, kept "
            f"or deferred; got {text}, together {sum(parts.values())}. Its models and promotions are stored, the round "
            "is not recorded. Report this with the tables models, promotions and verdicts"
        )


def _with(rows: DataFrame | pa.Table, constants: Mapping[str, Any]) -> DataFrame | pa.Table:
    """The rows with these columns added, each with one value."""
    if isinstance(rows, pa.Table):
        for name, value in constants.items():
            rows = rows.append_column(name, pa.array([value] * rows.num_rows))
        return rows
    frame: DataFrame = rows.withColumns({name: F.lit(value) for name, value in constants.items()})
    return frame


def _failed(models: pa.Table) -> int:
    status = _counts(models.column("status"))
    return status[ModelStatus.FAILED] + status[ModelStatus.TIMED_OUT]


def _counts(values: Iterable[Any]) -> Counter[str]:
    return Counter(value.as_py() for value in values)
