"""A user's rule of the gate, named in `gate.rule` as ``"module:name"``: a function of a comparison's losses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from spinney.core.errors import ContractError
from spinney.core.features.encoding import Floats
from spinney.core.name_resolution import NameOrigin, resolve

KEY = "gate.rule"
METRIC = "user_rule"
"""Name of the metric of a fit that has the rule's answer."""

MAX_REASON_CHARACTERS = 300
_EXPECTED = "a pair of True or False and a reason on one line"


@dataclass(frozen=True)
class Comparison:
    """The losses of a challenger and its champion on the same held-out rows, oldest first; neither has seen them.

    challenger_losses, champion_losses: shape (rows,), finite, at least one row; they cannot be written to. If the
    champion has seen some of the rows and its recipe is known, its losses are those of that recipe fitted again on the
    older rows. built_in_promotes, built_in_reason: what the built-in rule would decide, and why.
    """

    challenger_losses: Floats
    champion_losses: Floats
    built_in_promotes: bool
    built_in_reason: str

    @classmethod
    def of(cls, challenger: Floats, champion: Floats, *, promotes: bool, reason: str) -> Comparison:
        """Return a comparison with copies of the losses. promotes, reason: of the built-in rule."""
        return cls(_read_only(challenger), _read_only(champion), promotes, reason)

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.challenger_losses)


class UserRuleAnswer(NamedTuple):
    """The answer of a user's rule: whether the challenger replaces the champion, and why."""

    promotes: bool
    reason: str

    @classmethod
    def of_metrics(cls, metrics: Mapping[str, Any], rule: str) -> UserRuleAnswer | None:
        """Return the answer in the metrics of `fit_groups`; None if this rule was not asked."""
        found = metrics.get(METRIC)
        return None if not found or found["rule"] != rule else cls(found["promotes"], found["reason"])

    def as_metric(self, rule: str) -> dict[str, Any]:
        """Return what `of_metrics` reads, for JSON."""
        return {"rule": rule, **self._asdict()}


@dataclass(frozen=True)
class UserRule:
    """A user's rule whose answers are checked. source: its ``"module:name"``."""

    source: str
    function: Callable[[Comparison], Any]

    def answer(self, comparison: Comparison) -> UserRuleAnswer:
        """Return the rule's answer; a long reason is cut off.

        Raises ContractError if the rule raises, or returns anything but a boolean and a line of text.
        """
        try:
            found = self.function(comparison)
        except Exception as error:  # a user's function may raise anything
            raise self._error(f"{type(error).__name__}: {error}") from error
        if not isinstance(found, tuple | list) or len(found) != 2:
            raise self._error(repr(found))
        promotes, reason = found
        is_line = isinstance(reason, str) and reason.strip() and reason.isprintable()
        if not isinstance(promotes, bool | np.bool_) or not is_line:
            raise self._error(repr(found))
        return UserRuleAnswer(bool(promotes), reason[:MAX_REASON_CHARACTERS])

    def _error(self, got: str) -> ContractError:
        return ContractError(f'{KEY} "{self.source}": expected {_EXPECTED}; got {got[:500]}. `spinney check` tries it')


def _read_only(losses: Floats) -> Floats:
    copied = np.array(losses, dtype=np.float64)
    copied.flags.writeable = False
    return copied


def load_user_rule(source: str) -> UserRule:
    """Return the rule that a ``"module:name"`` refers to. Raises ConfigError if it cannot be imported or called."""
    return UserRule(source, resolve(source, {}, NameOrigin(KEY, "rule")))
