"""A round: plan → fit → gate → record. The stream and the weekly batch both retrain by these steps.

=======  ===================  =======================================================================
step     writes               derived from
=======  ===================  =======================================================================
plan     verdicts/<kind>      the judge's verdicts; pins the version of every table that the round reads
fit      models/<kind>        the stored plan, the pinned tables; priors: promotions of earlier parts
gate     promotions/<kind>    the stored plan and the stored models of this round
record   rounds/<kind>        the stored plan, models and promotions of this round
=======  ===================  =======================================================================

A replay reads what is stored, derives the rest from that and writes nothing twice, even if data or the configuration
have changed since. A large round runs fit and gate in parts: parts that were stored before it was killed are not fitted
again.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from deltalake.transaction import AddAction
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from schemas import tables
from schemas.contract import Contract
from schemas.vocabulary import QueryName, RoundKind
from spinney.core.champions.gate import UncomparedPolicy
from spinney.core.champions.round_halt_rule import AttemptTally
from spinney.core.champions.user_rule import load_user_rule
from spinney.core.config import Config
from spinney.core.keys import is_parent
from spinney.core.models.signing import Signer
from spinney.core.planning.batch_parts import Part, PartPacing, Progress, next_part
from spinney.core.recipes.recipe import Recipe, UserRuleTerms
from spinney.retraining import gate_input, promotion_halt, round_gate
from spinney.retraining.background_step import BackgroundStep
from spinney.retraining.event_counting import EVENTS, EventCounter
from spinney.retraining.fitting import local_fitting, spark_fitting
from spinney.retraining.fitting.model_writer import REPORT_DDL, ModelWriter, add_actions
from spinney.retraining.fitting.parent_champions import PlannedChampions, with_parents
from spinney.retraining.fitting.spark_fitting import TaskOutput
from spinney.retraining.fitting.training_row_reader import TrainingTables
from spinney.retraining.round_fitting import fit_plan, fitter_of, requests_of
from spinney.retraining.round_plan import VERDICT_COLUMNS, groups_to_fit, pooling_ends
from spinney.retraining.round_record import FinishedRound, RoundRecord, failed_count, require_complete, require_kept
from spinney.retraining.round_request import RoundRequest, read_settings
from spinney.spark.session import SessionFactory, is_started
from spinney.spark.task_errors import unwrap_task_errors
from spinney.storage.atomic_files import local_folder
from spinney.storage.layout import FleetStore
from spinney.tables import delta, recipe_store
from spinney.tables.arrow_schemas import arrow_schema
from spinney.tables.delta import DirectoryWriter

log = logging.getLogger(__name__)

PLAN, FIT, GATE, RECORD = "plan", "fit", "gate", "record"
MAX_GATED_GROUPS = 20_000
"""Number of groups that the gate decides about at once, so that its memory does not grow with the fleet."""


@dataclass(frozen=True)
class _FittedPart:
    """A part of a round after its fits: the files that its tasks wrote, which no commit names yet, and the commit's
    metadata.
    """

    files: Sequence[AddAction]
    notes: Mapping[str, Any]


class Rounds:
    """Runs the rounds of one path, stream or batch, and writes its directories."""

    def __init__(
        self, spark: SparkSession | SessionFactory, config: Config, signer: Signer, kind: RoundKind, checkpoint: str
    ) -> None:
        """spark: a session, or a function that starts one, so that a small round can be fitted without Spark.

        Raises ConfigError: the gate's rule of a user's own cannot be imported.
        """
        if (terms := UserRuleTerms.of(config.gate)) is not None:
            load_user_rule(terms.rule)  # before anything is fitted
        self._spark = spark
        store = FleetStore.of(config)
        self._config, self._store = config, store
        self._signer = signer
        self._kind = kind
        query = (QueryName.RETRAIN if kind == RoundKind.STREAM else QueryName.WEEKLY).value
        bases = {PLAN: tables.VERDICTS, FIT: tables.MODELS, GATE: tables.PROMOTIONS, RECORD: tables.ROUNDS}
        self._writers = {
            step: DirectoryWriter(store.directory(base, kind.value), query, checkpoint) for step, base in bases.items()
        }
        self._seconds: dict[str, float] = {}
        self._fits_locally = False

    def is_planned(self, batch_id: int) -> bool:
        """Whether the plan of this batch is stored."""
        return self._writers[PLAN].is_stored(PLAN, batch_id)

    def unfinished(self) -> tuple[int, RoundRequest] | None:
        """Return the batch whose plan is stored but whose round is not recorded; None if the last one is recorded."""
        plan = self._writers[PLAN].last_commit(PLAN)
        if plan is None or self._writers[RECORD].is_stored(RECORD, plan.batch_id) or not plan.notes["groups_in"]:
            return None
        return plan.batch_id, RoundRequest.of_notes(plan.notes)

    def last_request(self) -> RoundRequest | None:
        """Return the request of the newest plan; None before the first."""
        plan = self._writers[PLAN].last_commit(PLAN)
        return None if plan is None else RoundRequest.of_notes(plan.notes)

    def next_batch(self) -> int:
        """Return the number of a new batch, for the weekly path. Spark numbers those of the stream."""
        plan = self._writers[PLAN].last_commit(PLAN)
        return 0 if plan is None else plan.batch_id + 1

    def plan(self, verdicts: DataFrame | pa.Table, request: RoundRequest, batch_id: int) -> None:
        """Store the plan. verdicts: columns of `verdicts` but for round_id, pins and batch_id.

        The events of each group to fit are counted here; a fit that reads another number fails the round.
        """
        constants = {
            "round_id": request.round_id,
            "pins": json.dumps(dict(request.pins), separators=(",", ":")),
            "batch_id": batch_id,
        }
        self._seconds.clear()  # a batch without a round leaves its seconds
        with self._timed(PLAN):
            rows = verdicts
            if request.groups_in > request.deferred:  # most ticks of the judge fit nothing and open no table
                counting = EventCounter(self._training_tables(request))
                is_table = isinstance(verdicts, pa.Table)
                rows = counting.add_to_table(verdicts) if is_table else counting.add_to_frame(verdicts)
            notes = replace(request, reads=self._read_settings(), parents_by_columns=True).notes()
            self._writers[PLAN].append(_with_constants(rows, constants), step=PLAN, batch_id=batch_id, notes=notes)

    def carry_out(
        self, batch_id: int, pace: PartPacing | None = None, show: Callable[[Progress], None] | None = None
    ) -> FinishedRound | None:
        """Fit, gate and record the planned round. Returns None if nothing was planned for this batch.

        pace: determines the size of its parts; None: one part. show: called with the progress after each part.
        """
        request = self._request(batch_id)
        if request is None or request.groups_in == 0:
            return None
        if self._writers[RECORD].is_stored(RECORD, batch_id):
            return FinishedRound(request)
        self._fit_and_gate(request, batch_id, pace, show or (lambda _: None))
        return self._record(request, batch_id)

    def close(self, batch_id: int) -> None:
        """Record an unfinished round: gate what was fitted and defer the rest."""
        request, plan = self._request(batch_id), self._planned_groups(batch_id)
        assert request is not None, f"batch {batch_id} was planned"
        part = self._stored_part(batch_id, len(plan))
        if part is not None:
            self._gate(request, plan, batch_id, part)
        self._record(request, batch_id, untried=len(plan) - (part.end if part else 0))

    def is_fitted_locally(self, batch_id: int) -> bool:
        """Whether the whole round is fitted in this process: it is small, and Spark is not running."""
        request = self._request(batch_id)
        if request is None or request.groups_in - request.deferred > local_fitting.MAX_GROUPS:
            return False  # without reading a large plan
        return self._is_small(request, self._planned_groups(batch_id))

    def _is_small(self, request: RoundRequest, plan: pd.DataFrame) -> bool:
        """Whether a round is fitted in this process. plan: the whole plan, not a part."""
        if is_started(self._spark) or len(plan) > local_fitting.MAX_GROUPS:
            return False
        events = self._training_tables(request).events.rows
        return local_fitting.is_faster_than_spark(plan["group_key"].tolist(), events, request.predicted_seconds)

    def _fit_and_gate(
        self, request: RoundRequest, batch_id: int, pace: PartPacing | None, show: Callable[[Progress], None]
    ) -> None:
        plan = self._planned_groups(batch_id)
        self._fits_locally = self._is_small(request, plan)
        keys, pooling_rows = plan["group_key"].tolist(), self._config.recipe.pooling_rows
        parents, apart = sum(map(is_parent, keys)), pooling_ends(keys, pooling_rows)
        part = self._stored_part(batch_id, len(plan))
        with BackgroundStep() as gating:
            if part is not None:
                gating.start(partial(self._gate, request, plan, batch_id, part))
            while part := next_part(part, len(plan), parents, pace, apart=apart):
                began = time.perf_counter()
                if pooling_rows is not None:
                    gating.wait()  # groups are pooled with the models that their parents have just got
                fitted = self._fit(request, plan, batch_id, part)
                gating.wait()  # steps are stored in their order
                self._store_fit(fitted, batch_id, part)
                gating.start(partial(self._gate, request, plan, batch_id, part))
                if pace is None:
                    continue
                if part.begin >= parents:  # parents take longer than groups: their pace does not count
                    pace = pace.after(part.end - part.begin, time.perf_counter() - began)
                statuses = self._stored_rows(tables.MODELS, ["status"], batch_id).column("status")
                left = pace.seconds_for(len(plan) - part.end)
                show(Progress(part.end, failed_count(statuses.to_pandas()), len(plan), left))

    def _read_settings(self) -> str:
        return read_settings(self._config.fleet, self._config.recipe.window)

    def _training_tables(self, request: RoundRequest) -> TrainingTables:
        return TrainingTables.of(self._store, self._config.recipe, request.pins, request.clock)

    def _request(self, batch_id: int) -> RoundRequest | None:
        """Return the request of this batch, if its plan is the newest one; else None."""
        commit = self._writers[PLAN].last_commit(PLAN)
        return None if commit is None or commit.batch_id != batch_id else RoundRequest.of_notes(commit.notes)

    def _stored_part(self, batch_id: int, total: int) -> Part | None:
        """The part of this batch that was fitted last; None before the first."""
        fit = self._writers[FIT].last_commit(FIT)
        if fit is None or fit.batch_id != batch_id:
            return None
        return Part(fit.part, fit.notes.get("begin", 0), fit.notes.get("end", total))

    def _fit(self, request: RoundRequest, whole: pd.DataFrame, batch_id: int, part: Part) -> _FittedPart:
        """Fit a part, and write the files of its models without committing them."""
        plan = whole.iloc[part.begin : part.end]
        if request.reads != self._read_settings():  # edited since: the plan counted different events
            plan = plan.assign(**{EVENTS: pd.array([None] * len(plan), dtype="Int64")})
        with self._timed(FIT):
            recipe = Recipe.of(self._config)
            constants = {
                "round_id": request.round_id,
                "generation": None,
                "loss_name": recipe.loss,
                "fitted_at": request.now,
                "clock": request.clock,
                "batch_id": batch_id,
            }
            place = self._store.directory(tables.MODELS, self._kind.value)
            writing = ModelWriter(local_folder(place.uri), constants, self._config.fleet.shards)
            recipe_store.store_recipe(self._store, self._signer, recipe)
            fitting = fitter_of(self._store, self._signer, recipe, self._config.recipe, request)
            with unwrap_task_errors():
                # With what the parents of this round have got in it.
                own = None if recipe.pooling_rows is None else (self._kind, batch_id)
                plan = with_parents(plan, PlannedChampions(self._store, request.pins, own), recipe.pooling_rows)
                report = self._fit_and_write(plan, fitting, writing)
            kept = require_complete(request.round_id, len(plan), report)
            notes = {"recipe_id": recipe.recipe_id, "begin": part.begin, "end": part.end, "kept": kept}
            return _FittedPart(add_actions(report), notes)

    def _store_fit(self, fitted: _FittedPart, batch_id: int, part: Part) -> None:
        with self._timed(FIT):
            writer, notes = self._writers[FIT], fitted.notes
            writer.append_files(fitted.files, step=FIT, batch_id=batch_id, part=part.number, notes=notes)

    def _fit_and_write(self, plan: pd.DataFrame, fitting: spark_fitting.Fitter, writing: ModelWriter) -> pa.Table:
        """Fit and write the models of a plan. Returns the report, rows of REPORT_DDL."""
        if self._fits_locally:
            return pa.Table.from_batches(writing.write(local_fitting.fit_locally(requests_of(plan), fitting)))
        spark = self._spark if isinstance(self._spark, SparkSession) else self._spark()
        return fit_plan(spark, plan, fitting, TaskOutput(REPORT_DDL, writing.write)).toArrow()

    def _planned_groups(self, batch_id: int) -> pd.DataFrame:
        """The groups of the stored plan. A fleet's keys fit into memory."""
        request = self._request(batch_id)
        verdicts = self._stored_rows(tables.VERDICTS, list(VERDICT_COLUMNS), batch_id).to_pandas()
        return groups_to_fit(verdicts, parents_by_columns=request is not None and request.parents_by_columns)

    def _gate(self, request: RoundRequest, whole: pd.DataFrame, batch_id: int, part: Part) -> None:
        if self._writers[GATE].is_stored(GATE, batch_id, part.number):
            return
        with self._timed(GATE):
            plan = whole.iloc[part.begin : part.end]
            starts = range(0, len(plan), MAX_GATED_GROUPS)
            watch = round_gate.Watch.of(self._config.staleness.error_rise.patience, request.clock)
            parents = self._config.fleet.parents
            gate = round_gate.RoundGate(self._config.gate, _uncompared(self._kind, request), watch, parents)
            decided = [self._decisions(gate, plan.iloc[at : at + MAX_GATED_GROUPS], batch_id) for at in starts]
            rows = pa.concat_tables([round_gate.SCHEMA.empty_table(), *(table for table, _ in decided)])
            tally = sum((tally for _, tally in decided), AttemptTally())
            if (why := tally.reason_to_halt(self._config.gate.halt_share)) is not None:
                log.warning("%s: halted, no champion is replaced: %s", request.round_id, why)
                rows = promotion_halt.hold_replacements(rows, plan, why)
            require_kept(request.round_id, self._kept_count(batch_id, part), rows)
            constants = {
                "round_id": request.round_id,
                "decided_at": request.now,
                "clock": request.clock,
                "by": self._kind.value,
                "batch_id": batch_id,
            }
            self._writers[GATE].append(_with_constants(rows, constants), step=GATE, batch_id=batch_id, part=part.number)

    def _kept_count(self, batch_id: int, part: Part) -> int | None:
        """Number of groups of a part that were kept; None if its fit was stored by an earlier version."""
        fit = self._writers[FIT].last_commit(FIT)
        is_of_part = fit is not None and (fit.batch_id, fit.part) == (batch_id, part.number)
        return fit.notes.get("kept") if fit is not None and is_of_part else None

    def _decisions(
        self, gate: round_gate.RoundGate, plan: pd.DataFrame, batch_id: int
    ) -> tuple[pa.Table, AttemptTally]:
        """Return the gate's decisions about some groups of the plan, as rows of `promotions`, and counts of how their
        fits ended.
        """
        shards = (int(plan["shard"].min()), int(plan["shard"].max()))
        stored = gate_input.read_round_models(self._store, self._kind.value, batch_id, shards)
        is_of_plan = pc.is_in(stored.column("group_key"), value_set=pa.array(plan["group_key"], pa.string()))
        models = gate_input.with_other_path_epoch(stored.filter(is_of_plan), self._store, self._kind)
        decided = gate.decide_all(models, plan)
        if (with_holds := gate_input.with_held_since(models, self._store, decided)) is not None:
            decided = gate.decide_all(with_holds, plan)
        return decided, promotion_halt.tally_attempts(models, decided)

    def _record(self, request: RoundRequest, batch_id: int, untried: int = 0) -> FinishedRound:
        """Write the row of `rounds`. untried: groups of the plan that were not tried."""
        names = ["group_key", "decision", "challenger_loss", "champion_loss", "loss_name", "reason"]
        promotions = self._stored_rows(tables.PROMOTIONS, names, batch_id)
        fit = self._writers[FIT].last_commit(FIT)
        record = RoundRecord(
            request,
            self._kind,
            batch_id,
            self._stored_rows(tables.MODELS, ["group_key", "status", "fit_ms"], batch_id).to_pandas(),
            promotions.drop_columns("reason").to_pandas(),
            # Of the recipe that was fitted: the configuration may have been edited since.
            fit.notes["recipe_id"] if fit is not None and fit.batch_id == batch_id else None,
            dict(self._seconds),
            untried,
            promotion_halt.halt_of(promotions.column("reason")),
        )
        rows = pa.Table.from_pylist([record.row()], schema=arrow_schema(tables.ROUNDS))
        self._seconds.clear()
        self._writers[RECORD].append(rows, step=RECORD, batch_id=batch_id)
        return record.finished()

    def _stored_rows(self, base: Contract, columns: list[str], batch_id: int) -> pa.Table:
        """Columns of the rows that this round has stored in a table."""
        table = delta.open_table(self._store.directory(base, self._kind.value))
        if table is None:
            return arrow_schema(base).empty_table().select(columns)
        return delta.open_dataset(table).to_table(columns, filter=ds.field("batch_id") == batch_id)

    @contextmanager
    def _timed(self, step: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self._seconds[step] = self._seconds.get(step, 0.0) + time.perf_counter() - began


def _uncompared(kind: RoundKind, request: RoundRequest) -> UncomparedPolicy:
    """Return which models may be promoted without a comparison.

    A batch shows beforehand what cannot be compared, so that a person can decide; a stream cannot.
    """
    if request.unproven:
        return UncomparedPolicy.ALL
    return UncomparedPolicy.NONE if kind == RoundKind.STREAM else UncomparedPolicy.FORESEEN


def _with_constants(rows: DataFrame | pa.Table, constants: Mapping[str, Any]) -> DataFrame | pa.Table:
    """The rows with a column added for each constant."""
    if isinstance(rows, pa.Table):
        for name, value in constants.items():
            rows = rows.append_column(name, pa.array([value] * rows.num_rows))
        return rows
    frame: DataFrame = rows.withColumns({name: F.lit(value) for name, value in constants.items()})
    return frame
