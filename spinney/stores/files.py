"""Files of the user: the configuration, and a look at data to propose one from."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from spinney.core.config import Config, parse
from spinney.core.errors import ConfigError, Finding

if TYPE_CHECKING:
    import pandas as pd

SAMPLE_ROWS = 100_000
SUFFIXES = (".parquet", ".csv")


def read_config(path: str | Path, environment: Mapping[str, str] | None = None) -> Config:
    """Read and check a configuration. environment: os.environ if None.

    Raises ConfigError: not there, not UTF-8, or anything that `parse` finds.
    """
    path = Path(path)
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError as error:
        remedy = "Name it with --config, or make one: spinney init --from data.csv > fleet.toml"
        raise _unreadable(path, "a configuration file", "no such file", remedy) from error
    except UnicodeDecodeError as error:
        got = f"byte {error.start} that is none"
        raise _unreadable(path, "UTF-8 text", got, "Save the file as UTF-8.") from error
    except OSError as error:
        raise _unreadable(path, "a file that can be read", error.strerror or str(error), "") from error
    return parse(text, str(path), os.environ if environment is None else environment)


def read_sample(path: str | Path, rows: int = SAMPLE_ROWS) -> pd.DataFrame:
    """Return the first rows of a Parquet or CSV file, gaps and all: a column of integers with some missing stays one.

    Raises ConfigError: not there, another kind of file, or not readable as what its name says.
    """
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise _unreadable(path, f"a file that ends in {' or '.join(SUFFIXES)}", path.suffix or "none", "")
    kinds = {pa.int8(): pd.Int8Dtype(), pa.int16(): pd.Int16Dtype(), pa.int32(): pd.Int32Dtype()}
    nullable = {**kinds, pa.int64(): pd.Int64Dtype(), pa.bool_(): pd.BooleanDtype()}
    try:
        if path.suffix.lower() == ".csv":
            return pd.read_csv(path, nrows=rows, dtype_backend="numpy_nullable")
        batch = next(pq.ParquetFile(path).iter_batches(batch_size=rows), None)
        return pd.DataFrame() if batch is None else batch.to_pandas(types_mapper=nullable.get)
    except FileNotFoundError as error:
        raise _unreadable(path, "a data file", "no such file", "") from error
    except (pa.ArrowException, ValueError, OSError) as error:
        raise _unreadable(path, f"a {path.suffix[1:]} file", str(error)[:200], "") from error


def _unreadable(path: Path, expected: str, got: str, remedy: str) -> ConfigError:
    return ConfigError([Finding(str(path), None, "", expected, got, remedy)])
