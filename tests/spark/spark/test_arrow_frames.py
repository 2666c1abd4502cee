from __future__ import annotations

import pyarrow as pa

from spinney.spark.arrow_frames import frame_of_table


def lineage(frame) -> str:
    return frame._jdf.queryExecution().toRdd().toDebugString()


def test_rows_of_the_driver_reach_spark_without_a_python_worker(spark) -> None:
    schema = pa.schema([("task", pa.int32()), ("requests", pa.binary())])
    rows = pa.table({"task": [0, 1], "requests": [b"\x00first", b"second"]}, schema=schema)
    frame = frame_of_table(spark, rows)
    assert frame.dtypes == [("task", "int"), ("requests", "binary")]
    assert frame.toArrow().to_pylist() == rows.to_pylist()
    assert "PythonRDD" not in lineage(frame)
    of_tuples = spark.createDataFrame([(0, b"first")], "task int, requests binary")
    assert "PythonRDD" in lineage(of_tuples)
