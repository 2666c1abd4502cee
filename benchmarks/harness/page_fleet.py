"""A fleet of many groups as a week of the stream leaves it, for the fleet page: its tables and checkpoints, no Spark.

The first rounds are those of tests/support/many_groups.py, two weekly batches before the stream. Since then: a round
every three hours, health and answers of every group, groups that wait, a round under way, dead letters, batches of the
four queries.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from schemas import tables
from schemas.contract import Contract
from schemas.vocabulary import QueryName
from spinney.core import keys
from spinney.core.config import Config
from spinney.retraining.round_request import RoundRequest
from spinney.storage.layout import Directory, FleetStore
from spinney.storage.reported_offsets import SeenOffsets, write_seen_offsets
from spinney.tables import delta
from spinney.tables.arrow_schemas import arrow_schema
from spinney.tables.clustered_files.append_layout import append_rows

sys.path.append(str(Path(__file__).parents[2] / "tests" / "support"))
import many_groups

key_of = many_groups.key_of

DAYS = 7
"""Days of the stream until now."""

ROUND_HOURS, STEP_HOURS = 3, 6
"""Hours between rounds, and between rows of health of a group."""

SHARE = 0.012
"""Share of the groups in a round of the stream."""

RANDOM_SHARE = 0.1
"""Share of a round's groups that are drawn at random. The gain from retraining is measured on them."""


