"""Load history from files, without Kafka and without a JVM, under the same validation. Loading it again adds nothing.

`spinney.sources` reads the files. Rows are checked as Arrow columns (`typed_batch`, `column_checks`); a row that this
check does not surely accept, and every JSON line, is judged by `spinney.core.records` (`row_judging`). Valid rows are
kept by ranges of shards (`spool`), compared with what the table has (`merging`) and written sorted, in one commit per
table (`table_writer`, `parquet_files`); the others become dead letters (`dead_letters`).
"""

from batch.load.loading import Loaded, Progress, load, open_for_load

__all__ = ["Loaded", "Progress", "load", "open_for_load"]
