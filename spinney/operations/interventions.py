"""Overrides of champions by people: propose the changes, and write them to ``promotions/people``.

That directory has its own lease, so an override waits for neither the stream nor a batch. Both read what is written.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import pyarrow as pa

from schemas import tables
from schemas.vocabulary import Decision, ModelStatus
from spinney.core import keys, timestamps
from spinney.core.champions import interventions
from spinney.core.champions.champion_selection import is_pinned, select_champion
from spinney.core.champions.interventions import SHORT_ID_LENGTH, ChampionChange
from spinney.core.champions.promotion import CHAMPION_COLUMNS, PAYLOAD_COLUMNS, PEOPLE, Promotion
from spinney.core.config import Fleet
from spinney.core.errors import Corrupt, GroupError, StoreError
from spinney.core.models import codec
from spinney.core.models.signing import Claim, Signer
from spinney.serving.model_cache import CARRIED_BYTES
from spinney.storage import charter, leases
from spinney.storage.layout import FleetStore
from spinney.tables import delta, lookup
from spinney.tables.arrow_schemas import arrow_schema
from spinney.tables.delta import DirectoryWriter
from spinney.tables.lookup import RowFilter

STEP = "decide"

_HISTORY = [*CHAMPION_COLUMNS, "clock"]
_MODEL = [
    "group_key", "model_id", "trained_through", "fitted_at", "rows", "metrics", "heldout_losses",
    "loss_name", "training_predictions", "heldout_predictions", "prequential_losses", "fit_ms",
    "codec", "payload", "signature",
]  # fmt: skip

_REMEDY = "or fit the group again: `spinney retrain --group`"
_UNVERIFIED = (
    "the model's signature does not hold, or its bytes cannot be read, so it must not answer. Restore the signing key "
    f"or the table, {_REMEDY}"
)
_GONE = f"the model is no longer stored. Restore the table, {_REMEDY}"


class OverrideVerb(StrEnum):
    """The ways in which a person can override which model answers."""

    PROMOTE = "promote"
    ROLLBACK = "rollback"
    PIN = "pin"
    UNPIN = "unpin"


@dataclass(frozen=True)
class OverrideRequest:
    """A change that a person requests.

    group_keys: None for the whole fleet, including parents. model: a model_id, or its first characters. at: the time to
    go back to.
    """

    verb: OverrideVerb
    group_keys: tuple[str, ...] | None
    model: str | None = None
    at: datetime | None = None


@dataclass(frozen=True)
class Attribution:
    """The person who decided, and the reason. Recorded with the decision."""

    by: str
    reason: str


@dataclass(frozen=True)
class SkippedGroup:
    """A group that is not changed, and why.

    wanting: whether this makes the request incomplete, so that the command exits with 1; False if the group is pinned.
    """

    group_key: str
    model_id: str | None
    why: str
    wanting: bool = False


@dataclass(frozen=True)
class ProposedOverride:
    """The changes, before they are written. version: of the directory `promotions/people` when they were computed."""

    steps: tuple[ChampionChange, ...]
    left: tuple[SkippedGroup, ...]
    version: int


@dataclass(frozen=True)
class _Histories:
    """The promotions of some groups. clock: the greatest value of their column `clock`."""

    histories: Mapping[str, list[Promotion]]
    clock: datetime | None


def propose_override(store: FleetStore, signer: Signer, request: OverrideRequest) -> ProposedOverride:
    """Return what a request would change. Nothing is written.

    Raises StoreError or GroupError if a named group or model cannot be changed. If the request is for the whole fleet,
    such groups are skipped.
    """
    version = delta.current_version(store.directory(tables.PROMOTIONS, PEOPLE))
    proposed, _ = _propose_changes(store, signer, request, _read_histories(store, request.group_keys))
    return replace(proposed, version=version)


def carry_out_override(
    store: FleetStore,
    signer: Signer,
    request: OverrideRequest,
    attribution: Attribution,
    shown: ProposedOverride | None = None,
    now: datetime | None = None,
) -> ProposedOverride:
    """Write what the request changes, and return it.

    shown: the proposal that the user confirmed. Promotions written meanwhile by the stream or a batch are included,
    unless by them another model than the shown one would become a group's champion.

    Raises the errors of `propose_override`; StoreError if another person changed a champion since `shown`, or if the
    result would be another one; Busy while another person's change is being written.
    """
    place = store.directory(tables.PROMOTIONS, PEOPLE)
    with leases.held(store, [PEOPLE]):
        charter.ensure_charter(store)
        version = delta.current_version(place)
        if shown is not None and shown.version != version:
            raise StoreError(
                f"fleet {store.fleet.name}: another person changed a champion after these changes were shown; nothing "
                "was written. Check the champions, and repeat the command"
            )
        known = _read_histories(store, request.group_keys)
        proposed, models = _propose_changes(store, signer, request, known)
        if shown is not None:
            _refuse_other_result(shown, proposed)
        if proposed.steps:
            delta.add_new_columns(place, delta.open_existing(place))  # no stream may have run since an update
            writer = DirectoryWriter(place, PEOPLE, PEOPLE)
            last = writer.last_commit(STEP)
            batch_id = 0 if last is None else last.batch_id + 1
            now = now or datetime.now(UTC)
            common = {
                "round_id": f"{PEOPLE}-{batch_id}",
                "reason": f"{_request_text(request)}: {attribution.reason}",
                "about_jump": False,
                "by": attribution.by,
                "decided_at": now,
                "clock": now if store.fleet.clock == "wall" else known.clock or now,
                "batch_id": batch_id,
            }
            rows = [row for step in proposed.steps for row in _promotion_rows(store.fleet, step, known, models)]
            table = pa.Table.from_pylist([row | common for row in rows], schema=arrow_schema(place.contract))
            writer.append(table, step=STEP, batch_id=batch_id)
    return replace(proposed, version=version)


def _refuse_other_result(shown: ProposedOverride, proposed: ProposedOverride) -> None:
    """Raise StoreError if another model than the shown one would become a group's champion.

    The model before the champion, or the champion to be pinned, is another one after a promotion: a rollback of a bad
    model would bring back this model, in place of the one that was promoted since.
    """
    becomes = {step.group_key: step.after for step in proposed.steps}
    for step in shown.steps:
        now = becomes.get(step.group_key, step.after)
        if now != step.after:
            named = [(name or "none of its own")[:SHORT_ID_LENGTH] for name in (step.after, now)]
            raise StoreError(
                f"group {step.group_key}: expected {named[0]} to become its champion, as it was shown; now it would be "
                f"{named[1]}, since a machine has promoted a model meanwhile. Nothing was written. Look at the group, "
                "and repeat the command"
            )


def _request_text(request: OverrideRequest) -> str:
    if request.verb != OverrideVerb.ROLLBACK:
        return {OverrideVerb.PROMOTE: "promoted by hand", OverrideVerb.PIN: "pinned", OverrideVerb.UNPIN: "unpinned"}[
            request.verb
        ]
    return "rolled back" if request.at is None else f"rolled back to {request.at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def _propose_changes(
    store: FleetStore, signer: Signer, request: OverrideRequest, known: _Histories
) -> tuple[ProposedOverride, Mapping[str, dict[str, Any]]]:
    """Return the changes, and the models that they name, by model_id."""
    found, left = [], []
    for key in sorted(known.histories) if request.group_keys is None else request.group_keys:
        history = known.histories[key]
        current = select_champion(history)
        name = current.model_id if current else None
        try:
            step = _change_of_group(store, request, key, history)
        except GroupError as error:
            if request.group_keys is not None:
                raise
            pinned = is_pinned(history)
            left.append(SkippedGroup(key, name, "pinned" if pinned else str(error), wanting=not pinned))
            continue
        if step is None:
            left.append(SkippedGroup(key, name, "answers already" if name else "no model of its own, then as now"))
        else:
            found.append(step)
    targets = {step.after: step.group_key for step in found if step.after is not None}
    models, wrong = _read_models(store, signer, targets)
    if request.verb == OverrideVerb.UNPIN:
        wrong = {}  # it answers, or fails to, as it did while it was pinned
    for step in found:
        if step.after in wrong:
            if request.group_keys is not None and step.after:
                raise GroupError(step.group_key, f"{step.after[:SHORT_ID_LENGTH]}: {wrong[step.after]}")
            left.append(SkippedGroup(step.group_key, step.before, wrong[step.after], wanting=True))
    usable = tuple(step for step in found if step.after not in wrong)
    return ProposedOverride(usable, tuple(sorted(left, key=lambda skipped: skipped.group_key)), 0), models


def _change_of_group(
    store: FleetStore, request: OverrideRequest, key: str, history: Sequence[Promotion]
) -> ChampionChange | None:
    if request.verb == OverrideVerb.ROLLBACK:
        return interventions.rollback(
            key, history, None if request.at is None else timestamps.to_microseconds(request.at)
        )
    if request.verb == OverrideVerb.UNPIN:
        return interventions.unpin(key, history)
    target = _find_model(store, key, request.model) if request.model else None
    if request.verb == OverrideVerb.PIN:
        return interventions.pin(key, history, target)
    assert target is not None, "a promotion names its model"
    return interventions.promote(key, history, target)


def _read_histories(store: FleetStore, group_keys: Sequence[str] | None) -> _Histories:
    """Read promotions. Raises StoreError if a group has none, with the most similar keys that have some."""
    if group_keys is None:
        rows = lookup.read_where(store, tables.PROMOTIONS, _HISTORY)
    else:
        rows = lookup.read_rows(store, tables.PROMOTIONS, _HISTORY, RowFilter.of_groups(group_keys))
    histories: dict[str, list[Promotion]] = defaultdict(list)
    clock: datetime | None = None
    for row in lookup.to_dicts(rows):
        histories[row["group_key"]].append(Promotion.from_row(row))
        clock = row["clock"] if clock is None else max(clock, row["clock"] or clock)
    for key in group_keys or ():
        if key not in histories:
            known = lookup.read_group_keys(store, tables.PROMOTIONS)
            raise StoreError(keys.unknown_group_message(key, known, "no model of it is known"))
    return _Histories(histories, clock)


def _find_model(store: FleetStore, key: str, model: str) -> Promotion:
    """Return the group's model with this model_id, or whose model_id begins with it. Raises GroupError."""
    columns = ["group_key", "model_id", "trained_through", "fitted_at", "status"]
    attempts = lookup.to_dicts(lookup.read_rows(store, tables.MODELS, columns, RowFilter.of_groups([key])))
    fitted = [row for row in attempts if row["status"] == ModelStatus.FITTED]
    found = {row["model_id"]: row for row in fitted if row["model_id"].startswith(model)}
    if len(found) == 1:
        ((name, row),) = found.items()
        return Promotion.from_row({**row, "model_id": name, "decision": Decision.PROMOTED})
    if found:
        raise GroupError(key, f"{len(found)} of its models begin with {model!r}; give more of the name")
    import pyarrow.dataset as ds

    is_model = (ds.field("status") == ModelStatus.FITTED.value) & (ds.field("model_id") == model)
    others = delta.read_table(store, tables.MODELS, columns, is_model).to_pylist()
    if others:
        raise GroupError(
            key,
            f"model {model[:SHORT_ID_LENGTH]} was fitted for {others[0]['group_key']}; a model answers only for its "
            "own group. `spinney why` shows a group's models",
        )
    newest = sorted({row["model_id"]: row["fitted_at"] for row in fitted}.items(), key=lambda item: item[1])[-5:]
    listed = ", ".join(f"{name[:SHORT_ID_LENGTH]} ({at:%Y-%m-%d %H:%M})" for name, at in reversed(newest)) or "none"
    raise GroupError(key, f"expected one of its models; got {model!r}. Its newest, by when they were fitted: {listed}")


