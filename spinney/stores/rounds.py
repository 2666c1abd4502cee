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

import pyarrow as pa
import pyarrow.dataset as ds
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from schemas import tables
from schemas.contract import Contract
from schemas.vocabulary import Decision, ModelStatus, RoundKind, Staleness
from spinney.core.config import Config
from spinney.core.recipe import Recipe
from spinney.core.signing import Signer
from spinney.stores import delta, fitter, training
from spinney.stores.delta import Writer
from spinney.stores.gating import gated
from spinney.stores.layout import directory
from spinney.stores.spark import cores_of
from spinney.stores.validity import shard

PLAN, FIT, GATE, RECORD = "plan", "fit", "gate", "record"
READ = (tables.EVENTS, tables.OUTCOMES, tables.MODELS)
"""The tables that a round reads as of its pins."""


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
        query = "retrain" if kind == RoundKind.STREAM else "weekly"
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

    def plan(self, verdicts: DataFrame, ordered: Ordered, batch_id: int) -> None:
        """Store the plan. verdicts: columns of `verdicts` but for round_id, pins and batch_id."""
        rows = verdicts.withColumns(
            {
                "round_id": F.lit(ordered.round_id),
                "pins": F.lit(json.dumps(dict(ordered.pins), separators=(",", ":"))),
                "batch_id": F.lit(batch_id).cast("bigint"),
            }
        )
        with self._timed(PLAN):
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
        asked = self._asked(batch_id).persist()
        try:
            rows = training.rows(self._spark, self._config, asked, ordered.pins, ordered.clock)
            recipe = Recipe.of(self._config)
            fitting = fitter.Fitter(recipe, self._signer, ordered.clock)
            fitted = fitter.fit(rows, self._asks(asked, ordered.pins), fitting, cores_of(self._spark))
            models = fitted.filter(F.col("status") != fitter.KEPT).withColumns(
                {
                    "shard": F.expr(shard(self._config)),
                    "round_id": F.lit(ordered.round_id),
                    "generation": F.lit(None).cast("bigint"),
                    "fitted_at": F.lit(ordered.now),
                    "clock": F.lit(ordered.clock),
                    "batch_id": F.lit(batch_id).cast("bigint"),
                }
            )
            self._writers[FIT].append(models, step=FIT, batch_id=batch_id)
        finally:
            asked.unpersist()

    def _asked(self, batch_id: int) -> DataFrame:
        """The groups of the plan: shard, group_key, model_id (the champion then), epoch, pinned."""
        plan = delta.frame(self._spark, directory(self._config, tables.VERDICTS, self._kind.value))
        mine = plan.filter((F.col("batch_id") == batch_id) & (F.col("decision") == Staleness.FIT.value))
        pinned = F.coalesce(F.get_json_object("numbers", "$.pinned") == "true", F.lit(False))
        return mine.select("shard", "group_key", "model_id", "epoch", pinned.alias("pinned"))

    def _asks(self, asked: DataFrame, pins: Mapping[str, int]) -> DataFrame:
        """With the champions' payloads, where there are champions."""
        models = delta.union(self._spark, self._config, tables.MODELS, pins)
        champions = models.join(
            F.broadcast(asked.select("group_key", "model_id")), ["group_key", "model_id"], "leftsemi"
        )
        champions = champions.dropDuplicates(["group_key", "model_id"]).select(
            "group_key",
            F.col("model_id").alias("champion_id"),
            F.col("codec").alias("champion_codec"),
            F.col("payload").alias("champion_payload"),
            F.col("signature").alias("champion_signature"),
            F.col("trained_through").alias("champion_trained_through"),
        )
        return asked.select("group_key").join(champions, "group_key", "left")

    def _gate(self, ordered: Ordered, batch_id: int) -> None:
        if self._writers[GATE].done(GATE, batch_id):
            return
        models = delta.frame(self._spark, directory(self._config, tables.MODELS, self._kind.value))
        mine = models.filter(F.col("batch_id") == batch_id)
        promotions = gated(self._asked(batch_id), mine, self._config.gate).withColumns(
            {
                "round_id": F.lit(ordered.round_id),
                "decided_at": F.lit(ordered.now),
                "clock": F.lit(ordered.clock),
                "by": F.lit(self._kind.value),
                "batch_id": F.lit(batch_id).cast("bigint"),
            }
        )
        self._writers[GATE].append(promotions, step=GATE, batch_id=batch_id)

    def _record(self, ordered: Ordered, batch_id: int) -> None:
        if self._writers[RECORD].done(RECORD, batch_id):
            return
        status = _counts(self._stored(tables.MODELS, ["status"], batch_id).column("status"))
        promotions = self._stored(tables.PROMOTIONS, ["decision", "challenger_loss", "champion_loss"], batch_id)
        decision = _counts(promotions.column("decision"))
        compared = promotions.to_pandas().dropna(subset=["challenger_loss", "champion_loss"])
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
            "recipe_id": Recipe.of(self._config).recipe_id,
            "batch_id": batch_id,
        }
        self._seconds.clear()
        rows = self._spark.createDataFrame([tuple(row[name] for name in tables.ROUNDS.names)], tables.ROUNDS.ddl)
        self._writers[RECORD].append(rows, step=RECORD, batch_id=batch_id)

    def _stored(self, base: Contract, columns: list[str], batch_id: int) -> pa.Table:
        """A few columns of what this round has stored, read without a Spark job."""
        table = delta.opened(self._config, directory(self._config, base, self._kind.value))
        if table is None:
            return pa.table({name: [] for name in columns})
        return table.to_pyarrow_dataset().to_table(columns, filter=ds.field("batch_id") == batch_id)

    @contextmanager
    def _timed(self, step: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self._seconds[step] = time.perf_counter() - began


def _counts(values: Iterable[Any]) -> Counter[str]:
    return Counter(value.as_py() for value in values)
