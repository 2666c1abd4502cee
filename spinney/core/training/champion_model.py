"""The champion of a fit request as a model that predicts rows of the current recipe."""

from __future__ import annotations

from dataclasses import replace

from spinney.core.errors import ContractError, Corrupt
from spinney.core.models import codec
from spinney.core.models.model import Model
from spinney.core.models.signing import Claim, Signer
from spinney.core.recipes.recipe import Recipe
from spinney.core.training.fit_request import Ask


def opened(ask: Ask, recipe: Recipe, signer: Signer) -> Model:
    """Verify and load the champion, with its features under their current names.

    Raises ContractError if it was fitted on a column that is not a feature of `recipe`, and Corrupt if its payload is
    missing or its signature does not verify.
    """
    claim, payload = claim_of(ask)
    model = codec.open_signed(signer, claim, payload, ask.signature)
    features = tuple(map(recipe.feature_now, model.encoder.features))
    if gone := [feature.name for feature in features if feature not in recipe.features]:
        raise ContractError(
            f"champion {ask.champion_id} of group {ask.group_key}: expected features of today's recipe; it was fitted "
            f"on {', '.join(gone)} too. It is not compared"
        )
    return replace(model, encoder=replace(model.encoder, features=features))


def claim_of(ask: Ask) -> tuple[Claim, bytes]:
    """What the champion's signature covers, and its payload. Raises Corrupt if the payload is missing."""
    if ask.champion_id is None or ask.codec is None or ask.payload is None:
        raise Corrupt(f"champion {ask.champion_id} of group {ask.group_key}: expected its codec and payload; got none")
    return Claim(ask.group_key, ask.champion_id, ask.codec), bytes(ask.payload)
