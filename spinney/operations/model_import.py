"""Import models that were fitted elsewhere as first champions: rows of ``models/people`` and ``promotions/people``.

An import is written under the lease for people but in the group's current epoch, so a model that machines fit on newer
rows replaces it. A model imported without `trained_through` is replaced by any fitted one. The model_id is a hash of
the content, so importing a model twice adds nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds

from schemas import tables
from schemas.vocabulary import Decision, ModelStatus
from spinney.core import keys
from spinney.core.champions.champion_selection import select_champion
from spinney.core.champions.interventions import SHORT_ID_LENGTH
from spinney.core.champions.promotion import CHAMPION_COLUMNS, PAYLOAD_COLUMNS, PEOPLE, Promotion
from spinney.core.champions.withdrawals import is_still_withdrawn
from spinney.core.config import Fleet
from spinney.core.errors import MAX_ERROR_CHARACTERS, ContractError, StoreError
from spinney.core.features.encoding import to_columns
from spinney.core.models import codec
from spinney.core.models.signing import Claim, Signer
from spinney.core.recipes.recipe import Recipe
from spinney.core.training.fit_attempt import model_id_of
from spinney.core.training.imported_model_checks import import_estimator, try_model
from spinney.operations.interventions import STEP, Attribution
from spinney.operations.model_file_reading import ModelSource, load_model
from spinney.serving.model_cache import CARRIED_BYTES
from spinney.storage import charter, leases
from spinney.storage.layout import FleetStore
from spinney.tables import delta
from spinney.tables.arrow_schemas import arrow_schema, to_pandas
from spinney.tables.delta import DirectoryWriter
from spinney.tables.readers.fleet_clock import read_fleet_clock

TRIED_ROWS = 5
"""Number of stored events of its group that each model is tried on."""


@dataclass(frozen=True)
class ImportRequest:
    """One line of the list of models to import.

    named: a path, or an MLflow URI. trained_through, rows: newest event time and number of its training rows; None if
    not known.
    """

    group_key: str
    named: str
    trained_through: datetime | None = None
    rows: int | None = None


class ImportOutcome(StrEnum):
    """The result of importing one model."""

    IMPORTED = "imported"
    THERE = "there already"
    REFUSED = "refused"


@dataclass(frozen=True)
class ImportResult:
    """The result for one line of the list of models.

    why: the reason of a refusal, or scikit-learn's warnings, if any.
    """

    group_key: str
    named: str
    what: ImportOutcome
    model_id: str | None = None
    why: str | None = None


@dataclass(frozen=True)
class PreparedModel:
    """A model that passed the checks and can be stored."""

    wanted: ImportRequest
    model_id: str
    recipe_id: str
    codec: str
    payload: bytes
    note: str | None


def sample_rows(store: FleetStore, group_keys: Collection[str]) -> dict[str, pd.DataFrame]:
    """Return the features of up to TRIED_ROWS stored events per group.

    Groups without events are left out. Reads `events` once.
    """
    table = delta.open_table(store.directory(tables.EVENTS))
    if table is None:
        return {}
    fleet = store.fleet
    columns = {name: ds.field("event_time" if name == fleet.event_time else name) for name in fleet.features}
    found: dict[str, list[pd.DataFrame]] = defaultdict(list)
    open_groups = set(group_keys)
    is_wanted = ds.field("group_key").isin(pa.array(sorted(open_groups), pa.string()))
    for batch in delta.open_dataset(table).to_batches(
        {"group_key": ds.field("group_key"), **columns}, filter=is_wanted
    ):
        for name, rows in to_pandas(pa.Table.from_batches([batch])).groupby("group_key", sort=False):
            key = str(name)
            if key in open_groups:
                found[key].append(rows.drop(columns="group_key").head(TRIED_ROWS))
                if sum(map(len, found[key])) >= TRIED_ROWS:
                    open_groups.discard(key)
        if not open_groups:
            break
    return {key: pd.concat(parts, ignore_index=True).head(TRIED_ROWS) for key, parts in found.items()}


def require_fleet_clock(store: FleetStore) -> datetime:
    """Return the fleet's present time, against which the age of imported models is measured.

    With event time as the fleet's clock this is the time of the newest stored event, even if a model's
    `trained_through` is later: the judge keeps the latest time that it has seen, so one ahead of the events would stay.
    Raises StoreError if the clock is event time and no event is stored.
    """
    now = read_fleet_clock(store)
    if now is None:
        raise StoreError(
            f"fleet {store.fleet.name}: expected a stored event, since the fleet's clock is event time; got none. "
            "Load the history first"
        )
    return now


def prepare_model(
    wanted: ImportRequest, rows: pd.DataFrame | None, recipe: Recipe, signer: Signer, source: ModelSource
) -> PreparedModel:
    """Load a model, try it on these rows, and check that it survives storage. Raises ContractError or Corrupt."""
    read = load_model(wanted.named, source)
    model = import_estimator(read.estimator, recipe)
    features = pd.DataFrame({feature.name: [] for feature in recipe.features})
    tried_rows, answers = try_model(model, features if rows is None else rows)
    kind, payload = codec.dump(model)
    kind_of = type(read.estimator)
    recipe_id = f"imported:{kind_of.__module__}.{kind_of.__qualname__}"
    model_id = model_id_of(wanted.group_key, hashlib.sha256(payload).hexdigest(), recipe_id)
    claim = Claim(wanted.group_key, model_id, kind)
    stored = codec.load_signed(signer, claim, payload, signer.sign(claim, payload))
    if not np.array_equal(stored.raw_predictions(to_columns(tried_rows, recipe.features)), answers):
        raise ContractError("expected the same predictions after storing and loading it; got different ones")
    return PreparedModel(
        wanted, model_id, recipe_id, kind, payload, "; ".join(read.notes)[:MAX_ERROR_CHARACTERS] or None
    )


def refuse_future_training(wanted: ImportRequest, clock: datetime) -> None:
    """Raise ContractError if `trained_through` is after the fleet's clock: no fitted model could replace this one."""
    if wanted.trained_through is not None and wanted.trained_through > clock:
        raise ContractError(
            f"trained_through: expected a time not after the fleet's clock, {clock:%Y-%m-%d %H:%M:%S} UTC; "
            f"got {wanted.trained_through}"
        )


