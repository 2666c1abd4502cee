"""Remembers which files of a table have rows of which groups, so that a lookup opens only those of its groups.

A round writes a file with some groups of every shard, so statistics do not tell which files have a group, and a lookup
would open all of them, at about a millisecond of CPU each. Files never change, so their keys are read only once.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from threading import Lock

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from deltalake import DeltaTable

from spinney.storage.layout import Directory
from spinney.tables import delta, table_files
from spinney.tables.table_files import FORMAT, GroupIndex, TableFile, fragment_of_file, table_folder

MAX_KEYS = 250_000
"""Largest number of keys, over all files of a directory, that are remembered: about 5 MB. If a directory has more rows,
no keys are remembered.
"""

FEW_ROWS = 5_000
"""Number of rows that Arrow decodes faster than DataFusion plans a query, which takes about 6 ms of CPU."""

_KEY = "group_key"


@dataclass(frozen=True)
class _FileKeys:
    """The keys in the files of a directory at a version.

    keys: of all files. file_of_key: for each key, its file's position.
    """

    version: int
    files: tuple[TableFile, ...]
    by_path: Mapping[str, pa.Array]
    keys: pa.Array
    file_of_key: npt.NDArray[np.int64]


class GroupFileCache:
    """Finds the files of directories that have rows of some groups. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._known: dict[str, _FileKeys] = {}
        self._too_large: dict[str, int] = {}  # directory -> its version

    def dataset_of(
        self, directory: Directory, table: DeltaTable, group_keys: Collection[str], shards: int
    ) -> ds.Dataset | None:
        """Return the files that have rows of these groups, with every column of the contract.

        Returns None if DataFusion is as fast: if most files have such rows, or if the files have many rows, all of
        which Arrow would decode, and their statistics exclude most row groups. Also None for a directory with more than
        MAX_KEYS rows, or an unknown number of rows. table: the opened table of the directory. shards: the fleet's
        number of shards.
        """
        with self._lock:
            known = self._keys_of(directory, table)
        if known is None:
            return None
        has_key = pc.is_in(known.keys, pa.array(group_keys, pa.string()))
        places = np.unique(known.file_of_key[np.asarray(has_key)]).tolist()
        if 2 * len(places) > len(known.files) or _has_close_bounds(known.files, places, GroupIndex(group_keys, shards)):
            return None
        folder, schema = table_folder(table), table_files.arrow_schema_of(table)
        fragments = [fragment_of_file(folder, known.files[place], schema) for place in places]
        return delta.with_contract_columns(directory, ds.FileSystemDataset(fragments, schema, FORMAT))

    def _keys_of(self, directory: Directory, table: DeltaTable) -> _FileKeys | None:
        version = int(table.version())
        before = self._known.get(directory.uri)
        if before is not None and before.version == version:
            return before
        if self._too_large.get(directory.uri) == version:
            return None
        files = tuple(table_files.list_files(table))
        if not all(file.is_counted for file in files) or sum(file.rows for file in files) > MAX_KEYS:
            self._known.pop(directory.uri, None)
            self._too_large[directory.uri] = version
            return None
        read = {} if before is None else before.by_path
        folder, schema = table_folder(table), table_files.arrow_schema_of(table)
        by_path = {
            file.path: read[file.path]
            if file.path in read
            else _read_keys(fragment_of_file(folder, file, schema), schema)
            for file in files
        }
        keys = pa.concat_arrays([pa.array([], pa.string()), *by_path.values()])
        file_of_key = np.repeat(np.arange(len(files)), [len(found) for found in by_path.values()])
        self._known[directory.uri] = _FileKeys(version, files, by_path, keys, file_of_key)
        return self._known[directory.uri]


def _has_close_bounds(files: Sequence[TableFile], places: Sequence[int], wanted: GroupIndex) -> bool:
    """Whether the files with rows of some groups have many rows, and statistics that exclude most of the other rows.

    places: positions of the files that have rows of the groups.
    """
    if sum(files[place].rows for place in places) <= FEW_ROWS:
        return False
    return sum(wanted.overlaps(file.bounds) for file in files) <= 2 * len(places)


def _read_keys(fragment: ds.ParquetFileFragment, schema: pa.Schema) -> pa.Array:
    """The distinct keys of a file."""
    return fragment.to_table(schema=schema, columns=[_KEY]).column(_KEY).unique()
