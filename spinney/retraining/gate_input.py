"""Read the input of the gate: the models of a round, and the models that the other path has promoted meanwhile.

The two paths that make rounds are the stream and the batch.
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from schemas import tables
from schemas.vocabulary import Decision, RoundKind
from spinney.core.champions.jump_holds import PastDecision, about_jump_by_reason, held_since
from spinney.core.champions.promotion import PROMOTING_DECISIONS
from spinney.core.champions.withdrawals import withdrawn_model_ids
from spinney.core.timestamps import to_microseconds
from spinney.retraining.round_gate import HELD_SINCE, OTHER_PATH_EPOCH
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
    "heldout_predictions",
    "prequential_losses",
    "trained_through",
    "fitted_at",
    "rows",
    "fit_ms",
)
_PAYLOAD = ("model_id", "codec", "payload", "signature")


def read_round_models(store: FleetStore, kind: str, batch_id: int, shards: tuple[int, int]) -> pa.Table:
    """Return the columns of a round's models that the gate uses, with payloads small enough to be copied to promotions.

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


def with_other_path_epoch(models: pa.Table, store: FleetStore, kind: RoundKind) -> pa.Table:
    """Return the rows of `models` with one more column, OTHER_PATH_EPOCH.

    The stream and the batch fit the same model on the same rows, so the second of them may find the model promoted
    already. No lock is taken: if both decide at the same time, both promote it, and the order of champions picks one of
    the rows.
    """
    through = models.column("trained_through").drop_null()
    epochs = _other_path_epochs(models, store, kind) if len(through) else {}
    pairs = zip(models.column("group_key").to_pylist(), models.column("model_id").to_pylist(), strict=True)
    found = [epochs.get(pair) for pair in pairs] if epochs else [None] * models.num_rows
    return models.append_column(OTHER_PATH_EPOCH, pa.array(found, pa.int64()))


def with_held_since(models: pa.Table, store: FleetStore, decided: pa.Table) -> pa.Table | None:
    """Return the rows of `models` with one more column, HELD_SINCE; None if no group of `decided` is held by a jump.

    decided: rows of `promotions` that the gate made without that column, not stored yet. Only the earlier decisions
    about held groups are read, so other rounds pay nothing.
    """
    is_held = pc.and_(pc.equal(decided.column("decision"), Decision.HELD.value), decided.column("about_jump"))
    held = decided.filter(is_held)
    if not held.num_rows:
        return None
    shards = pc.min_max(held.column("shard"))
    is_of_shards = (ds.field("shard") >= shards["min"]) & (ds.field("shard") <= shards["max"])
    decisions = read_past_decisions(store, pc.unique(held.column("group_key")), is_of_shards)
    since = {key: held_since(rows) for key, rows in decisions.items()}
    found = [since.get(key) for key in models.column("group_key").to_pylist()]
    return models.append_column(HELD_SINCE, pa.array(found, pa.int64()))


def read_past_decisions(
    store: FleetStore, group_keys: pa.Array, within: ds.Expression | None = None
) -> dict[str, list[PastDecision]]:
    """group_key -> the stored decisions about a group, in no order. within: a condition that all of them meet."""
    is_wanted = ds.field("group_key").isin(group_keys)
    columns = ["group_key", "decision", "reason", "about_jump", "clock", "decided_at", "epoch"]
    decisions: dict[str, list[PastDecision]] = {}
    where = is_wanted if within is None else within & is_wanted
    for row in delta.read_table(store, tables.PROMOTIONS, columns, where).to_pylist():
        times = to_microseconds(row["clock"]), to_microseconds(row["decided_at"])
        about_jump = row["about_jump"]
        if about_jump is None:
            about_jump = about_jump_by_reason(row["decision"], row["reason"] or "")
        past = PastDecision(row["decision"], *times, row["epoch"], about_jump)
        decisions.setdefault(row["group_key"], []).append(past)
    return decisions


def _other_path_epochs(models: pa.Table, store: FleetStore, kind: RoundKind) -> dict[tuple[str, str], int]:
    """(group_key, model_id) -> the greatest epoch in which the other path has promoted that model."""
    shards, through = pc.min_max(models.column("shard")), pc.min_max(models.column("trained_through"))
    is_of_models = (
        (ds.field("shard") >= shards["min"])
        & (ds.field("shard") <= shards["max"])
        & ds.field("model_id").isin(pc.unique(models.column("model_id").drop_null()))
    )
    # The same model was trained through the same time, so promotions of other times need not be read.
    is_of_same_time = (ds.field("trained_through") >= through["min"]) & (ds.field("trained_through") <= through["max"])
    is_promoting = ds.field("decision").isin([decision.value for decision in PROMOTING_DECISIONS])
    other = (RoundKind.STREAM if kind == RoundKind.BATCH else RoundKind.BATCH).value
    columns = ("group_key", "model_id", "epoch")
    promoted = _read(store.directory(tables.PROMOTIONS, other), columns, is_of_models & is_of_same_time & is_promoting)
    if not promoted.num_rows:
        return {}
    is_withdrawal = is_of_models & (ds.field("decision") == Decision.WITHDRAWN.value)  # others need not be read
    withdrawn = withdrawn_model_ids(
        (row["model_id"], row["decision"])
        for directory in store.directories(tables.PROMOTIONS)
        for row in _read(directory, ("model_id", "decision"), is_withdrawal).to_pylist()
    )
    epochs: dict[tuple[str, str], int] = {}
    for row in promoted.to_pylist():
        if row["model_id"] not in withdrawn and row["epoch"] is not None:
            model = row["group_key"], row["model_id"]
            epochs[model] = max(row["epoch"], epochs.get(model, row["epoch"]))
    return epochs


def _read(directory: Directory, columns: tuple[str, ...], where: ds.Expression) -> pa.Table:
    table = delta.open_table(directory)
    assert table is not None, f"{directory.name} was made before any round"
    return delta.open_dataset(table).to_table(list(columns), filter=where)
