from __future__ import annotations

import threading

from streaming.query import Query


def test_a_query_lets_no_one_else_commit_while_it_writes_a_batch_and_only_then(spark, configured, tmp_path) -> None:
    config = configured()
    spark.range(3).write.parquet(str(tmp_path / "rows"))
    plan = spark.readStream.schema("id long").parquet(str(tmp_path / "rows"))
    seen = []
    query = Query("probe", plan, lambda _: lambda batch, batch_id: seen.append((batch.count(), query.writing.locked())))
    query.start(config, threading.Event(), once=True).awaitTermination()
    assert seen == [(3, True)]
    assert not query.writing.locked()
