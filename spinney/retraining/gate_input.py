"""Read the models of a round for the gate."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from schemas import tables
from spinney.serving.model_cache import CARRIED_BYTES
from spinney.storage.layout import Directory, FleetStore
from spinney.tables import delta

_WITHOUT_PAYLOAD = (
    "shard",
    "group_key",
    "model_id",
    "status",
    "metrics",
    "heldout_losses",
    "loss_name",
    "training_predictions",
    "trained_through",
    "fitted_at",
    "rows",
    "fit_ms",
)
_PAYLOAD = ("model_id", "codec", "payload", "signature")


def read_round_models(store: FleetStore, kind: str, batch_id: int, shards: tuple[int, int]) -> pa.Table:
    """The columns of a round's models that the gate uses, with payloads small enough to be copied to promotions.

    shards: the first and the last wanted shard.
    """
    directory = store.directory(tables.MODELS, kind)
    within = (ds.field("shard") >= shards[0]) & (ds.field("shard") <= shards[1])
    is_of_round = (ds.field("batch_id") == batch_id) & within
    rows = _read(directory, _WITHOUT_PAYLOAD, is_of_round)
    carried = _read(directory, _PAYLOAD, is_of_round & (pc.binary_length(ds.field("payload")) <= CARRIED_BYTES))
    # Not a join of Arrow, which refuses tables with a column of lists.
    found = pc.index_in(rows.column("model_id"), carried.column("model_id").combine_chunks())
    for name in _PAYLOAD[1:]:
        rows = rows.append_column(name, carried.column(name).take(found))
    return rows


def _read(directory: Directory, columns: tuple[str, ...], where: ds.Expression) -> pa.Table:
    table = delta.open_table(directory)
    assert table is not None, f"{directory.name} was made before any round"
    return delta.open_dataset(table).to_table(list(columns), filter=where)
