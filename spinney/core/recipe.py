"""What to fit and how, as one value with a name that any process computes alike."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from functools import cached_property
from importlib import import_module, metadata
from typing import TYPE_CHECKING, Any

from spinney.core.errors import ContractError

if TYPE_CHECKING:
    from spinney.core.config import Config

FITTING = 2
"""Raised whenever our own fitting of the same rows would give another model."""

LIBRARIES = ("numpy", "scikit-learn")
"""What a fitted model depends on besides our code."""


@dataclass(frozen=True)
class Feature:
    """A column. type: a Spark SQL type in lower case."""

    name: str
    type: str


@dataclass(frozen=True)
class Recipe:
    """What to fit on one group's rows.

    params: (name, JSON text), sorted by name. min_rows, window_rows: rows; of a group, the newest `window_rows`
    not older than `window` are fitted. weight_half_life: age at which a row weighs half as much as the group's
    newest; None: all weigh the same. source: SHA-256 of the user's code, empty for built-in estimators.
    versions: (library, version), sorted.
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
    source: str = ""
    versions: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, config: Config, versions: Mapping[str, str] | None = None) -> Recipe:
        """The recipe a configuration asks for.

        versions: library -> version; by default those installed here. Raises ContractError if the code of a
        ``module:function`` estimator cannot be read.
        """
        fleet, asked = config.fleet, config.recipe
        return cls(
            estimator=asked.estimator,
            params=tuple(sorted((name, canonical(value)) for name, value in asked.params.items())),
            features=tuple(_declared(config, name) for name in fleet.features),
            target=_declared(config, fleet.target),
            task=str(fleet.task),
            loss=str(fleet.loss),
            min_rows=asked.min_rows,
            window_rows=asked.window_rows,
            window=asked.window,
            weight_half_life=asked.weight_half_life,
            source=_sources([asked.estimator, *_candidates(asked.params)]),
            versions=tuple(sorted((installed() if versions is None else versions).items())),
        )

    @cached_property
    def recipe_id(self) -> str:
        """SHA-256 in hex: equal in every process for the same recipe, code and library versions."""
        return hashlib.sha256(canonical({"fitting": FITTING, **asdict(self)}).encode()).hexdigest()

    @property
    def arguments(self) -> dict[str, Any]:
        """The estimator's parameters as values."""
        return {name: json.loads(text) for name, text in self.params}


def canonical(value: object) -> str:
    """JSON with sorted keys and no spaces. A duration is its number of microseconds."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=_microseconds)


def source_digest(estimator: str) -> str:
    """SHA-256 of the source of the module of a ``module:function``; empty for a built-in name.

    The whole module counts, so that a changed function beside the named one makes another recipe.
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


def _candidates(params: Mapping[str, Any]) -> list[str]:
    """The estimators that parameters name: of recipes to choose from."""
    listed = params.get("candidates")
    found = [each.get("estimator") for each in listed if isinstance(each, Mapping)] if isinstance(listed, list) else []
    return [name for name in found if isinstance(name, str)]


def _sources(names: Sequence[str]) -> str:
    """The digest of all code of users; of one name alone `source_digest`."""
    digests = [digest for digest in map(source_digest, names) if digest]
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest() if digests else ""


def installed() -> dict[str, str]:
    """The versions of LIBRARIES installed here. The one look outside that core takes: into package metadata."""
    return {name: metadata.version(name) for name in LIBRARIES}


def _declared(config: Config, name: str) -> Feature:
    type_ = config.fleet.type_of(name)
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
