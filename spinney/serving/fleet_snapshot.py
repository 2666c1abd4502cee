"""A snapshot of the champions of a whole fleet, read from the tables without a JVM and kept up to date.

`read_snapshot` reads all of `promotions`. `advance` adds later commits: it reads only new files, and without any it
costs one file system call per directory.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from schemas import tables
from spinney.core.champions import heldout_losses
from spinney.core.champions.fleet_champions import condense_rows, integer_values, locate_champions
from spinney.core.champions.promotion import CHAMPION_COLUMNS, CHAMPION_DECISIONS, PAYLOAD_COLUMNS, Promotion
from spinney.core.intervals.champion_intervals import Pool, pools_of
from spinney.serving.model_cache import SignedPayload
from spinney.serving.promotion_histories import PromotionHistories
from spinney.storage.atomic_files import local_folder
from spinney.storage.layout import Directory, FleetStore
from spinney.tables import delta, table_log
from spinney.tables.arrow_schemas import arrow_schema
from spinney.tables.table_files import FORMAT as PARQUET
from spinney.tables.table_files import Bounds, TableFile, fragment_of_file

COLUMNS = ("shard", *CHAMPION_COLUMNS, *PAYLOAD_COLUMNS, heldout_losses.COLUMN)

_Ints = npt.NDArray[np.int64]

ROWS_AT_ONCE = 500_000
"""Rows of `promotions` read at a time, about 500 bytes each."""


class FleetSnapshot:
    """The promotions that can still decide which models answer, by group. Immutable.

    A ChampionSource for `answer_rows`. Unknown groups take no memory, however often they are requested.

    rows: of `promotions`, as `condense_rows` returns them, with COLUMNS. versions: directory -> the version read.
    promotions: as of `Champions`, without payloads. changed_shards: those with other rows than in the snapshot that it
    was advanced from; None if it was read anew.
    """

    def __init__(
        self, rows: pa.Table, versions: Mapping[str, int], changed_shards: Collection[int] | None = None
    ) -> None:
        champions = locate_champions(rows)
        has_champion = champions.champion_row >= 0
        named = champions.group_keys.filter(pa.array(has_champion)).to_pylist()
        places = champions.champion_row[has_champion]
        self.versions, self.changed_shards = dict(versions), changed_shards
        self.rows = _without_other_payloads(rows, places)
        self.promotions = PromotionHistories(self.rows)
        self._places: dict[str, int] = dict(zip(named, places.tolist(), strict=True))
        self._champions: dict[str, Promotion] = {}

    def __len__(self) -> int:
        """Number of groups and parents with a champion."""
        return len(self._places)

    def champion_of(self, key: str) -> Promotion | None:
        """The champion of a group or parent if all its models are usable, else None."""
        place = self._places.get(key)
        if place is None:
            return None
        if key not in self._champions:
            self._champions[key] = self.promotions.row(place)
        return self._champions[key]

    def pools(self, shards: Collection[int], n_shards: int) -> dict[int, Pool]:
        """Return the held-out losses of the champions in these shards. n_shards: the fleet's number of shards."""
        ordered, order = self._shards_of_champions
        wanted = np.array(sorted(shards), dtype=np.int64)
        first, last = (np.searchsorted(ordered, wanted, side) for side in ("left", "right"))
        places = np.concatenate([order[:0], *(order[slice(*ends)] for ends in zip(first, last, strict=True))])
        return pools_of(self.rows.select(["group_key", heldout_losses.COLUMN]).take(pa.array(places)), n_shards)

    @cached_property
    def _shards_of_champions(self) -> tuple[_Ints, _Ints]:
        """Return the shards of all champions, sorted, and their row positions, sorted by key within a shard."""
        places = np.array(sorted(self._places.values()), dtype=np.int64)
        shards = integer_values(self.rows, "shard")[places]
        order = np.argsort(shards, kind="stable")
        return shards[order], places[order]

    def payloads(self, owners: Mapping[str, str]) -> dict[str, list[SignedPayload]]:
        """Return the payloads stored with promotions, by model_id, without those that are not.

        owners: model_id -> its group.
        """
        found = {}
        codecs, payloads, signatures = (self.rows.column(name) for name in PAYLOAD_COLUMNS)
        for model_id, owner in owners.items():
            champion, place = self.champion_of(owner), self._places.get(owner)
            if champion is None or champion.model_id != model_id or place is None:
                continue
            payload = payloads[place].as_py()
            if payload is not None:
                found[model_id] = [
                    SignedPayload(codecs[place].as_py() or "", payload, signatures[place].as_py() or b"")
                ]
        return found


