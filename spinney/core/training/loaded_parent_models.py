"""The parents' champions of a call's fit requests, each loaded once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from spinney.core.errors import FitFailed, SpinneyError
from spinney.core.models.linear import Linear, Link
from spinney.core.models.model import Model
from spinney.core.models.signing import Signer
from spinney.core.recipes.recipe import Recipe
from spinney.core.training import current_group
from spinney.core.training.champion_model import OtherFeaturesError, load_champion
from spinney.core.training.fit_request import FitRequest
from spinney.core.training.parent_row_lineage import Ladder, rung_of

UNREAD_PRIOR = "UnreadPrior"
"""Error class of a group whose parent's model could not be loaded, so that the model to pool it with is not known."""


@dataclass(frozen=True)
class ParentModels:
    """The champions of parents.

    models: model_id -> the parent's model, with its features under their current names. errors: model_id -> reason why
    it was not loaded. unasked: model_id -> reason why it is not called, although it may be loaded.
    """

    models: Mapping[str, Model]
    errors: Mapping[str, SpinneyError]
    unasked: Mapping[str, str] = field(default_factory=dict)

    def prior_of(self, request: FitRequest, recipe: Recipe) -> Model | FitFailed | None:
        """Return the model that a group is pooled with; None if the recipe does not pool or its parent has none.

        A parent's model with other features, or of an estimator that is not linear, is not used as a prior. If weights
        are estimated, neither is a model that lacks the variances of a rung below it. A model that cannot be loaded
        gives an error: without it the group would get another model than its request asks for.
        """
        if recipe.pooling_rows is None or request.parent is None:
            return None
        name = str(request.parent.champion_id)
        error = self.errors.get(name)
        if error is not None and not isinstance(error, OtherFeaturesError):
            return FitFailed(request.group_key, UNREAD_PRIOR, str(error))
        model = self.models.get(name)
        if model is None or model.encoder.features != recipe.features or not isinstance(model.estimator, Linear):
            return None
        if recipe.ladder and not _has_variances(model.estimator, request.parent.group_key, recipe.ladder):
            return None
        return model if model.estimator.link is Link.IDENTITY else None

    def why_unmeasured(self, model_id: str) -> str | None:
        """Return why this model is not compared; None if it can be."""
        error = self.errors.get(model_id)
        return self.unasked.get(model_id) if error is None else str(error)

    @classmethod
    def load(cls, requests: Sequence[FitRequest], recipe: Recipe, signer: Signer) -> ParentModels:
        """Verify and load the parents of these requests. An error of one is kept, not raised."""
        models: dict[str, Model] = {}
        errors: dict[str, SpinneyError] = {name: SpinneyError(why) for name, why in recipe.unread_parents}
        for request in requests:
            parent = request.parent
            if parent is None or parent.champion_id is None:
                continue
            if parent.champion_id in models or parent.champion_id in errors:
                continue
            current_group.report(request.group_key, current_group.READ_PARENT)
            try:
                models[parent.champion_id] = load_champion(parent, recipe, signer)
            except SpinneyError as error:
                errors[parent.champion_id] = error
        return cls(models, errors, dict(recipe.unasked_parents))


def _has_variances(linear: Linear, parent: str, ladder: Ladder) -> bool:
    variances = linear.group_variances
    return variances is not None and len(variances) == rung_of(parent, ladder)
