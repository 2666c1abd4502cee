"""The parents' champions of a call's fit requests, each loaded once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from spinney.core.errors import SpinneyError
from spinney.core.models.model import Model
from spinney.core.models.signing import Signer
from spinney.core.recipes.recipe import Recipe
from spinney.core.training import current_group
from spinney.core.training.champion_model import load_champion
from spinney.core.training.fit_request import FitRequest


@dataclass(frozen=True)
class ParentModels:
    """models: model_id -> the parent's model, with its features under their current names. errors: why one is not."""

    models: Mapping[str, Model]
    errors: Mapping[str, str]

    @classmethod
    def load(cls, requests: Sequence[FitRequest], recipe: Recipe, signer: Signer) -> ParentModels:
        """Verify and load the parents of these requests. An error of one is kept, not raised."""
        models: dict[str, Model] = {}
        errors: dict[str, str] = {}
        for request in requests:
            parent = request.parent
            if parent is None or parent.champion_id is None or {parent.champion_id} & (models.keys() | errors.keys()):
                continue
            if recipe.champion_error is not None:
                errors[parent.champion_id] = recipe.champion_error
                continue
            current_group.report(request.group_key, current_group.READ_CHAMPION)
            try:
                models[parent.champion_id] = load_champion(parent, recipe, signer)
            except SpinneyError as error:
                errors[parent.champion_id] = str(error)
        return cls(models, errors)
