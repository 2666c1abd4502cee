"""Load history from files, without Kafka and without a JVM, under the same validation. Loading it again adds nothing.

`spinney.sources` reads the files. Rows are validated as Arrow columns (`typed_batch`, `vectorized_validation`). Rows
that are doubtful there, and JSON lines that may hold a late label, are validated one by one (`row_validation`). Valid
rows are kept by ranges of shards (`spool`), compared with the stored rows (`deduplication`) and written sorted, in one
commit per table (`table_writer`, `parquet_writer`). Rejected rows become dead letters (`dead_letters`).
"""

from batch.load.loading import LoadProgress, LoadResult, load, open_for_load

__all__ = ["LoadProgress", "LoadResult", "load", "open_for_load"]
