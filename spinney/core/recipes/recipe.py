"""A recipe: what to fit and how, as one value with an id that is the same in every process."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from functools import cached_property
from importlib import import_module, metadata
from typing import TYPE_CHECKING, Any

from schemas.vocabulary import ESTIMATED
from spinney.core.errors import ContractError
from spinney.core.keys import is_parent
from spinney.core.migration.type_widening import is_widening

if TYPE_CHECKING:
    from spinney.core.config import Config, Fleet, sections

FITTING_VERSION = 4
"""Version of our fitting code: increased whenever the same rows and settings would give a different model."""

_NOT_IN_ID = (
    "shadow", "earlier", "renamed", "refit_error", "champion_error", "predecessor_error", "unread_parents",
    "unasked_parents", "user_rule",
)  # fmt: skip

LIBRARIES = ("numpy", "scikit-learn")
"""Libraries whose versions are part of a recipe."""


@dataclass(frozen=True)
class Feature:
    """A column. type: a Spark SQL type in lower case."""

    name: str
    type: str


@dataclass(frozen=True)
class Recipe:
    """The recipe of a fit on one group's rows.

    params: (name, JSON text), sorted by name. min_rows, window_rows: rows; the newest `window_rows` of a group that are
    not older than `window` are fitted. weight_half_life: age relative to the group's newest row at which a row has half
    its weight; None: all weights are equal. pooling_rows: number of the group's rows that its parent's model counts as;
    ESTIMATED: the number is estimated from the fleet's rows; None: the model is not pooled. ladder: the key columns of
    a group, then of each of its parents, nearest first; empty unless pooling_rows is ESTIMATED. source: SHA-256 of the
    user's code, empty for built-in estimators. versions: (library, version), sorted.

    Nine fields are not part of the id. shadow: a recipe that is compared in some groups. earlier: (recipe_id, recipe)
    of champions' recipes that are fitted again for comparisons. refit_error: reason why no earlier recipe is fitted
    again. champion_error, predecessor_error: reason why no champion, or no champion's predecessor, is called. Each is
    None if there is no such reason. unread_parents, unasked_parents: (model_id, reason) of parents' models that are not
    loaded, or loaded but not called. renamed: (old name, new name) of columns that champions may have been fitted on.
    user_rule: the rule of a user's own by which the gate compares; None: the built-in one.
    """

    estimator: str
    params: tuple[tuple[str, str], ...]
    features: tuple[Feature, ...]
    target: Feature
    task: str
    loss: str
    min_rows: int
    window_rows: int
    window: timedelta
    weight_half_life: timedelta | None = None
    pooling_rows: float | str | None = None
    ladder: tuple[tuple[str, ...], ...] = ()
    source: str = ""
    versions: tuple[tuple[str, str], ...] = ()
    shadow: Shadow | None = None
    earlier: tuple[tuple[str, Recipe], ...] = ()
    renamed: tuple[tuple[str, str], ...] = ()
    refit_error: str | None = None
    champion_error: str | None = None
    predecessor_error: str | None = None
    unread_parents: tuple[tuple[str, str], ...] = ()
    unasked_parents: tuple[tuple[str, str], ...] = ()
    user_rule: UserRuleTerms | None = None

    @classmethod
    def of(cls, config: Config, versions: Mapping[str, str] | None = None) -> Recipe:
        """Return the recipe of a configuration.

        versions: library -> version; by default those installed here. Raises ContractError if the source of a
        ``module:function`` estimator cannot be read.
        """
        fleet, settings = config.fleet, config.recipe
        recipe = cls(
            estimator=settings.estimator,
            params=_params_as_json(settings.params),
            features=tuple(_declared_feature(fleet, name) for name in fleet.features),
            target=_declared_feature(fleet, fleet.target),
            task=str(fleet.task),
            loss=str(fleet.loss),
            min_rows=settings.min_rows,
            window_rows=settings.window_rows,
            window=settings.window,
            weight_half_life=settings.weight_half_life,
            pooling_rows=settings.pooling_rows,
            ladder=(tuple(fleet.group), *map(tuple, fleet.parents)) if settings.pooling_rows == ESTIMATED else (),
            source=user_code_digest(settings.estimator, settings.params),
            versions=tuple(sorted((installed_versions() if versions is None else versions).items())),
        )
        return replace(recipe, shadow=Shadow.of(config.shadow, recipe), user_rule=UserRuleTerms.of(config.gate))

    @cached_property
    def recipe_id(self) -> str:
        """SHA-256 in hex of `text`: equal in every process for the same recipe, code and library versions."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def text(self) -> str:
        """The recipe as JSON, without the fields that are not part of its id."""
        own = asdict(replace(self, shadow=None, earlier=(), renamed=(), user_rule=None))
        for name in _NOT_IN_ID:
            del own[name]
        if self.pooling_rows is None:  # as before there was pooling, so that ids stay
            del own["pooling_rows"]
        if not self.ladder:
            del own["ladder"]
        return canonical_json({"fitting": FITTING_VERSION, **own})

    @classmethod
    def of_text(cls, text: str) -> Recipe:
        """Return the recipe with this `text`, which may be of an earlier FITTING_VERSION."""
        own = json.loads(text)
        del own["fitting"]
        lifetimes = {name: own[name] and timedelta(microseconds=own[name]) for name in ("window", "weight_half_life")}
        features = tuple(Feature(**feature) for feature in own["features"])
        own["ladder"] = tuple(map(tuple, own.get("ladder", ())))
        pairs = {name: tuple((key, value) for key, value in own[name]) for name in ("params", "versions")}
        return cls(**{**own, **lifetimes, **pairs, "features": features, "target": Feature(**own["target"])})

    def current_feature(self, feature: Feature) -> Feature:
        """This recipe's feature with the values of an earlier recipe's feature; the given feature if there is none.

        Follows renamed columns and widened types.
        """
        current_name = dict(self.renamed).get(feature.name, feature.name)
        current = next((feature for feature in self.features if feature.name == current_name), feature)
        return current if current.type == feature.type or is_widening(feature.type, current.type) else feature

    @property
    def arguments(self) -> dict[str, Any]:
        """The estimator's parameters as values."""
        return {name: json.loads(text) for name, text in self.params}


