"""The parents' champions of a call's fit requests, each loaded once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from spinney.core.errors import SpinneyError
from spinney.core.models.linear import Linear, Link
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

    def prior_of(self, request: FitRequest, recipe: Recipe) -> Model | None:
        """The model that a group is pooled with; None if the recipe does not pool or the parent has no linear model.

        A parent's model of other features, or of an estimator that is not linear, is no prior.
        """
        if recipe.pooling_rows is None or request.parent is None:
            return None
        model = self.models.get(str(request.parent.champion_id))
        if model is None or model.encoder.features != recipe.features or not isinstance(model.estimator, Linear):
            return None
        return model if model.estimator.link is Link.IDENTITY else None

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
