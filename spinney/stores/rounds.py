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
or to the configuration meanwhile.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from schemas import tables
from schemas.contract import Contract
from schemas.vocabulary import Decision, ModelStatus, QueryName, RoundKind, Staleness
from spinney.core.config import Config
from spinney.core.recipe import Recipe
from spinney.core.signing import Signer
from spinney.stores import delta, fitter, gating, payloads, training
from spinney.stores.arrow import arrow_schema
from spinney.stores.delta import Writer
from spinney.stores.layout import directory
from spinney.stores.spark import cores_of
from spinney.stores.validity import shard

PLAN, FIT, GATE, RECORD = "plan", "fit", "gate", "record"
FEW = 20_000
"""Groups that are decided about in this process; more go to Spark's workers."""

_ASKED_DDL = "shard int, group_key string, incumbent_id string"
READ = (tables.EVENTS, tables.OUTCOMES)
"""The tables that a round reads as of its pins; of `models` it reads champions, which never change, by their ids."""


@dataclass(frozen=True)
class Ordered:
    """What a round was ordered to do: the notes of its plan's commit, so a replay needs no other source.

    groups_in: groups found stale or asked for; deferred: of them, left for later. clock: the fleet's; now: the wall's.
    """

    round_id: str
    groups_in: int
    deferred: int
    reasons: Mapping[str, int]
    clock: datetime
    now: datetime
    budget_seconds: float | None
    predicted_seconds: float
    pins: Mapping[str, int]

    def notes(self) -> dict[str, Any]:
        return {**self.__dict__, "clock": self.clock.isoformat(), "now": self.now.isoformat()}

    @classmethod
    def of_notes(cls, notes: Mapping[str, Any]) -> Ordered:
        times = {name: datetime.fromisoformat(notes[name]) for name in ("clock", "now")}
        return cls(**{**notes, **times})


