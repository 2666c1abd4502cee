"""A look at data, to propose a configuration from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from spinney.stores.files import unreadable

if TYPE_CHECKING:
    import pandas as pd

SAMPLE_ROWS = 100_000
SUFFIXES = (".parquet", ".csv")


def read_sample(path: str | Path, rows: int = SAMPLE_ROWS) -> pd.DataFrame:
    """Return the first rows of a Parquet or CSV file, gaps and all: a column of integers with some missing stays one.

    Raises ConfigError: not there, another kind of file, or not readable as what its name says.
    """
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise unreadable(path, f"a file that ends in {' or '.join(SUFFIXES)}", path.suffix or "none", "")
    kinds = {pa.int8(): pd.Int8Dtype(), pa.int16(): pd.Int16Dtype(), pa.int32(): pd.Int32Dtype()}
    nullable = {**kinds, pa.int64(): pd.Int64Dtype(), pa.bool_(): pd.BooleanDtype()}
    try:
        if path.suffix.lower() == ".csv":
            return pd.read_csv(path, nrows=rows, dtype_backend="numpy_nullable")
        batch = next(pq.ParquetFile(path).iter_batches(batch_size=rows), None)
        return pd.DataFrame() if batch is None else batch.to_pandas(types_mapper=nullable.get)
    except FileNotFoundError as error:
        raise unreadable(path, "a data file", "no such file", "") from error
    except (pa.ArrowException, ValueError, OSError) as error:
        raise unreadable(path, f"a {path.suffix[1:]} file", str(error)[:200], "") from error
