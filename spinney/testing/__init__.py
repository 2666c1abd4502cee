"""For your own tests: the checks that `spinney check` makes of the estimator, the policies and the gate's rule in a
`fleet.toml`.

import pytest
from spinney.testing import estimator_points, gate_points, policy_points

@pytest.mark.parametrize("point", estimator_points("fleet.toml"), ids=str)
def test_my_estimator_keeps(point):
    point()

@pytest.mark.parametrize("point", policy_points("fleet.toml"), ids=str)
def test_my_policies_keep(point):
    point()

@pytest.mark.parametrize("point", gate_points("fleet.toml"), ids=str)
def test_my_rule_keeps(point):
    point()

The gate's decision about given losses:

from spinney.testing import decide_by_gate

def test_a_model_that_is_twice_as_bad_is_refused():
    assert decide_by_gate("fleet.toml", [2.0] * 50, [1.0] * 50).decision == "refused"

A group with a clock that a test advances:

from spinney.testing import JudgedGroup

def test_a_group_is_refitted_within_a_month():
    group = JudgedGroup("fleet.toml")
    group.label([1.0] * 20)
    group.fit([1.0] * 20)
    assert group.advance(timedelta(days=30)) == "max_age"

A fleet in a temporary folder, with its tables and without a broker:

from spinney.testing import new_fleet

def test_something_of_mine(tmp_path):
    config = new_fleet("fleet.toml", tmp_path)

And the same in memory, removed at the end of the context:

from spinney.testing import fleet_in_memory

@pytest.fixture
def fleet():
    with fleet_in_memory("fleet.toml") as config:
        yield config
"""

from __future__ import annotations

from spinney.testing.estimator_points import EstimatorPoint, estimator_points
from spinney.testing.gate_points import GatePoint, decide_by_gate, gate_points
from spinney.testing.judged_group import JudgedGroup
from spinney.testing.memory_fleet import fleet_in_memory
from spinney.testing.new_fleet import new_fleet
from spinney.testing.policy_points import PolicyPoint, policy_points

__all__ = [
    "EstimatorPoint",
    "GatePoint",
    "JudgedGroup",
    "PolicyPoint",
    "decide_by_gate",
    "estimator_points",
    "fleet_in_memory",
    "gate_points",
    "new_fleet",
    "policy_points",
]