def _read_models(
    store: FleetStore, signer: Signer, owners: Mapping[str, str]
) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """Return the stored rows of these models, and model_id -> why a model cannot answer.

    owners: model_id -> group_key.
    """
    found: dict[str, dict[str, Any]] = {}
    held: set[str] = set()
    for batch in lookup.read_batches(store, tables.MODELS, _MODEL, RowFilter.of_models(owners)):
        for row in lookup.to_dicts(batch):
            name = row["model_id"]
            if name in held:  # stored by both paths, which fitted the same model
                continue
            held |= {name} if _has_valid_signature(signer, owners[name], row) else set()
            carried = name in held and len(row["payload"] or b"") <= CARRIED_BYTES
            found[name] = row if carried else {**row, "payload": None}
    wrong = {name: _UNVERIFIED if name in found else _GONE for name in owners if name not in held}
    return {name: found.get(name, {"payload": None}) for name in owners}, wrong


def _has_valid_signature(signer: Signer, owner: str, row: Mapping[str, Any]) -> bool:
    with suppress(Corrupt):
        claim = Claim(owner, row["model_id"], row["codec"])
        codec.load_signed(signer, claim, row["payload"] or b"", row["signature"])
        return True
    return False


def _promotion_rows(
    fleet: Fleet, step: ChampionChange, known: _Histories, models: Mapping[str, Mapping[str, Any]]
) -> Iterable[dict[str, Any]]:
    """Yield the rows of `promotions` for one change, without the columns that all rows of a request share."""
    for name, decision in step.rows:
        model = models.get(name, {})
        metrics = json.loads(model.get("metrics") or "{}")
        carried = model if decision != Decision.WITHDRAWN and model.get("payload") is not None else {}
        yield {
            "shard": keys.shard_of(step.group_key, fleet.shards),
            "group_key": step.group_key,
            "epoch": step.epoch,
            "model_id": name,
            "decision": decision.value,
            **_model_fields(name, model, known.histories[step.group_key]),
            "rows": model.get("rows"),
            "fit_ms": model.get("fit_ms"),
            "challenger_loss": metrics.get("challenger_loss"),
            "rows_compared": metrics.get("heldout_rows"),
            "heldout_losses": model.get("heldout_losses"),
            "loss_name": model.get("loss_name"),
            "training_predictions": model.get("training_predictions"),
            "heldout_predictions": model.get("heldout_predictions"),
            "prequential_losses": model.get("prequential_losses"),
            **{column: carried.get(column) for column in PAYLOAD_COLUMNS},
        }


def _model_fields(name: str, model: Mapping[str, Any], history: Iterable[Promotion]) -> dict[str, Any]:
    """Return trained_through and fitted_at of a model, from its row in `models`, else from its earlier promotions."""
    if model.get("fitted_at") is not None:
        return {column: model[column] for column in ("trained_through", "fitted_at")}
    newest = max((row for row in history if row.model_id == name), key=lambda row: row.order)
    return {column: getattr(newest, column) or None for column in ("trained_through", "fitted_at")}
