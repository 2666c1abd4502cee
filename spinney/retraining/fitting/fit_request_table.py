"""Fit requests as Arrow tables: their schema, and how they are sent to tasks.

`spinney.core.training.fit_request` has one request as the fitting code sees it.
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from spinney.core.keys import is_parent
from spinney.tables.snapshot import GroupFilter, filter_of_groups

REQUEST_SCHEMA = pa.schema(
    [
        ("shard", pa.int32()),
        ("group_key", pa.string()),
        ("champion_id", pa.string()),
        ("predecessor_id", pa.string()),
        ("events", pa.int64()),
        ("parent_key", pa.string()),
        ("parent_id", pa.string()),
    ]
)
"""Fit requests as they are sent to a task.

predecessor_id: the model that would answer if the champion were withdrawn. events: number of events in the window, as
the plan counted them; null if it did not. parent_key, parent_id: the nearest parent that has a champion, and this
champion; null if there is none or the fit does not need it.
"""

CHAMPION_TYPES = {
    "champion_id": "string",
    "champion_codec": "string",
    "champion_payload": "binary",
    "champion_signature": "binary",
    "champion_trained_through": "timestamp",
    "champion_recipe_id": "string",
    "champion_heldout_losses": "array<float>",
    "champion_heldout_predictions": "array<float>",
    "champion_prequential_losses": "array<float>",
}
"""The columns about the champion that a challenger is compared with, and their Spark SQL types."""

PREDECESSOR_TYPES = {
    "predecessor_id": "string",
    "predecessor_codec": "string",
    "predecessor_payload": "binary",
    "predecessor_signature": "binary",
}
"""The same about the champion's predecessor."""

STORED_MODEL_TYPES = CHAMPION_TYPES | PREDECESSOR_TYPES
"""The columns that `StoredChampions` adds to a request."""

CHAMPION_COLUMNS_OF_PARENT = tuple(name for name, kind in CHAMPION_TYPES.items() if kind != "array<float>")
PARENT_COLUMNS = ("parent_key", *(name.replace("champion_", "parent_") for name in CHAMPION_COLUMNS_OF_PARENT))
"""The columns about the champion of the nearest parent, without its samples of losses and predictions, which are
not needed.
"""


def split_parents(requests: pa.Table) -> tuple[pa.Table, pa.Table]:
    """Return the requests of groups, and those of parents."""
    are_parents = pa.array(map(is_parent, requests.column("group_key").to_pylist()), pa.bool_())
    return requests.filter(pc.invert(are_parents)), requests.filter(are_parents)


def serialize(requests: pa.Table) -> bytes:
    """Return requests as one binary value, for a row of a Spark frame."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, REQUEST_SCHEMA) as writer:
        writer.write_table(requests.cast(REQUEST_SCHEMA))
    return bytes(sink.getvalue().to_pybytes())


def shards_of(requests: pa.Table, shards: int) -> GroupFilter:
    """Return the filter that finds the rows of these requests in the tables. shards: the fleet's number of shards."""
    return filter_of_groups(requests.column("group_key").to_pylist(), shards)


def deserialize(value: bytes) -> pa.Table:
    """Return the requests that `serialize` wrote."""
    return pa.ipc.open_stream(value).read_all()
