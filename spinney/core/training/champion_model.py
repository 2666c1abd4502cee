"""The champion of a fit request as a model that predicts rows of the current recipe."""

from __future__ import annotations

from dataclasses import replace

from spinney.core.errors import ContractError, Corrupt
from spinney.core.models import codec
from spinney.core.models.model import Model
from spinney.core.models.signing import Claim, Signer
from spinney.core.recipes.recipe import Recipe
from spinney.core.training.fit_request import FitRequest


class OtherFeaturesError(ContractError):
    """A champion was fitted on a column that is not a feature of the current recipe."""


def load_champion(request: FitRequest, recipe: Recipe, signer: Signer) -> Model:
    """Verify and load the champion, with its features under their current names.

    Raises OtherFeaturesError if it was fitted on a column that is not a feature of `recipe`, and Corrupt if its payload
    is missing or its signature does not verify.
    """
    claim, payload = champion_claim(request)
    model = codec.load_signed(signer, claim, payload, request.signature)
    features = tuple(map(recipe.current_feature, model.encoder.features))
    if unknown := [feature.name for feature in features if feature not in recipe.features]:
        raise OtherFeaturesError(
            f"champion {request.champion_id} of group {request.group_key}: expected features of the current recipe; "
            f"it was fitted on {', '.join(unknown)} too. It is not compared"
        )
    return replace(model, encoder=replace(model.encoder, features=features))


def champion_claim(request: FitRequest) -> tuple[Claim, bytes]:
    """Return the champion's claim, which its signature covers, and its payload. Raises Corrupt without a payload."""
    if request.champion_id is None or request.codec is None or request.payload is None:
        raise Corrupt(
            f"champion {request.champion_id} of group {request.group_key}: expected its codec and payload; got none"
        )
    return Claim(request.group_key, request.champion_id, request.codec), bytes(request.payload)
