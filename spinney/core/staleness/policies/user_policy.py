"""A user's policy, named in `staleness.policies` as ``"module:name"``."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from schemas.vocabulary import RESERVED_POLICIES
from spinney.core.errors import ConfigError, ContractError, Finding
from spinney.core.name_resolution import NameOrigin, resolve

if TYPE_CHECKING:
    from spinney.core.staleness.group_state import GroupStates
    from spinney.core.staleness.policies import Policy

KEY = "staleness.policies"
_METHODS = ("limits", "measure", "describe")


@dataclass(frozen=True)
class UserPolicy:
    """A user's policy whose answers are checked. source: its ``"module:name"``. policy: the object that this returned.

    `limits` and `measure` raise ContractError if the policy raises, or returns anything but one number per group.
    """

    source: str
    policy: Policy

    @property
    def name(self) -> str:
        """The name that the policy gives itself."""
        return self.policy.name

    def limits(self, groups: GroupStates) -> npt.NDArray[np.float64]:
        """Return the user's limits. Raises ContractError unless there is a finite one above 0 for each group."""
        limits = self._numbers("limits", len(groups), lambda: self.policy.limits(groups))
        if not (np.isfinite(limits) & (limits > 0)).all():
            raise self._error("limits", "finite numbers above 0", "others")
        return limits

    def measure(self, groups: GroupStates, clock: int) -> npt.NDArray[np.float64]:
        """Return the user's measures. Raises ContractError unless there is a number for each group."""
        return self._numbers("measure", len(groups), lambda: self.policy.measure(groups, clock))

    def describe(self, value: float, limit: float) -> str:
        """Return the user's text. If that raises, return the numbers: a reason must not stop a stream."""
        try:
            return str(self.policy.describe(value, limit))
        except Exception:  # a user's function may raise anything
            return f"{self.name} {value:g} (limit {limit:g})"

    def _numbers(self, method: str, groups: int, call: Callable[[], Any]) -> npt.NDArray[np.float64]:
        try:
            found = np.asarray(call(), dtype=np.float64)
        except Exception as error:  # a user's function may raise anything
            raise self._error(method, "an array", f"{type(error).__name__}: {error}"[:500]) from error
        if found.shape != (groups,):
            raise self._error(method, f"an array of shape ({groups},)", f"shape {found.shape}")
        return found

    def _error(self, method: str, expected: str, got: str) -> ContractError:
        return ContractError(
            f'{KEY} "{self.source}": expected {expected} from `{method}`; got {got}. `spinney check` tries it'
        )


def load_policies(names: Iterable[str]) -> tuple[UserPolicy, ...]:
    """Return the policies that these names refer to, in order.

    Each name is a function or class without arguments that returns a policy. Raises ConfigError: it cannot be imported
    or called, lacks something of `Policy`, or has the name of another policy.
    """
    policies = tuple(_load(name) for name in names)
    taken = set(RESERVED_POLICIES)
    for own in policies:
        if own.name in taken:
            raise _refusal(own.source, "a policy with a name of its own", f"`{own.name}`", "Rename it.")
        taken.add(own.name)
    return policies


def _load(source: str) -> UserPolicy:
    make: Callable[[], Policy] = resolve(source, {}, NameOrigin(KEY, "policy"))
    try:
        policy = make()
    except Exception as error:  # a user's function may raise anything
        got = f"{type(error).__name__}: {error}"[:500]
        raise _refusal(source, "a policy when it is called without arguments", got, "Mend the module.") from error
    lacking = [method for method in _METHODS if not callable(getattr(policy, method, None))]
    if lacking:
        remedy = "docs/policies.md shows a whole one."
        raise _refusal(source, f"a policy with {', '.join(_METHODS)}", f"one without {', '.join(lacking)}", remedy)
    if not isinstance(getattr(policy, "name", None), str) or not policy.name.isidentifier():
        raise _refusal(source, "a `name` of letters, digits and _", repr(getattr(policy, "name", None)), "Name it.")
    return UserPolicy(source, policy)


def _refusal(source: str, expected: str, got: str, remedy: str) -> ConfigError:
    return ConfigError([Finding("fleet.toml", None, f'{KEY} "{source}"', expected, got, remedy)])
