"""One reader of files for every command: CSV, JSON, Parquet, Arrow, ORC, Delta tables, and folders of them.

`open_source` inspects the files and refuses those that contradict each other. Its batches know the file and the number
of each row.
"""

from spinney.sources.opening import open_source
from spinney.sources.options import ColumnSelection, ReadOptions, TextFormat
from spinney.sources.row_batch import MalformedRow, RowBatch, Source

__all__ = ["ColumnSelection", "MalformedRow", "ReadOptions", "RowBatch", "Source", "TextFormat", "open_source"]
