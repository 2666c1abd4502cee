"""Policies of a user's own are loaded by name, and their answers are checked before anything is decided by them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spinney.core.errors import ConfigError, ContractError
from spinney.core.staleness.group_state import GroupStates
from spinney.core.staleness.policies.user_policy import UserPolicy, load_policies

MODULE = """
import numpy as np

class Policy:
    name = "mine"
    def limits(self, groups):
        return np.full(len(groups), 2.0)
    def measure(self, groups, clock):
        return groups["rows_since"] * 1.0
    def describe(self, value, limit):
        return f"{value:g} of {limit:g}"

class OfMaxAge(Policy):
    name = "max_age"

class Nameless(Policy):
    name = "not a name"

class Mute:
    name = "mute"
    limits = measure = Policy.limits

def refuses():
    raise OSError("no licence")

class ZeroLimit(Policy):
    def limits(self, groups):
        return np.zeros(len(groups))

class Raises(Policy):
    def measure(self, groups, clock):
        raise KeyError("rows")
    def describe(self, value, limit):
        raise KeyError("words")

class OfOne(Policy):
    def measure(self, groups, clock):
        return 1.0
"""


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    (tmp_path / "own_policies_of_a_test.py").write_text(MODULE, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    yield lambda *names: load_policies(f"own_policies_of_a_test:{name}" for name in names)
    sys.modules.pop("own_policies_of_a_test", None)


def groups() -> GroupStates:
    made = GroupStates.empty()
    made.positions_of(['["A"]', '["B"]'])
    made["rows_since"][:] = [1, 3]
    return made


def test_a_policy_of_ones_own_measures_like_a_built_in_one(load) -> None:
    (policy,) = load("Policy")
    assert isinstance(policy, UserPolicy)
    assert policy.name == "mine"
    assert policy.measure(groups(), 0).tolist() == [1.0, 3.0]
    assert policy.limits(groups()).tolist() == [2.0, 2.0]
    assert policy.describe(3.0, 2.0) == "3 of 2"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Nothing", "nothing of that name"),
        ("OfMaxAge", "a policy with a name of its own; got `max_age`"),
        ("Nameless", "a `name` of letters, digits and _; got 'not a name'"),
        ("Mute", "a policy with limits, measure, describe; got one without describe"),
        ("refuses", "when it is called without arguments; got OSError: no licence"),
    ],
)
def test_what_is_no_policy_is_refused_by_name(load, name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=r"staleness\.policies") as caught:
        load(name)
    assert message in str(caught.value)


def test_two_policies_of_one_name_are_refused(load) -> None:
    with pytest.raises(ConfigError, match="got `mine`"):
        load("Policy", "Policy")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("ZeroLimit", "expected finite numbers above 0 from `limits`"),
        ("Raises", "expected an array from `measure`; got KeyError: 'rows'"),
        ("OfOne", r"expected an array of shape \(2,\) from `measure`; got shape \(\)"),
    ],
)
def test_an_answer_that_is_no_number_for_each_group_is_refused(load, name: str, message: str) -> None:
    (policy,) = load(name)
    with pytest.raises(ContractError, match=message):
        np.divide(policy.measure(groups(), 0), policy.limits(groups()))


def test_words_that_cannot_be_found_are_replaced_by_the_numbers(load) -> None:
    (policy,) = load("Raises")
    assert policy.describe(3.0, 2.0) == "mine 3 (limit 2)"
