"""A sample's models are written as a batch writes them, and nothing of it stays."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batch.sample_model_writing import SampleWriter
from schemas import tables
from spinney.core.arrow_types import arrow_type
from spinney.retraining.fitting.spark_fitting import KEPT, RESULT_TYPES
from spinney.tables.arrow_schemas import arrow_schema

AT = datetime(2024, 5, 1, tzinfo=UTC)
CONSTANTS = {
    "round_id": "sample",
    "generation": None,
    "loss_name": "squared_error",
    "fitted_at": AT,
    "clock": AT,
    "batch_id": 0,
}
WRITER = SampleWriter(CONSTANTS, shards=4, is_peak_reset=False)


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for temporary files."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def results(statuses: dict[str, str]) -> pa.RecordBatch:
    """Results of fits. statuses: by group_key."""
    schema = pa.schema([(name, arrow_type(kind)) for name, kind in RESULT_TYPES.items()])
    rows = [
        {"group_key": key, "status": status, "recipe_id": "r", "rows": 50, "payload": b"model"}
        for key, status in statuses.items()
    ]
    return pa.RecordBatch.from_pylist(rows, schema=schema)


def test_the_driver_gets_the_files_of_a_batch_and_the_peaks_of_the_task(temporary: Path) -> None:
    statuses = {'["a"]': "fitted", '["b"]': KEPT, '["c"]': "failed"}
    (report,) = WRITER.write(iter([results(statuses)]))
    contents, last = report.column("contents").to_pylist(), report.num_rows - 1
    assert contents[last] is None
    (file,) = contents[:last]
    models = pq.read_table(pa.BufferReader(file))
    assert models.schema.names == arrow_schema(tables.MODELS).names
    assert models.column("group_key").to_pylist() == ['["a"]', '["c"]'], "a kept group has no model"
    assert set(models.column("round_id").to_pylist()) == {"sample"}
    assert report.column("worker_peak")[last].as_py() > 1_000_000
    assert list(temporary.iterdir()) == []


def test_a_task_that_fails_leaves_no_file(temporary: Path) -> None:
    def fitted() -> Iterator[pa.RecordBatch]:
        yield results({'["a"]': "fitted"})
        assert len(list(temporary.iterdir())) == 1
        raise ValueError("no rows")

    with pytest.raises(ValueError, match="no rows"):
        list(WRITER.write(fitted()))
    assert list(temporary.iterdir()) == []