def store_models(
    store: FleetStore,
    signer: Signer,
    models: Sequence[PreparedModel],
    attribution: Attribution,
    clock: datetime,
    *,
    dry_run: bool = False,
) -> list[ImportResult]:
    """Store the models that are not stored yet. Returns one result per model, in order. dry_run: store nothing.

    Raises Busy while another person's change is being written.
    """
    with nullcontext() if dry_run else leases.held(store, [PEOPLE]):
        known = _read_stored(store, [model.wanted.group_key for model in models])
        results = [_result_of(model, known.histories.get(model.wanted.group_key, [])) for model in models]
        fresh = [model for model, result in zip(models, results, strict=True) if result.what == ImportOutcome.IMPORTED]
        if fresh and not dry_run:
            charter.ensure_charter(store)
            _write(store, signer, fresh, known, attribution, clock)
    return results


@dataclass(frozen=True)
class _StoredModels:
    """The stored promotions of some groups, and the model_ids of all their models."""

    histories: Mapping[str, list[Promotion]]
    models: Collection[str]


def _read_stored(store: FleetStore, group_keys: Sequence[str]) -> _StoredModels:
    is_wanted = ds.field("group_key").isin(pa.array(group_keys, pa.string()))
    histories: dict[str, list[Promotion]] = defaultdict(list)
    for row in delta.read_table(store, tables.PROMOTIONS, [*CHAMPION_COLUMNS], is_wanted).to_pylist():
        histories[row["group_key"]].append(Promotion.from_row(row))
    models = delta.read_table(store, tables.MODELS, ["model_id"], is_wanted).column("model_id").to_pylist()
    return _StoredModels(histories, set(models))


def _result_of(made: PreparedModel, history: Sequence[Promotion]) -> ImportResult:
    key, named = made.wanted.group_key, made.wanted.named
    current = select_champion(history)
    if own_rows := [row for row in history if row.model_id == made.model_id]:
        if current is None or is_still_withdrawn(own_rows):
            why = f"a person withdrew it; `spinney promote --model {made.model_id[:SHORT_ID_LENGTH]}` brings it back"
            return ImportResult(key, named, ImportOutcome.REFUSED, made.model_id, why)
        return ImportResult(key, named, ImportOutcome.THERE, made.model_id, made.note)
    if current is not None:
        name = current.model_id[:SHORT_ID_LENGTH]
        why = f"model {name} answers for it already; imported models are first champions only"
        return ImportResult(key, named, ImportOutcome.REFUSED, made.model_id, why)
    return ImportResult(key, named, ImportOutcome.IMPORTED, made.model_id, made.note)


def _write(
    store: FleetStore,
    signer: Signer,
    fresh: Sequence[PreparedModel],
    known: _StoredModels,
    attribution: Attribution,
    clock: datetime,
) -> None:
    """Write the models, then the promotions: if the process ends between, the next import adds the promotions."""
    places = [store.directory(base, PEOPLE) for base in (tables.MODELS, tables.PROMOTIONS)]
    writers = [DirectoryWriter(place, PEOPLE, PEOPLE) for place in places]
    last = [commit.batch_id for writer in writers if (commit := writer.last_commit(STEP)) is not None]
    batch_id, now = max(last, default=-1) + 1, datetime.now(UTC)
    of_all = {"round_id": f"{PEOPLE}-{batch_id}", "batch_id": batch_id, "clock": clock}
    models = [of_all | _model_row(store.fleet, signer, model, now) for model in fresh]
    decided = {
        "decision": Decision.UNPROVEN.value,
        "reason": f"imported: {attribution.reason}",
        "about_jump": False,
        "by": attribution.by,
    }
    promotions = [model | decided | {"decided_at": now} | _epoch_and_payload(model, known) for model in models]
    fresh_models = [model for model in models if model["model_id"] not in known.models]
    for writer, place, rows in zip(writers, places, (fresh_models, promotions), strict=True):
        if rows:
            table = pa.Table.from_pylist(rows, schema=arrow_schema(place.contract))
            writer.append(table, step=STEP, batch_id=batch_id)


def _model_row(fleet: Fleet, signer: Signer, model: PreparedModel, now: datetime) -> dict[str, Any]:
    key = model.wanted.group_key
    return {
        "shard": keys.shard_of(key, fleet.shards),
        "group_key": key,
        "model_id": model.model_id,
        "recipe_id": model.recipe_id,
        "status": ModelStatus.FITTED.value,
        "rows": model.wanted.rows,
        "trained_through": model.wanted.trained_through,
        "metrics": json.dumps({"origin": model.wanted.named}),
        "codec": model.codec,
        "payload": model.payload,
        "signature": signer.sign(Claim(key, model.model_id, model.codec), model.payload),
        "fitted_at": now,
    }


def _epoch_and_payload(model: Mapping[str, Any], known: _StoredModels) -> dict[str, Any]:
    epoch = max((row.revision for row in known.histories.get(model["group_key"], ())), default=0)
    carried = len(model["payload"]) <= CARRIED_BYTES
    return {"epoch": epoch} if carried else {"epoch": epoch, **dict.fromkeys(PAYLOAD_COLUMNS)}