class Stream:
    """What a week of the stream left in the tables. now: when it ends."""

    def __init__(self, config: Config, groups: int, now: datetime) -> None:
        self.config, self.groups, self.now = config, groups, now
        self.began = now - timedelta(days=DAYS)
        self.keys = pa.array([many_groups.key_of(n) for n in range(groups)])
        self.shards = pa.array([keys.shard_of(key, many_groups.SHARDS) for key in self.keys.to_pylist()], pa.int32())
        self.random = np.random.default_rng(11)
        self.level = self.random.lognormal(2, 0.5, groups)
        self.promoted_by = np.full(groups, -1)  # number of the stream's round that promoted the champion

    def write(self) -> None:
        """Write all tables."""
        for number in range(DAYS * 24 // ROUND_HOURS):
            self._put_round(number)
        self._put_health()
        self._put_events_and_predictions()
        self._put_waiting()
        self._put_round_under_way()
        self._put_dead_letters()
        self._put_checkpoints()

    def put(self, base: Contract, part: str, rows: int, known: Mapping[str, Any]) -> None:
        """Append columns; a value that is no array is repeated, and columns not named are null."""
        place = FleetStore.of(self.config).directory(base, part)
        append_rows(place.uri, self._table(place, rows, known))

    def _table(self, place: Directory, rows: int, known: Mapping[str, Any]) -> pa.Table:
        """Rows of a table, as for `put`."""
        schema = arrow_schema(place.contract)
        columns = []
        for field in schema:
            value = known.get(field.name)
            if not isinstance(value, pa.Array | pa.ChunkedArray | np.ndarray | list):
                value = [value] * rows
            is_array = isinstance(value, pa.Array | pa.ChunkedArray)
            columns.append(value.cast(field.type) if is_array else pa.array(value, field.type))
        return pa.Table.from_arrays(columns, schema=schema)

    def of_groups(self, group: np.ndarray) -> dict[str, Any]:
        """The columns that name groups."""
        return {"shard": self.shards.take(pa.array(group)), "group_key": self.keys.take(pa.array(group))}

    def _put_round(self, number: int) -> None:
        at = self.began + timedelta(hours=ROUND_HOURS * number + 1)
        group = np.sort(self.random.choice(self.groups, max(2, int(self.groups * SHARE)), replace=False))
        n = len(group)
        loss = self.level[group] * self.random.uniform(0.7, 1.0, n)
        worse = self.random.random(n) < 0.12
        before = np.where(worse, loss * 0.9, loss * self.random.uniform(1.02, 1.6, n))
        self.level[group] = np.where(worse, self.level[group], loss)
        of_round = {"round_id": f"stream-{number}", "batch_id": number, "clock": at, "rows": 60, "fit_ms": 0.2}
        policy = self.random.choice(["new_rows", "error_rise", "max_age"], n, p=[0.5, 0.2, 0.3]).tolist()
        names = [many_groups.model_id(n, number + 2) for n in group.tolist()]
        made = many_groups.payloads(group, self.keys, number + 2)
        common = {**self.of_groups(group), **of_round, "model_id": names, "fitted_at": at, "trained_through": at}
        reason = {"new_rows": "214 new rows since the last fit (limit 200)", "max_age": "7 d since the last attempt"}
        risen = "evidence of a risen error is 1.31 (limit 1: a false alarm per 365 d at most)"
        said = [reason.get(name, risen) for name in policy]
        queues = np.where(self.random.random(n) < RANDOM_SHARE, "random", "rank").tolist()
        decided = {"decision": "fit", "policy": policy, "reason": said, "judged_at": at, "predicted_ms": 0.2}
        decided["numbers"] = [f'{{"queue":"{queue}"}}' for queue in queues]
        self.put(tables.VERDICTS, "stream", n, {**common, **decided})
        constant = loss * self.random.lognormal(0.7, 0.35, n)
        metrics = [
            json.dumps({"challenger_loss": a, "constant_loss": b, "heldout_rows": 12, **watched})
            for a, b, watched in zip(loss.tolist(), constant.tolist(), self._watched(group, before), strict=True)
        ]
        self.promoted_by[group[~worse]] = number
        fitted = {"status": "fitted", "recipe_id": "5" * 64, "metrics": metrics, "trained_from": self.began}
        self.put(tables.MODELS, "stream", n, {**common, **fitted, **made})
        decision = np.where(worse, "refused", "promoted").tolist()
        texts = [f"loss {a:.4g} against {b:.4g} on 12 rows" for a, b in zip(loss, before, strict=True)]
        losses = {"challenger_loss": loss, "champion_loss": before, "rows_compared": 12, "reason": texts}
        self.put(
            tables.PROMOTIONS,
            "stream",
            n,
            {**common, **losses, **made, "decision": decision, "epoch": 0, "by": "stream", "decided_at": at},
        )
        counts = {
            "kind": "stream",
            "groups_in": n,
            "fitted": n,
            "promoted": int((~worse).sum()),
            "refused": int(worse.sum()),
        }
        counts |= dict.fromkeys(("failed", "too_few_rows", "kept", "deferred", "unproven", "held"), 0)
        totals = {
            "mean_champion_loss": float(before.mean()),
            "mean_challenger_loss": float(loss.mean()),
            "budget_seconds": 60.0,
        }
        seconds = json.dumps({"plan": 0.8, "fit": round(n / 90, 1), "gate": 1.1})
        reasons = json.dumps({name: policy.count(name) for name in sorted(set(policy))})
        self.put(
            tables.ROUNDS,
            "stream",
            1,
            {**of_round, **counts, **totals, "seconds": seconds, "reasons": reasons, "started_at": at},
        )

    def _watched(self, group: np.ndarray, losses: np.ndarray) -> list[dict[str, Any]]:
        """The metrics that compare each champion that the stream promoted with the model before it."""
        gains = self.random.normal(1.05, 0.2, len(group))
        return [
            {
                "champion_id": many_groups.model_id(number, promoted_by + 2), "watched_rows": 12,
                "watched_champion_loss": loss, "predecessor_loss": loss * gain,
            } if promoted_by >= 0 else {}
            for number, promoted_by, loss, gain in zip(
                group.tolist(), self.promoted_by[group].tolist(), losses.tolist(), gains.tolist(), strict=True
            )
        ]  # fmt: skip

    def _put_health(self) -> None:
        group = np.arange(self.groups)
        for step in range(DAYS * 24 // STEP_HOURS):
            at = self.began + timedelta(hours=STEP_HOURS * (step + 1))
            drift = 1 + 0.5 * max(0, step - 18) / 10 * (group % 7 == 0)
            mean = self.level * drift * self.random.lognormal(0, 0.15, self.groups)
            sums = {"rows": 4, "labelled": 4, "loss": mean * 4, "squared_loss": mean**2 * 5, "model_id": "m" * 64}
            times = {"last_event_time": at, "observed_on": at.date(), "batch_id": step}
            self.put(tables.HEALTH, "score", self.groups, {**self.of_groups(group), **sums, **times})

    def _put_events_and_predictions(self) -> None:
        group = np.arange(self.groups)
        history = {"event_id": self.keys, "topic": "load:history.parquet", "event_time": self.began}
        ingested = {"ingested_at": self.began, "ingested_on": self.began.date(), "batch_id": -1}
        place = {"kafka_partition": 0, "kafka_offset": group}
        self.put(tables.EVENTS, "", self.groups, {**self.of_groups(group), **history, **place, **ingested})
        for step in range(20):
            at = self.now - timedelta(hours=4 * (19 - step), minutes=1)
            label = 40 + 10 * np.sin(step / 3) + self.random.normal(0, 2, self.groups)
            answer = label + self.random.normal(0, 3, self.groups)
            ids = pc.binary_join_element_wise(pa.array(group).cast(pa.string()), str(step), "-")
            event = {**self.of_groups(group), "event_id": ids, "event_time": at, "topic": "sales", "batch_id": step}
            ingested = {"ingested_at": at, "ingested_on": at.date()}
            self.put(tables.EVENTS, "", self.groups, {**event, **place, **ingested})
            said = {"prediction": answer, "lower": answer - 5, "upper": answer + 5, "label": label}
            said |= {"answered_by": "own", "model_id": "3f9c2a7e" * 8}
            scored = {"scored_at": at + timedelta(seconds=4), "scored_on": at.date()}
            self.put(tables.PREDICTIONS, "", self.groups, {**event, **place, **said, **scored})

    def _put_waiting(self) -> None:
        group = np.flatnonzero(np.arange(self.groups) % 37 == 5)
        at = self.now - timedelta(minutes=4)
        since = [at - timedelta(minutes=int(n)) for n in self.random.integers(0, 600, len(group))]
        said = {"decision": "deferred", "policy": "max_age", "reason": "7 d 1 h since the last attempt; no budget left"}
        times = {"judged_at": at, "clock": at, "stale_since": since, "predicted_ms": 0.2, "round_id": "stream-99"}
        self.put(tables.VERDICTS, "stream", len(group), {**self.of_groups(group), **said, **times, "batch_id": 99})

    def _put_round_under_way(self) -> None:
        """The plan of a round, which is the newest step of its directory, and a third of its attempts."""
        group = np.flatnonzero(np.arange(self.groups) % 97 == 11)
        at, name, n = self.now - timedelta(seconds=20), "stream-100", len(group)
        of_round = {"round_id": name, "batch_id": 100, "clock": at}
        said = {"decision": "fit", "policy": "max_age", "reason": "7 d 2 h since the last attempt", "judged_at": at}
        place = FleetStore.of(self.config).directory(tables.VERDICTS, "stream")
        request = RoundRequest(name, n, 0, {"max_age": n}, at, at, 60.0, n * 0.2e-3, {})
        table = self._table(place, n, {**self.of_groups(group), **of_round, **said, "epoch": 0, "predicted_ms": 0.2})
        delta.DirectoryWriter(place, QueryName.RETRAIN.value, "c1").append(
            table, step="plan", batch_id=100, notes=request.notes()
        )
        tried = group[: n // 3]
        made = many_groups.payloads(tried, self.keys, 100)
        names = [many_groups.model_id(number, 100) for number in tried.tolist()]
        fitted = {"status": "fitted", "recipe_id": "5" * 64, "rows": 60, "fit_ms": 0.2, "fitted_at": at}
        attempts = {**self.of_groups(tried), **of_round, **fitted, "trained_from": self.began, "trained_through": at}
        self.put(tables.MODELS, "stream", len(tried), {**attempts, "model_id": names, **made})

    def _put_dead_letters(self) -> None:
        for n, (reason, field, detail, value) in enumerate(LETTERS):
            count = 40 // (n + 1)
            place = {"topic": "sales", "kafka_partition": 0, "kafka_offset": list(range(n * 100, n * 100 + count))}
            said = {"reason": reason, "field": field, "detail": detail, "value": value, "key": b'["s000123"]'}
            at = self.now - timedelta(hours=n + 1)
            self.put(tables.DEAD_LETTERS, "", count, {**place, **said, "ingested_at": at, "batch_id": n})

    def _put_checkpoints(self) -> None:
        root = Path(self.config.storage.root) / "checkpoints"
        for name, seconds in (("ingest", 1.4), ("score", 2.2), ("labels", 3.1), ("retrain", 6.0)):
            for log in ("offsets", "commits"):
                (root / name / log).mkdir(parents=True, exist_ok=True)
            for n in range(60):
                at = self.now.timestamp() - (60 - n) * 10
                metadata = {"batchTimestampMs": int(at * 1000), "batchWatermarkMs": 0}
                topic = json.dumps({"sales": {"0": 1_000 * n}}) if name in ("ingest", "score") else "-"
                (root / name / "offsets" / str(n)).write_text(f"v1\n{json.dumps(metadata)}\n{topic}")
                file = root / name / "commits" / str(n)
                file.write_text("v1\n{}")
                ends = at + seconds * float(self.random.lognormal(0, 0.25))
                os.utime(file, (ends, ends))
        store = FleetStore.of(self.config)
        for name in ("ingest", "score"):
            write_seen_offsets(store, name, SeenOffsets(self.now, {"sales": {"0": 59_000 + 1_250}}))


LETTERS = (
    ("wrong_type", "sold", "expected a double; got the text 'n/a'", b'{"shop": "s000123", "id": "77", "sold": "n/a"}'),
    ("not_json", None, "expected JSON; got '<html>'", b"<html><script>alert(1)</script></html>"),
    ("missing_field", "at", "expected a value; got null", b'{"shop": "s000123", "id": "78", "at": null}'),
)


def make_fleet(folder: Path, groups: int) -> Config:
    """Write the fleet, and return its configuration."""
    now = datetime.now(UTC)
    many_groups.START = now - timedelta(days=DAYS + 14)
    config = many_groups.write_fleet(folder, groups, events=0)
    (Path(config.storage.root) / "signing.key").write_text(many_groups.KEY)
    Stream(config, groups, now).write()
    return config
