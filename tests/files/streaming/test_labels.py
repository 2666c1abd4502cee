"""Batches of `labels` over real tables, with the offsets that Spark would have written, and an index that gets lost."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from handwritten_history import fleet_toml
from new_tables import create_tables
from started_batches import start_batch

from schemas import tables
from schemas.contract import Contract
from spinney.core.config import Config, parse
from spinney.core.errors import StoreError
from spinney.storage import step_observer
from spinney.storage.layout import FleetStore
from spinney.tables import delta
from spinney.tables.arrow_schemas import arrow_schema
from streaming import label_recovery, labels
from streaming.label_rows import OUTCOME_COLUMNS, index_shape, prediction_columns
from streaming.labels import IS_OUTCOME, LabelsBatchWriter

NOW = datetime.now(UTC).replace(microsecond=0)
KEY = '["a","1"]'
WRITERS = {tables.PREDICTIONS: ("score", "predictions"), tables.OUTCOMES: ("ingest", "outcomes")}


class Killed(BaseException):
    """Ends a batch as a kill does: nothing after it happens."""


@dataclass(frozen=True)
class Rows:
    """A batch of Spark."""

    table: pa.Table

    def toArrow(self) -> pa.Table:  # noqa: N802 - Spark's name
        return self.table


def config(tmp_path: Path, *changes: tuple[str, str]) -> Config:
    text = fleet_toml(tmp_path / "root", kafka='outcomes = "sold"\nlabel_horizon = "1h"')
    for before, after in changes:
        assert before in text
        text = text.replace(before, after)
    return parse(text, "fleet.toml", {})


@dataclass
class Fleet:
    """Tables that other queries append to, and the query that reads them. minute: after NOW, minus a day.

    versions: the next one of each table. reads_snapshot: whether the query reads the files by which its stream begins.
    """

    config: Config
    batch_id: int = -1
    versions: dict[Contract, int] = field(default_factory=lambda: dict.fromkeys(WRITERS, 1))
    appended: int = 0
    reads_snapshot: bool = False

    def __post_init__(self) -> None:
        create_tables(self.store)
        self.restart()

    @property
    def store(self) -> FleetStore:
        return FleetStore.of(self.config)

    @property
    def index(self) -> Path:
        return Path(self.store.checkpoint("labels")) / labels.INDEX_FOLDER

    def restart(self) -> None:
        self.write = LabelsBatchWriter(self.store, index_shape(self.store, self.config.kafka), "c")

    def append(self, contract: Contract, minute: int, values: dict[str, float]) -> pa.Table:
        """A commit of the writing query: event -> prediction or label."""
        at, directory = at_minute(minute), self.store.directory(contract)
        same = {"shard": 3, "group_key": KEY, "topic": "t", "kafka_partition": 0, "batch_id": self.appended}
        own = (
            {"event_time": at, "scored_at": at, "scored_on": at.date(), "answered_by": "own", "model_id": "m"}
            if contract is tables.PREDICTIONS
            else {"observed_at": at, "ingested_at": at}
        )
        name = "prediction" if contract is tables.PREDICTIONS else "label"
        rows = [
            {**same, **own, "event_id": event, "kafka_offset": n, name: value}
            for n, (event, value) in enumerate(values.items())
        ]
        table = pa.Table.from_pylist(rows, schema=arrow_schema(directory.contract))
        query, step = WRITERS[contract]
        if rows:
            delta.DirectoryWriter(directory, query, "c").append(table, step=step, batch_id=self.appended)
            self.versions[contract] += 1
        self.appended += 1
        return table

    def batch(
        self,
        minute: int,
        made: dict[str, float],
        observed: dict[str, float],
        *,
        made_at: int | None = None,
        observed_at: int | None = None,
        killed_at: str = "",
    ) -> None:
        """What was appended since the last batch, in a batch of this query. made_at, observed_at: other times of it."""
        answers = self.append(tables.PREDICTIONS, minute if made_at is None else made_at, made)
        outcomes = self.append(tables.OUTCOMES, minute if observed_at is None else observed_at, observed)
        self.read(minute, answers, outcomes, killed_at)

    def read(self, minute: int, answers: pa.Table, outcomes: pa.Table, killed_at: str = "") -> None:
        """A batch of this query with these rows."""
        shape = index_shape(self.store, self.config.kafka)
        parts = (answers.select(prediction_columns(shape)), outcomes.select(OUTCOME_COLUMNS))
        rows = pa.concat_tables(
            [part.append_column(IS_OUTCOME, pa.array([n == 1] * len(part))) for n, part in enumerate(parts)],
            promote_options="default",
        )
        self.batch_id += 1
        self.write_offsets(minute)
        if killed_at:
            with step_observer.observed_by(killing_at(killed_at)), pytest.raises(Killed):
                self.write(Rows(rows), self.batch_id)
            self.restart()
        self.write(Rows(rows), self.batch_id)

    def write_offsets(self, minute: int) -> None:
        place = Path(self.store.checkpoint("labels")) / "offsets"
        place.mkdir(parents=True, exist_ok=True)
        times = {"batchTimestampMs": int(at_minute(minute).timestamp() * 1000), "batchWatermarkMs": 0}
        ends = [self.offset(version) for version in self.versions.values()]
        (place / str(self.batch_id)).write_text("\n".join(["v1", *map(json.dumps, [times, *ends])]))

    def offset(self, version: int) -> dict[str, object]:
        """version: the next one. Each has a file."""
        same = {"sourceVersion": 1, "reservoirId": "t"}
        if self.reads_snapshot:
            return {**same, "reservoirVersion": version - 1, "index": version - 2, "isStartingVersion": True}
        return {**same, "reservoirVersion": version, "index": -1, "isStartingVersion": False}

    def losses(self) -> list[float]:
        """Of all labels that were joined, sorted."""
        rows = delta.read_table(self.store, tables.HEALTH).to_pylist()
        found = [row["losses"] if row["losses"] is not None else [row["loss"]] for row in rows]
        assert sum(row["labelled"] for row in rows) == sum(map(len, found))
        assert {(row["rows"], row["shard"], row["model_id"]) for row in rows} <= {(0, 3, "m")}
        return sorted(loss for losses in found for loss in losses)


def at_minute(minute: int) -> datetime:
    return NOW - timedelta(days=1) + timedelta(minutes=minute)


def killing_at(point: str) -> step_observer.StepObserver:
    def kill(step: str, batch_id: int) -> None:
        if step == point:
            raise Killed

    return kill


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    return Fleet(config(tmp_path))


@pytest.mark.parametrize("killed_at", ["", "labels.health", "labels.index"])
def test_a_label_is_counted_once_in_either_order_of_arrival_also_after_a_kill(fleet: Fleet, killed_at: str) -> None:
    fleet.batch(0, {"late": 1.0, "never": 0.0}, {"early": 10.0})
    fleet.batch(30, {"early": 8.0, "both": 5.0}, {"late": 5.0, "both": 8.0, "unknown": 1.0}, killed_at=killed_at)
    fleet.batch(40, {}, {"late": 7.0, "early": 1.0})
    assert fleet.losses() == [2.0, 3.0, 4.0]


def test_a_batch_without_labels_writes_no_commit(fleet: Fleet) -> None:
    before = delta.current_version(fleet.store.directory(tables.HEALTH, "labels"))
    fleet.batch(0, {"a": 1.0}, {"b": 2.0})
    assert delta.current_version(fleet.store.directory(tables.HEALTH, "labels")) == before


@pytest.mark.parametrize(("minutes", "counts"), [(60, True), (61, False)])
def test_the_times_in_the_rows_decide_and_not_when_the_query_ran(fleet: Fleet, minutes: int, counts: bool) -> None:
    fleet.batch(0, {"a": 1.0}, {})
    fleet.restart()
    fleet.batch(minutes, {}, {"a": 3.0})
    assert fleet.losses() == ([2.0] if counts else [])


@pytest.mark.parametrize("is_repeated", [True, False])
def test_a_prediction_is_kept_for_labels_of_a_batch_that_will_be_repeated(fleet: Fleet, is_repeated: bool) -> None:
    """`ingest` was killed in a batch, and repeats it ten hours later, with its timestamp."""
    fleet.batch(0, {"a": 1.0}, {})
    location = start_batch(fleet.store, "ingest", 0, at_minute(30))
    if not is_repeated:
        (Path(location) / "commits").mkdir()
        (Path(location) / "commits" / "0").touch()
    fleet.batch(600, {"b": 1.0}, {})
    fleet.batch(601, {}, {"a": 3.0}, observed_at=30)
    assert fleet.losses() == ([2.0] if is_repeated else [])


def test_a_prediction_is_kept_for_labels_that_are_stored_and_not_read(fleet: Fleet) -> None:
    """`--once` reads up to where the tables ended when it began, which may be hours ago."""
    fleet.batch(0, {"a": 1.0}, {})
    unread = fleet.append(tables.OUTCOMES, 30, {"a": 3.0})
    fleet.versions[tables.OUTCOMES] -= 1
    fleet.batch(600, {"b": 1.0}, {})
    fleet.versions[tables.OUTCOMES] += 1
    fleet.read(601, fleet.append(tables.PREDICTIONS, 601, {}), unread)
    assert fleet.losses() == [2.0]


@pytest.mark.parametrize("is_lost", [False, True])
def test_no_prediction_is_forgotten_while_the_stream_reads_merged_files(fleet: Fleet, is_lost: bool) -> None:
    """Their rows are in the order of their groups, not of their arrival."""
    fleet.reads_snapshot = True
    fleet.batch(700, {"a": 1.0}, {"x": 1.0}, made_at=0, observed_at=600)
    if is_lost:
        lose(fleet, "index")
        fleet.restart()
    fleet.batch(701, {}, {"a": 3.0}, observed_at=30)
    assert fleet.losses() == [2.0]


@pytest.mark.parametrize("is_lost", [False, True])
def test_a_clock_that_was_set_back_by_five_minutes_loses_no_label(fleet: Fleet, is_lost: bool) -> None:
    fleet.batch(35, {"a": 1.0}, {})
    fleet.batch(100, {}, {"x": 1.0})
    if is_lost:
        lose(fleet, "index")
        fleet.restart()
    fleet.batch(101, {}, {"a": 3.0}, observed_at=95)
    assert fleet.losses() == [2.0]


LOST = ("nothing", "index", "run", "manifest of a later batch", "original files")


def lose(fleet: Fleet, what: str) -> None:
    if what == "index":
        shutil.rmtree(fleet.index)
    elif what == "run":
        next(fleet.index.glob("*.arrow")).unlink()
    elif what == "manifest of a later batch":
        file = fleet.index / "manifest.json"
        content = json.loads(file.read_text())
        content["read"]["batch_id"] += 7
        file.write_text(json.dumps(content))
    elif what == "original files":
        shutil.rmtree(fleet.index)
        for contract in WRITERS:
            table = delta.open_existing(fleet.store.directory(contract))
            table.optimize.compact()
            table.vacuum(retention_hours=0, dry_run=False, enforce_retention_duration=False)


@pytest.mark.parametrize("what", LOST)
def test_an_index_that_is_lost_is_built_again_from_the_rows_of_earlier_batches(
    fleet: Fleet, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[int] = []
    rebuild = label_recovery.rebuild_index
    monkeypatch.setattr(labels, "rebuild_index", lambda *words: built.append(words[-1]) or rebuild(*words))
    fleet.batch(0, {"a": 1.0, "b": 1.0}, {"c": 10.0, "d": 0.0})
    fleet.batch(20, {"d": 9.0}, {"b": 3.0})
    fleet.restart()
    if what == "original files":  # which are those of a version that has all rows
        lose(fleet, what)
        fleet.versions = {contract: version + 1 for contract, version in fleet.versions.items()}
        fleet.write_offsets(20)
    else:
        lose(fleet, what)
    fleet.batch(40, {"c": 6.0, "e": 1.0}, {"a": 2.0, "b": 9.0, "e": 8.0})
    assert built == ([] if what == "nothing" else [1])
    assert fleet.losses() == [1.0, 2.0, 4.0, 7.0, 9.0]  # a, b, c, e, d


def test_an_index_is_built_from_a_few_rows_at_a_time(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    fleet.batch(0, {"a": 1.0, "b": 1.0}, {})
    fleet.batch(10, {"c": 1.0}, {})
    lose(fleet, "index")
    fleet.restart()
    monkeypatch.setattr(label_recovery, "BYTES_AT_ONCE", 1)
    sizes: list[int] = []
    take = label_recovery.arrived_predictions
    monkeypatch.setattr(
        label_recovery, "arrived_predictions", lambda rows, shape: sizes.append(len(rows)) or take(rows, shape)
    )
    fleet.batch(20, {}, {"a": 2.0, "b": 3.0, "c": 4.0})
    assert sizes == [2, 1]
    assert fleet.losses() == [1.0, 2.0, 3.0]


def test_rows_of_the_batch_itself_are_not_taken_for_earlier_ones(fleet: Fleet) -> None:
    fleet.batch(0, {"a": 1.0}, {})
    lose(fleet, "index")
    fleet.restart()
    fleet.batch(10, {"b": 1.0}, {"b": 3.0, "a": 2.0})
    assert fleet.losses() == [1.0, 2.0]


@pytest.mark.parametrize("comes_first", ["answer", "label"])
def test_an_index_of_one_table_alone_is_built_again(fleet: Fleet, comes_first: str) -> None:
    answer, label = {"a": 1.0}, {"a": 3.0}
    fleet.batch(0, *((answer, {}) if comes_first == "answer" else ({}, label)))
    lose(fleet, "index")
    fleet.restart()
    fleet.batch(10, *(({}, label) if comes_first == "answer" else (answer, {})))
    assert fleet.losses() == [2.0]


def test_files_that_were_read_and_are_gone_are_reported(fleet: Fleet) -> None:
    fleet.batch(0, {"a": 1.0}, {"b": 1.0})
    for file in Path(fleet.store.directory(tables.OUTCOMES).uri).glob("*.parquet"):
        file.unlink()
    lose(fleet, "index")
    fleet.restart()
    with pytest.raises(StoreError, match=r"table outcomes: expected .*\.parquet, which a query has read"):
        fleet.batch(10, {"b": 1.0}, {})


def streams() -> list[tuple[list[dict[str, float]], list[dict[str, float]]]]:
    random = np.random.default_rng(5)
    found = []
    for _ in range(2):
        made = [dict.fromkeys((f"e{n}" for n in random.integers(0, 60, 5)), float(k)) for k in range(24)]
        seen = [dict.fromkeys((f"e{n}" for n in random.integers(0, 60, 5)), 100.0 + k * k) for k in range(24)]
        found.append((made, seen))
    return found


def joined_by_pandas(made: list[dict[str, float]], seen: list[dict[str, float]]) -> list[float]:
    """A batch each ten minutes."""
    frames = [
        pd.DataFrame([(event, 10 * n, value) for n, batch in enumerate(rows) for event, value in batch.items()],
                     columns=["event", "at", "value"])
        for rows in (made, seen)
    ]  # fmt: skip
    answers, outcomes = frames
    outcomes = outcomes[~(outcomes["at"] - outcomes.groupby("event")["at"].shift() <= 120)]
    both = answers.merge(outcomes, on="event", suffixes=("", "_seen"))
    both = both[(both["at"] - both["at_seen"]).abs() <= 60]
    return sorted((both["value"] - both["value_seen"]).abs())


@pytest.mark.parametrize(("made", "seen"), streams())
def test_random_streams_with_kills_and_lost_indexes_are_joined_as_pandas_joins_them(
    fleet: Fleet, made: list[dict[str, float]], seen: list[dict[str, float]]
) -> None:
    random = np.random.default_rng(6)
    for n, rows in enumerate(zip(made, seen, strict=True)):
        if n and random.random() < 0.3:
            lose(fleet, random.choice(LOST[:-1]))
            fleet.restart()
        fleet.batch(10 * n, *rows)
    assert len(fleet.losses()) > 50
    assert fleet.losses() == joined_by_pandas(made, seen)


CLASSES = (
    ('features = ["price"]', 'features = ["price"]\ntask = "classification"\nloss = "log"'),
    ('sold = "double"', 'sold = "boolean"'),
)


def test_labels_of_classes_are_compared_as_texts(tmp_path: Path) -> None:
    fleet = Fleet(config(tmp_path, *CLASSES))
    shape = index_shape(fleet.store, fleet.config.kafka)
    at = at_minute(0)
    answers: dict[str, Any] = {
        "group_key": [KEY],
        "event_id": ["a"],
        "shard": pa.array([3], pa.int32()),
        "model_id": ["m"],
    }
    answers |= {"event_time": [at], "prediction": ["true"], "scored_at": [at], IS_OUTCOME: [False]}
    answers["probabilities"] = pa.array([[("true", 0.25), ("false", 0.75)]], pa.map_(pa.string(), pa.float64()))
    outcome = {"group_key": [KEY], "event_id": ["a"], "label": [True], "kafka_partition": [0], "kafka_offset": [0]}
    outcome |= {"ingested_at": pa.nulls(1, pa.timestamp("us", "UTC")), IS_OUTCOME: [True]}
    assert set(answers) - {IS_OUTCOME} == set(prediction_columns(shape))
    fleet.batch_id = 0
    fleet.write_offsets(0)
    fleet.write(Rows(pa.concat_tables([pa.table(answers), pa.table(outcome)], promote_options="default")), 0)
    assert fleet.losses() == pytest.approx([-np.log(0.25)])
