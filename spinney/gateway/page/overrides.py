"""The overrides of champions and the refits that people order on the page, carried out as the command line does."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from spinney.core.champions.interventions import ChampionChange
from spinney.operations import interventions, retrain_now
from spinney.operations.interventions import Attribution, OverrideRequest, OverrideVerb, ProposedOverride
from spinney.operations.retrain_now import RequestOutcome
from spinney.storage.layout import FleetStore
from spinney.storage.signing_key import load_signer

_Reason = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=500)]


class OverrideOrder(BaseModel):
    """A person's order to override a champion.

    group_key: of a group or parent. model: a model_id or its first characters, for promote and pin. reason: recorded
    with the decision. seen: the `version` of the proposal that the person confirmed; None to see what would change.
    becomes: the model_id that answers after the proposal; None: not compared.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    verb: OverrideVerb
    group_key: Annotated[str, Field(min_length=1, max_length=2_000)]
    model: Annotated[str, Field(min_length=4, max_length=128)] | None = None
    reason: _Reason | None = None
    seen: Annotated[int, Field(ge=0)] | None = None
    becomes: Annotated[str, Field(min_length=1, max_length=128)] | None = None

    @model_validator(mode="after")
    def _has_model(self) -> OverrideOrder:
        if (self.verb == OverrideVerb.PROMOTE) != (self.model is not None) and self.verb != OverrideVerb.PIN:
            raise ValueError("expected `model` with promote, and with promote and pin alone")
        return self


def carry_out_order(store: FleetStore, order: OverrideOrder, person: str) -> ProposedOverride:
    """Return the changes that an order makes. They are written only if `order.seen` is given.

    person: name of the person who gives the order, as recorded. Raises the errors of `carry_out_override`, for example
    StoreError if another person changed a champion since the proposal that was seen, or another model would answer.
    """
    signer = load_signer(store)
    request = OverrideRequest(order.verb, (order.group_key,), order.model)
    if order.seen is None:
        return interventions.propose_override(store, signer, request)
    becomes = [] if order.becomes is None else [_change_to(order.group_key, order.becomes)]
    shown = ProposedOverride(tuple(becomes), (), order.seen)
    return interventions.carry_out_override(store, signer, request, Attribution(person, order.reason or ""), shown)


def _change_to(group_key: str, model_id: str) -> ChampionChange:
    """Return the part of a change that a person has confirmed: which model becomes the champion."""
    return ChampionChange(group_key, 0, None, model_id, None, None, "")


class RetrainOrder(BaseModel):
    """A group or parent that a person wants retrained. reason: recorded with it; None to see what would happen."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    group_key: Annotated[str, Field(min_length=1, max_length=2_000)]
    reason: _Reason | None = None


def carry_out_retrain_order(store: FleetStore, order: RetrainOrder, person: str) -> RequestOutcome:
    """Return the outcome of an order. The request is written only if it has a reason.

    Raises the errors of `request_retrain`.
    """
    if order.reason is None:
        return retrain_now.check_request(store, order.group_key)
    return retrain_now.request_retrain(store, order.group_key, Attribution(person, order.reason))