def read_snapshot(store: FleetStore) -> FleetSnapshot:
    """Read the current champions. Raises StoreError if the tables were never created."""
    kept, waiting, versions = _no_rows(), [], {}
    for directory in store.directories(tables.PROMOTIONS):
        table = delta.open_existing(directory)
        versions[directory.name] = int(table.version())
        for batch in _deciding(delta.open_contract_dataset(directory, table)):
            waiting.append(batch)
            if sum(table.num_rows for table in waiting) >= ROWS_AT_ONCE:
                kept, waiting = _condensed(kept, *waiting), []
    return FleetSnapshot(_condensed(kept, *waiting), versions)


def advance(snapshot: FleetSnapshot, store: FleetStore) -> FleetSnapshot:
    """Return the snapshot with later commits added; the same object if there are none.

    Raises FileNotFoundError if a new file was replaced meanwhile: read the whole fleet again.
    """
    versions, new = dict(snapshot.versions), [_no_rows()]
    for directory in store.directories(tables.PROMOTIONS):
        versions[directory.name], paths = table_log.read_new_files(directory, versions[directory.name])
        new += _deciding(_dataset(directory, paths)) if paths else []
    if versions == snapshot.versions:
        return snapshot
    rows = pa.concat_tables(new)
    is_touched = pc.is_in(snapshot.rows.column("group_key"), rows.column("group_key").combine_chunks())
    touched = _condensed(snapshot.rows.filter(is_touched), rows)
    merged = pa.concat_tables([snapshot.rows.filter(pc.invert(is_touched)), touched])
    changed_shards = frozenset(rows.column("shard").unique().to_pylist())
    return FleetSnapshot(merged.take(pc.sort_indices(merged.column("group_key"))), versions, changed_shards)


def _deciding(dataset: ds.Dataset) -> Iterator[pa.Table]:
    """Read the rows that can change a champion."""
    decisions = pa.array(sorted(decision.value for decision in CHAMPION_DECISIONS))
    found = dataset.to_batches(
        list(COLUMNS), filter=ds.field("decision").isin(decisions), batch_readahead=2, fragment_readahead=1
    )
    schema = _no_rows().schema
    return (pa.Table.from_batches([batch]).cast(schema) for batch in found if batch.num_rows)


def _dataset(directory: Directory, paths: Iterable[str]) -> ds.Dataset:
    schema, folder = arrow_schema(directory.contract), local_folder(directory.uri)
    files = [fragment_of_file(folder, TableFile(path, 0, 0, Bounds()), schema) for path in paths]
    return ds.FileSystemDataset(files, schema, PARQUET)


def _no_rows() -> pa.Table:
    schema = arrow_schema(tables.PROMOTIONS)
    return pa.schema([schema.field(name) for name in COLUMNS]).empty_table()


def _condensed(*rows: pa.Table) -> pa.Table:
    return condense_rows(pa.concat_tables(rows)).combine_chunks()


def _without_other_payloads(rows: pa.Table, places: _Ints) -> pa.Table:
    """Drop the payloads of models that are not champions; `models` has them if they are needed."""
    is_champion = np.zeros(rows.num_rows, dtype=np.bool_)
    is_champion[places] = True
    for name in PAYLOAD_COLUMNS:
        column = rows.column(name)
        kept = pc.if_else(pa.array(is_champion), column, pa.scalar(None, column.type))
        rows = rows.set_column(rows.column_names.index(name), name, kept)
    return rows.combine_chunks()
