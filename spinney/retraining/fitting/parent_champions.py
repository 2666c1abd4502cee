"""The parents' champions: found for a plan on the driver, read in the tasks, each once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from schemas import tables
from schemas.vocabulary import ESTIMATED, RoundKind
from spinney.core.champions import fleet_champion_selection
from spinney.core.config import Fleet
from spinney.core.keys import ancestors, ancestors_of_parent, is_parent
from spinney.retraining.fitting import fit_request_table
from spinney.retraining.fitting.champion_reader import StoredChampions
from spinney.retraining.fitting.fit_request_table import CHAMPION_COLUMNS_OF_PARENT, PARENT_COLUMNS
from spinney.storage.layout import FleetStore
from spinney.tables.snapshot import Snapshot, filter_of_groups, take_snapshot, take_snapshots


@dataclass(frozen=True)
class PlannedChampions:
    """The parents' champions as a round sees them: the same in each of its parts, and if a part is repeated.

    pins: the versions of `promotions` that the round was planned with. own: path and batch_id of the round, if the
    decisions of its earlier parts about parents count too; else None.
    """

    store: FleetStore
    pins: Mapping[str, int]
    own: tuple[RoundKind, int] | None = None

    def of(self, parents: Sequence[str]) -> dict[str, str]:
        """Return the champion of each of these parents that has one, by the parent's key."""
        wanted = filter_of_groups(parents, self.store.fleet.shards)
        names = {name: name for name in fleet_champion_selection.INPUT_COLUMNS}
        rows = [table.read(names, wanted) for table in take_snapshots(self.store, tables.PROMOTIONS, self.pins)]
        if self.own is not None:
            kind, batch_id = self.own
            written = take_snapshot(self.store.directory(tables.PROMOTIONS, kind.value))
            rows.append(written.read(names, wanted, ds.field("batch_id") == batch_id))
        known = fleet_champion_selection.select_champions(pa.concat_tables(rows))
        ids = zip(known.column("group_key").to_pylist(), known.column("model_id").to_pylist(), strict=True)
        return {key: model_id for key, model_id in ids if model_id is not None}


def with_parents(
    plan: pd.DataFrame, planned: PlannedChampions, pooling_rows: float | str | None = None
) -> pd.DataFrame:
    """Return the plan with parent_key and parent_id: the nearest parent that has a champion, and that champion.

    plan: group_key and champion_id. pooling_rows: of the recipe. If groups are not pooled, both columns are null for
    groups that have a champion. For parents both are null, unless the weights are estimated.
    """
    fleet = planned.store.fleet
    parents = [
        _parents_to_read(fleet, key, pooling_rows, has_champion=champion is not None)
        for key, champion in zip(plan["group_key"], _or_none(plan["champion_id"]), strict=True)
    ]
    wanted = sorted({parent for of_group in parents for parent in of_group})
    champions = planned.of(wanted) if wanted else {}
    nearest = [next((parent for parent in of_group if parent in champions), None) for of_group in parents]
    ids = [None if parent is None else champions[parent] for parent in nearest]
    return plan.assign(
        parent_key=pd.Series(nearest, plan.index, dtype=object), parent_id=pd.Series(ids, plan.index, dtype=object)
    )


def _parents_to_read(
    fleet: Fleet, key: str, pooling_rows: float | str | None, *, has_champion: bool
) -> tuple[str, ...]:
    if is_parent(key):
        return ancestors_of_parent(fleet.parents, key) if pooling_rows == ESTIMATED else ()
    is_read = bool(fleet.parents) and (pooling_rows is not None or not has_champion)
    return ancestors(fleet.group, fleet.parents, key) if is_read else ()


def _or_none(values: pd.Series) -> list[str | None]:
    return [None if pd.isna(value) else str(value) for value in values]


class ParentChampions:
    """The stored champions of the parents of a task's requests. Many requests share a parent: it is read once."""

    def __init__(self, models: Sequence[Snapshot], requests: pa.Table, shards: int) -> None:
        """models: the tables with the champions. requests: REQUEST_SCHEMA. shards: the fleet's number of shards."""
        named = requests.filter(requests.column("parent_id").is_valid()).select(["parent_key", "parent_id"])
        wanted = named.group_by(["parent_key", "parent_id"]).aggregate([]).rename_columns(["group_key", "champion_id"])
        wanted = wanted.append_column("predecessor_id", pa.nulls(wanted.num_rows, pa.string()))
        files = fit_request_table.shards_of(wanted, shards)
        paths = [path for table in models for path in table.files_for(files)] if wanted.num_rows else []
        champions = StoredChampions(paths, wanted).of(0, wanted.num_rows)
        stored = champions.select(["group_key", *CHAMPION_COLUMNS_OF_PARENT]).rename_columns(list(PARENT_COLUMNS))
        # The id of one that is not stored stays, so that the fit knows of it.
        at, ids = stored.column_names.index("parent_id"), wanted.column("champion_id").combine_chunks()
        self._stored = stored.set_column(at, "parent_id", ids).combine_chunks()
        self._places = pc.index_in(requests.column("parent_id").combine_chunks(), value_set=ids, skip_nulls=True)

    def of(self, first: int, stop: int) -> pa.Table:
        """Return PARENT_COLUMNS of the requests from `first` to before `stop`; payloads are dictionary-encoded.

        For a model that is not stored, all columns except parent_key and parent_id are null.
        """
        places = self._places.slice(first, stop - first)
        columns = {name: self._stored.column(name).take(places) for name in PARENT_COLUMNS}
        payloads = self._stored.column("parent_payload").combine_chunks()
        index = pc.if_else(payloads.is_valid().take(places), places.cast(pa.int32()), None)
        columns["parent_payload"] = pa.DictionaryArray.from_arrays(index, payloads.fill_null(b""))
        return pa.table(columns)
