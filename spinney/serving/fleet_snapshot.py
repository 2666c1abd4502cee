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
from spinney.core.champions import held_out_loss_codec
from spinney.core.champions.fleet_champion_selection import condense_rows, integer_values, locate_champions
from spinney.core.champions.promotion import CHAMPION_COLUMNS, CHAMPION_DECISIONS, PAYLOAD_COLUMNS, Promotion
from spinney.core.intervals.champion_intervals import Pool, pools_of
from spinney.serving.model_cache import SignedPayload
from spinney.serving.promotion_histories import LayeredHistories, PromotionHistories
from spinney.storage.atomic_files import local_folder
from spinney.storage.layout import FleetStore
from spinney.tables import delta, table_log
from spinney.tables.arrow_schemas import arrow_schema
from spinney.tables.table_files import dataset_of_paths

COLUMNS = ("shard", *CHAMPION_COLUMNS, *PAYLOAD_COLUMNS, *held_out_loss_codec.COLUMNS)

_Ints = npt.NDArray[np.int64]

MIN_RECENT_ROWS, MAX_RECENT_SHARE = 2_000, 0.05
"""Groups decided about recently are kept apart. If their rows are more than this number and this share of all rows,
they are merged with the others.
"""

ROWS_AT_ONCE = 500_000
"""Rows of `promotions` read at a time, about 500 bytes each."""


class ChampionRows:
    """The promotions of some groups that can still decide which models answer. Immutable.

    rows: rows of `promotions`, as `condense_rows` returns them, with COLUMNS; the rows of a group are adjacent.
    promotions: as in `Champions`, without payloads.
    """

    def __init__(self, rows: pa.Table) -> None:
        champions = locate_champions(rows)
        has_champion = champions.champion_row >= 0
        named = champions.group_keys.filter(pa.array(has_champion)).to_pylist()
        places = champions.champion_row[has_champion]
        self.rows = _without_other_payloads(rows, places)
        self.promotions = PromotionHistories(self.rows)
        self._places: dict[str, int] = dict(zip(named, places.tolist(), strict=True))
        self._champions: dict[str, Promotion] = {}

    def __len__(self) -> int:
        """Number of groups and parents with a champion."""
        return len(self._places)

    def champion_of(self, key: str) -> Promotion | None:
        """Return the champion of a group or parent; None without one."""
        place = self._places.get(key)
        if place is None:
            return None
        if key not in self._champions:
            self._champions[key] = self.promotions.row(place)
        return self._champions[key]

    def rows_of(self, group_keys: Iterable[str]) -> pa.Table:
        """Return the rows of these groups; the rows of one group are adjacent."""
        ends = (self.promotions.ends(key) for key in group_keys if key in self.promotions)
        places = [place for first, end in ends for place in range(first, end)]
        return self.rows.take(pa.array(places, pa.int64()))

    def losses(self, shards: Collection[int]) -> pa.Table:
        """Return the keys, held-out losses and their names of the champions in these shards, by shard and key."""
        ordered, order = self._shards_of_champions
        wanted = np.array(sorted(shards), dtype=np.int64)
        first, last = (np.searchsorted(ordered, wanted, side) for side in ("left", "right"))
        places = np.concatenate([order[:0], *(order[slice(*ends)] for ends in zip(first, last, strict=True))])
        return self.rows.select(["group_key", *held_out_loss_codec.COLUMNS]).take(pa.array(places))

    @cached_property
    def _shards_of_champions(self) -> tuple[_Ints, _Ints]:
        """Return the shards of all champions, sorted, and their row positions, sorted by key within a shard."""
        places = np.array(sorted(self._places.values()), dtype=np.int64)
        shards = integer_values(self.rows, "shard")[places]
        order = np.argsort(shards, kind="stable")
        return shards[order], places[order]

    def payload(self, owner: str) -> SignedPayload | None:
        """Return the payload stored with the promotion of a group's champion; None without one."""
        place = self._places.get(owner)
        codec, payload, signature = (
            None if place is None else self.rows.column(name)[place].as_py() for name in PAYLOAD_COLUMNS
        )
        return None if payload is None else SignedPayload(codec or "", payload, signature or b"")


