"""History without Kafka: Parquet or Delta → the same validation → events and outcomes. Loading it again adds nothing.

Rows are read and checked as Arrow columns, without a JVM (`sources`, `columns`, `checking`). A row that this check does
not surely accept is judged by `spinney.stores.validity` in Spark, which is started only then (`exact`). The valid rows
wait by ranges of shards (`spool`), are merged with what is there and stored sorted, in one commit a table (`merging`,
`storing`, `files`).
"""

from batch.load.loading import Loaded, Progress, load

__all__ = ["Loaded", "Progress", "load"]
