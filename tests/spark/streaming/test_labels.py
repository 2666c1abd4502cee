"""The query `labels` over a real checkpoint: the meaning of Delta's offsets, and an index that is lost."""

from __future__ import annotations

import shutil
import threading
from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds
import pytest
from deltalake import write_deltalake

from schemas import tables
from spinney.storage import checkpoints
from spinney.storage.layout import Directory, FleetStore
from spinney.tables import delta
from spinney.tables.arrow_schemas import arrow_schema
from spinney.tables.stream_reading import TableOffset, files_read
from streaming import labels
from streaming.delta_source import read_appended
from streaming.progress import ProgressListener

EVER = datetime(1970, 1, 1, tzinfo=UTC)
NOW = datetime.now(UTC)
KEY = '["a","1"]'


def outcome_rows(directory: Directory, ids: Iterable[str]) -> pa.Table:
    row = {"shard": 0, "group_key": KEY, "observed_at": NOW, "topic": "sold", "kafka_partition": 0, "kafka_offset": 0}
    rows = [{**row, "event_id": name, "label": 3.0, "ingested_at": NOW, "batch_id": 0} for name in ids]
    return pa.Table.from_pylist(rows, schema=arrow_schema(directory.contract))


def prediction_rows(directory: Directory, ids: Iterable[str]) -> pa.Table:
    row = {"shard": 0, "group_key": KEY, "event_time": NOW, "prediction": 1.0, "answered_by": "own", "model_id": "m"}
    row |= {"topic": "sales", "kafka_partition": 0, "kafka_offset": 0, "batch_id": 0}
    rows = [{**row, "event_id": name, "scored_at": NOW, "scored_on": NOW.date()} for name in ids]
    return pa.Table.from_pylist(rows, schema=arrow_schema(directory.contract))


def append_files(directory: Directory, *files: Iterable[str]) -> None:
    """One commit of several files."""
    actions = []
    for number, ids in enumerate(files):
        part = Path(directory.uri).parent / f"part-{number}"
        write_deltalake(part, outcome_rows(directory, ids))
        (file,) = part.glob("*.parquet")
        name = f"{'-'.join(ids)}.parquet"
        shutil.move(file, Path(directory.uri) / name)
        shutil.rmtree(part)
        size = (Path(directory.uri) / name).stat().st_size
        actions.append(delta.AddAction(name, size, {}, int(NOW.timestamp() * 1000) + number, True, "{}"))
    delta.DirectoryWriter(directory, "load", "c").append_unrepeated_files(actions, "load")


def test_the_files_that_a_stream_has_read_are_known_from_its_offset_after_each_batch(spark, world, tmp_path) -> None:
    """The stream begins with the files of a snapshot. A compaction, a deletion and commits of several files follow."""
    directory = FleetStore.of(world().config).directory(tables.OUTCOMES)
    location, read = str(tmp_path / "checkpoint"), defaultdict(list)

    def drain() -> None:
        rows = read_appended(spark, directory, max_bytes=1)
        writing = rows.writeStream.foreachBatch(
            lambda batch, batch_id: read[batch_id].extend(batch.toArrow()["event_id"].to_pylist())
        )
        writing.option("checkpointLocation", location).trigger(availableNow=True).start().awaitTermination()

    append_files(directory, ["a", "b"], ["c"])
    drain()
    table = delta.open_existing(directory)
    table.optimize.compact()
    append_files(directory, ["d"], ["e", "f"])
    table.update_incremental()
    table.delete("event_id = 'a'")  # rewrites the other rows of its file
    write_deltalake(directory.uri, outcome_rows(directory, ["g"]), mode="append")
    drain()

    seen: list[str] = []
    offsets = []
    for batch_id in sorted(read):
        seen += read[batch_id]
        offsets.append(TableOffset.parse(str(checkpoints.end_offsets(location, batch_id)[0])))
        files = files_read(directory, offsets[-1], EVER)
        found = ds.dataset(list(map(str, files))).to_table(["event_id"])["event_id"].to_pylist()
        assert sorted(found) == sorted(seen), (batch_id, offsets[-1])
    assert sorted(seen) == list("abcdefg")
    assert any(offset.is_snapshot for offset in offsets)
    assert any(offset.files and not offset.is_snapshot for offset in offsets)


def test_labels_and_answers_of_several_drains_are_joined_though_the_index_was_lost_between(
    spark, world, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = world().config
    store = FleetStore.of(config)
    monkeypatch.setattr(labels, "MAX_BYTES_PER_BATCH", 1)  # a file of each table a batch
    answers, outcomes = store.directory(tables.PREDICTIONS), store.directory(tables.OUTCOMES)

    def drain() -> None:
        query = labels.query(spark, config).start(config, threading.Event(), ProgressListener(), once=True)
        query.wait()
        assert query.error() is None

    for ids in ("a", "bc"):
        write_deltalake(answers.uri, prediction_rows(answers, ids), mode="append")
    write_deltalake(outcomes.uri, outcome_rows(outcomes, "cd"), mode="append")
    drain()
    shutil.rmtree(Path(store.checkpoint("labels")) / labels.INDEX_FOLDER)
    write_deltalake(answers.uri, prediction_rows(answers, "de"), mode="append")
    write_deltalake(outcomes.uri, outcome_rows(outcomes, "acx"), mode="append")
    drain()
    rows = delta.read_table(store, tables.HEALTH).to_pylist()
    assert sum(row["labelled"] for row in rows) == 3  # a, c, d
    assert sum(row["loss"] for row in rows) == 3 * 2.0
    assert {row["batch_id"] for row in rows} == {1, 2}