class FleetSnapshot:
    """The promotions that can still decide which models answer, by group. Immutable.

    A ChampionSource for `answer_rows`. Unknown groups take no memory, however often they are requested.

    Most groups are in `settled`, which a snapshot shares with those that it was advanced from; `recent` has all rows of
    the groups that were decided about since, and replaces their rows in `settled`. So the cost of a commit depends on
    the groups in it, not on the size of the fleet.

    versions: directory -> the version read. changed_shards: shards whose rows differ from the snapshot that this one
    was advanced from; None if the tables were read from the start.
    """

    def __init__(
        self,
        settled: ChampionRows,
        recent: ChampionRows,
        versions: Mapping[str, int],
        changed_shards: Collection[int] | None = None,
    ) -> None:
        self.settled, self.recent = settled, recent
        self.versions, self.changed_shards = dict(versions), changed_shards
        self.promotions = LayeredHistories(recent.promotions, settled.promotions)
        replaced = sum(settled.champion_of(key) is not None for key in recent.promotions)
        self._champions = len(settled) - replaced + len(recent)

    def __len__(self) -> int:
        """Number of groups and parents with a champion."""
        return self._champions

    @property
    def rows(self) -> pa.Table:
        """All rows, as `condense_rows` returns them, by key."""
        recent = self.recent.rows
        if not recent.num_rows:
            return self.settled.rows
        return _by_key(pa.concat_tables([_without(self.settled.rows, recent), recent])).combine_chunks()

    def champion_of(self, key: str) -> Promotion | None:
        """Return the champion of a group or parent; None without one.

        Signatures are not checked: all models count as usable.
        """
        return self._layer_of(key).champion_of(key)

    def pools(self, shards: Collection[int], n_shards: int) -> dict[int, Pool]:
        """Return the held-out losses of the champions in these shards. n_shards: the fleet's number of shards."""
        settled, recent = self.settled.losses(shards), self.recent.losses(shards)
        if recent.num_rows or self.recent.rows.num_rows:
            settled = _by_key(pa.concat_tables([_without(settled, self.recent.rows), recent]))
        return pools_of(settled, n_shards)

    def payloads(self, owners: Mapping[str, str]) -> dict[str, list[SignedPayload]]:
        """Return the payloads that are stored with promotions, by model_id. Models without such a payload are left out.

        owners: model_id -> its group.
        """
        found = {}
        for model_id, owner in owners.items():
            layer = self._layer_of(owner)
            champion = layer.champion_of(owner)
            if champion is not None and champion.model_id == model_id and (payload := layer.payload(owner)) is not None:
                found[model_id] = [payload]
        return found

    def _layer_of(self, key: str) -> ChampionRows:
        return self.recent if key in self.recent.promotions else self.settled


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
    return FleetSnapshot(ChampionRows(_condensed(kept, *waiting)), ChampionRows(_no_rows()), versions)


def advance(snapshot: FleetSnapshot, store: FleetStore) -> FleetSnapshot:
    """Return the snapshot with later commits added; the same object if there are none.

    Raises FileNotFoundError if a new file was replaced meanwhile: read the whole fleet again.
    """
    versions, new = dict(snapshot.versions), [_no_rows()]
    for directory in store.directories(tables.PROMOTIONS):
        versions[directory.name], paths = table_log.read_new_files(directory, versions[directory.name])
        schema, folder = arrow_schema(directory.contract), local_folder(directory.uri)
        new += _deciding(dataset_of_paths(folder, paths, schema)) if paths else []
    if versions == snapshot.versions:
        return snapshot
    rows = pa.concat_tables(new)
    touched, recent = rows.column("group_key").unique(), snapshot.recent
    known = [recent.rows_of(touched.to_pylist())]
    known.append(snapshot.settled.rows_of(key for key in touched.to_pylist() if key not in recent.promotions))
    changed = _condensed(*known, rows)
    recent_rows = pa.concat_tables([_without(recent.rows, rows), changed])
    changed_shards = frozenset(rows.column("shard").unique().to_pylist())
    advanced = FleetSnapshot(snapshot.settled, ChampionRows(_by_key(recent_rows)), versions, changed_shards)
    if recent_rows.num_rows <= max(MIN_RECENT_ROWS, MAX_RECENT_SHARE * snapshot.settled.rows.num_rows):
        return advanced
    return FleetSnapshot(ChampionRows(advanced.rows), ChampionRows(_no_rows()), versions, changed_shards)


def _deciding(dataset: ds.Dataset) -> Iterator[pa.Table]:
    """Read the rows that can change a champion."""
    decisions = pa.array(sorted(decision.value for decision in CHAMPION_DECISIONS))
    found = dataset.to_batches(
        list(COLUMNS), filter=ds.field("decision").isin(decisions), batch_readahead=2, fragment_readahead=1
    )
    schema = _no_rows().schema
    return (pa.Table.from_batches([batch]).cast(schema) for batch in found if batch.num_rows)


def _by_key(rows: pa.Table) -> pa.Table:
    return rows.take(pc.sort_indices(rows.column("group_key")))


def _without(rows: pa.Table, others: pa.Table) -> pa.Table:
    """The rows of groups that have no row in `others`."""
    return rows.filter(pc.invert(pc.is_in(rows.column("group_key"), others.column("group_key").combine_chunks())))


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