class Rounds:
    """The rounds of one path, and the writers of its directories."""

    def __init__(self, spark: SparkSession, config: Config, signer: Signer, kind: RoundKind, checkpoint: str) -> None:
        self._spark = spark
        self._config = config
        self._signer = signer
        self._kind = kind
        query = (QueryName.RETRAIN if kind == RoundKind.STREAM else QueryName.WEEKLY).value
        bases = {PLAN: tables.VERDICTS, FIT: tables.MODELS, GATE: tables.PROMOTIONS, RECORD: tables.ROUNDS}
        self._writers = {
            step: Writer(config, directory(config, base, kind.value), query, checkpoint) for step, base in bases.items()
        }
        self._seconds: dict[str, float] = {}

    def planned(self, batch_id: int) -> bool:
        return self._writers[PLAN].done(PLAN, batch_id)

    def unfinished(self) -> int | None:
        """The batch whose plan is stored but whose round is not recorded; None when the last one ended."""
        plan = self._writers[PLAN].last(PLAN)
        if plan is None or self._writers[RECORD].done(RECORD, plan.batch_id) or not plan.notes["groups_in"]:
            return None
        return plan.batch_id

    def next_batch(self) -> int:
        """The number of a new batch, for a path whose batches nobody else numbers."""
        plan = self._writers[PLAN].last(PLAN)
        return 0 if plan is None else plan.batch_id + 1

    def plan(self, verdicts: DataFrame | pa.Table, ordered: Ordered, batch_id: int) -> None:
        """Store the plan. verdicts: columns of `verdicts` but for round_id, pins and batch_id."""
        constants = {
            "round_id": ordered.round_id,
            "pins": json.dumps(dict(ordered.pins), separators=(",", ":")),
            "batch_id": batch_id,
        }
        with self._timed(PLAN):
            rows = _with(verdicts, constants)
            self._writers[PLAN].append(rows, step=PLAN, batch_id=batch_id, notes=ordered.notes())

    def carry_out(self, batch_id: int) -> Ordered | None:
        """Everything after the plan. Returns what was ordered; None when nothing was planned for this batch."""
        commit = self._writers[PLAN].last(PLAN)
        if commit is None or commit.batch_id != batch_id:
            return None
        ordered = Ordered.of_notes(commit.notes)
        if ordered.groups_in == 0:
            return None
        with self._timed(FIT):
            self._fit(ordered, batch_id)
        with self._timed(GATE):
            self._gate(ordered, batch_id)
        self._record(ordered, batch_id)
        return ordered

    def _fit(self, ordered: Ordered, batch_id: int) -> None:
        if self._writers[FIT].done(FIT, batch_id):
            return
        plan = self._planned(batch_id)
        asked = self._spark.createDataFrame(plan[["shard", "group_key", "incumbent_id"]], _ASKED_DDL)
        wanted = training.Wanted(asked, training.levels_of(self._config, plan["group_key"]))
        rows = training.rows(self._spark, self._config, wanted, ordered.pins, ordered.clock)
        recipe = Recipe.of(self._config)
        fitting = fitter.Fitter(recipe, self._signer, ordered.clock)
        asks = payloads.asks(self._spark, self._config, plan, asked)
        fitted = fitter.fit(rows, asks, fitting, cores_of(self._spark)).filter(F.col("status") != fitter.KEPT)
        models = _with(
            fitted.withColumn("shard", F.expr(shard(self._config))),
            {
                "round_id": ordered.round_id,
                "generation": None,
                "fitted_at": ordered.now,
                "clock": ordered.clock,
                "batch_id": batch_id,
            },
        )
        self._writers[FIT].append(models, step=FIT, batch_id=batch_id, notes={"recipe_id": recipe.recipe_id})

    def _planned(self, batch_id: int) -> pd.DataFrame:
        """The groups of the stored plan: gating.ASKED. Keys and ids only, so even a large fleet's fits here."""
        columns = ["shard", "group_key", "model_id", "epoch", "numbers", "decision"]
        plan = self._stored(tables.VERDICTS, columns, batch_id).to_pandas()
        plan = plan[plan["decision"] == Staleness.FIT.value].rename(columns={"model_id": "incumbent_id"})
        plan["pinned"] = [bool(json.loads(numbers or "{}").get("pinned")) for numbers in plan["numbers"]]
        asked: pd.DataFrame = plan[list(gating.ASKED)].reset_index(drop=True)
        return asked

    def _gate(self, ordered: Ordered, batch_id: int) -> None:
        if self._writers[GATE].done(GATE, batch_id):
            return
        plan, deciding = self._planned(batch_id), gating.Gating(self._config.gate)
        rows: DataFrame | pa.Table
        if len(plan) <= FEW:
            models = payloads.with_small_payloads(self._config, self._kind.value, batch_id)
            decided = deciding.decided(models.to_pandas(), plan)
            schema = pa.schema([arrow_schema(tables.PROMOTIONS).field(name) for name in gating.COLUMNS])
            rows = pa.Table.from_pandas(decided, schema=schema, preserve_index=False)
        else:
            models = delta.frame(self._spark, directory(self._config, tables.MODELS, self._kind.value))
            asked = self._spark.createDataFrame(plan)
            rows = deciding.decided_by_spark(models.filter(F.col("batch_id") == batch_id), asked)
        constants = {
            "round_id": ordered.round_id,
            "decided_at": ordered.now,
            "clock": ordered.clock,
            "by": self._kind.value,
            "batch_id": batch_id,
        }
        self._writers[GATE].append(_with(rows, constants), step=GATE, batch_id=batch_id)

    def _record(self, ordered: Ordered, batch_id: int) -> None:
        if self._writers[RECORD].done(RECORD, batch_id):
            return
        status = _counts(self._stored(tables.MODELS, ["status"], batch_id).column("status"))
        promotions = self._stored(tables.PROMOTIONS, ["decision", "challenger_loss", "champion_loss"], batch_id)
        decision = _counts(promotions.column("decision"))
        compared = promotions.to_pandas().dropna(subset=["challenger_loss", "champion_loss"])
        fit = self._writers[FIT].last(FIT)
        row = {
            "round_id": ordered.round_id,
            "kind": self._kind.value,
            "groups_in": ordered.groups_in,
            "fitted": status[ModelStatus.FITTED],
            "failed": status[ModelStatus.FAILED] + status[ModelStatus.TIMED_OUT],
            "too_few_rows": status[ModelStatus.TOO_FEW_ROWS],
            "kept": decision[Decision.KEPT],
            "deferred": ordered.deferred,
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
        self._seconds.clear()
        rows = pa.Table.from_pylist([row], schema=arrow_schema(tables.ROUNDS))
        self._writers[RECORD].append(rows, step=RECORD, batch_id=batch_id)

    def _stored(self, base: Contract, columns: list[str], batch_id: int) -> pa.Table:
        """A few columns of what this round has stored, read without a Spark job."""
        table = delta.opened(self._config, directory(self._config, base, self._kind.value))
        if table is None:
            return pa.table({name: [] for name in columns})
        return delta.dataset(table).to_table(columns, filter=ds.field("batch_id") == batch_id)

    @contextmanager
    def _timed(self, step: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self._seconds[step] = time.perf_counter() - began


def _with(rows: DataFrame | pa.Table, constants: Mapping[str, Any]) -> DataFrame | pa.Table:
    """The rows with these columns added, each with one value."""
    if isinstance(rows, pa.Table):
        for name, value in constants.items():
            rows = rows.append_column(name, pa.array([value] * rows.num_rows))
        return rows
    frame: DataFrame = rows.withColumns({name: F.lit(value) for name, value in constants.items()})
    return frame


def _counts(values: Iterable[Any]) -> Counter[str]:
    return Counter(value.as_py() for value in values)
