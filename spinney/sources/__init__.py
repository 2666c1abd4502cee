"""One reader of files for every command: CSV, JSON lines, Parquet, Delta tables, and folders of them.

`open_source` looks at the files and refuses what disagrees; its batches know the file and number of each row.
"""

from spinney.sources.batch import BadRow, Batch, Source
from spinney.sources.opening import open_source
from spinney.sources.options import Options, TextFormat, Wanted

__all__ = ["BadRow", "Batch", "Options", "Source", "TextFormat", "Wanted", "open_source"]