@dataclass(frozen=True)
class UserRuleTerms:
    """The keys of `[gate]` that a comparison by a user's own rule needs.

    rule: its ``"module:name"``. evidence, margin: what the built-in rule goes by, whose decision the user's rule gets.
    """

    rule: str
    evidence: int
    margin: float

    @classmethod
    def of(cls, settings: sections.Gate) -> UserRuleTerms | None:
        """Return the terms of a configuration; None if its rule is the built-in one."""
        is_own = ":" in settings.rule
        return cls(settings.rule, settings.evidence, settings.margin) if is_own else None


@dataclass(frozen=True)
class Shadow:
    """A second recipe that is compared in a share of the groups. Its models are never served.

    failed_groups: (group_key, error) of groups in which it killed the worker process and is not tried again.
    disabled_reason: reason why it is tried in no group; None if it is tried.
    """

    recipe: Recipe
    share: float
    failed_groups: tuple[tuple[str, str], ...] = ()
    disabled_reason: str | None = None

    @classmethod
    def of(cls, settings: sections.Shadow, recipe: Recipe) -> Shadow | None:
        """Return the shadow of a configuration: `recipe` with another estimator. None if none is configured."""
        if settings.estimator is None:
            return None
        try:
            source = user_code_digest(settings.estimator, settings.params)
        except ContractError:
            # A module that cannot be imported fails in each group's comparison, not here.
            source = "unreadable"
        params = _params_as_json(settings.params)
        shadow = replace(
            recipe, estimator=settings.estimator, params=params, source=source, pooling_rows=None, ladder=()
        )
        return cls(shadow, settings.share)

    def includes(self, group_key: str) -> bool:
        """Whether this group is in the share, by a hash of its key. Parents never are.

        A larger share includes the groups of a smaller one.
        """
        drawn = int.from_bytes(hashlib.sha256(f"shadow\x00{group_key}".encode()).digest()[:8]) / 2**64
        return drawn < self.share and not is_parent(group_key)


def canonical_json(value: object) -> str:
    """Return JSON with sorted keys and no spaces. A duration is its number of microseconds."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=_microseconds)


def module_digest(estimator: str) -> str:
    """Return the SHA-256 of the source of the module of a ``module:function``; empty for a built-in name.

    It covers the whole module, so a change of a helper function there gives another recipe.
    """
    module, colon, _ = estimator.partition(":")
    if not colon:
        return ""
    try:
        text = inspect.getsource(import_module(module))
    except (ImportError, OSError, TypeError) as error:
        raise ContractError(
            f"recipe.estimator {estimator!r}: expected a Python module that can be imported with its source; "
            f"got {error}. Put its folder on PYTHONPATH or install it"
        ) from error
    return hashlib.sha256(text.encode()).hexdigest()


def _params_as_json(params: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted((name, canonical_json(value)) for name, value in params.items()))


def candidate_estimators(params: Mapping[str, Any]) -> list[str]:
    """Return the names of the estimators among `candidates` in an estimator's parameters, as of best_of."""
    listed = params.get("candidates")
    names = (
        [candidate.get("estimator") for candidate in listed if isinstance(candidate, Mapping)]
        if isinstance(listed, list)
        else []
    )
    return [name for name in names if isinstance(name, str)]


def user_code_digest(estimator: str, params: Mapping[str, Any]) -> str:
    """Return the digest of all user code that an estimator and its candidates name; empty if there is none.

    Raises ContractError if a source cannot be read.
    """
    digests = [digest for digest in map(module_digest, [estimator, *candidate_estimators(params)]) if digest]
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest() if digests else ""


def installed_versions() -> dict[str, str]:
    """Return the versions of LIBRARIES installed here, from package metadata."""
    return {name: metadata.version(name) for name in LIBRARIES}


def _declared_feature(fleet: Fleet, name: str) -> Feature:
    type_ = fleet.type_of(name)
    if type_ is None:
        raise ContractError(
            f'fleet.columns: expected {name!r} in it, which is used; got nothing. Add `{name} = "…"` there'
        )
    return Feature(name, type_)


def _microseconds(value: object) -> int:
    if isinstance(value, timedelta):
        return value // timedelta(microseconds=1)
    name = type(value).__name__
    raise ContractError(f"recipe.params: expected a JSON value; got {name} {value!r}")
