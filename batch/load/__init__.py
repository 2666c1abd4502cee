"""Load history from Parquet or Delta, without Kafka, under the same validation. Loading it again adds nothing.

Rows are read and checked as Arrow columns, without a JVM (`sources`, `typed_columns`, `column_checks`). A row that this
check does not surely accept is validated by `spinney.stores.validity` in Spark, which is started only for such rows
(`spark_validation`). Valid rows are kept by ranges of shards (`spool`), compared with what the table has (`merging`)
and written sorted, in one commit per table (`table_writer`, `parquet_files`).
"""

from batch.load.loading import Loaded, Progress, load

__all__ = ["Loaded", "Progress", "load"]
