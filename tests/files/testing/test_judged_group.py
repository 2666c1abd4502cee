"""A group with a clock that is advanced by hand."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from spinney.testing import JudgedGroup

FLEET = """\
[fleet]
group = ["store", "dept"]
event_id = "id"
event_time = "at"
target = "sold"
features = ["x"]
label_delay = "{delay}"
clock = "{clock}"
[fleet.columns]
store = "string"
dept = "string"
x = "double"
sold = "double"
[recipe]
min_rows = 20
[staleness]
new_rows = 50
max_age = "10d"
age_spread = 0.0
{policies}
[kafka]
events = "sales"
[storage]
root = "root"
"""
POLICY = """\
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class WorseThanFive:
    name = "worse_than_five"

    def limits(self, groups):
        return np.full(len(groups), 5.0)

    def measure(self, groups, clock):
        return np.divide(
            groups["recent_loss"], groups["recent_weight"], out=np.full(len(groups), np.nan),
            where=groups["recent_weight"] > 0,
        )

    def describe(self, value, limit):
        return f"recent mean loss is {value:.3g} (limit {limit:g})"
"""


def fleet(folder: Path, delay: str = "0s", clock: str = "event", policies: str = "") -> Path:
    file = folder / "fleet.toml"
    file.write_text(FLEET.format(delay=delay, clock=clock, policies=policies), encoding="utf-8")
    return file


@pytest.mark.parametrize("clock", ["event", "wall"])
def test_a_group_is_stale_by_the_policies_of_its_configuration(tmp_path: Path, clock: str) -> None:
    group = JudgedGroup(fleet(tmp_path, clock=clock))
    assert group.label([1.0] * 19) is None
    assert group.label([1.0]) == "new_group"
    assert group.fit([1.0] * 20) is None
    assert group.label([1.0] * 49) is None
    assert group.label([1.0]) == "new_rows"
    assert group.fit([1.0] * 20) is None
    assert group.advance(timedelta(days=9, hours=23)) is None
    assert group.advance(timedelta(hours=1)) == "max_age"
    assert group.stale_by == "max_age"


def test_labels_count_after_their_delay(tmp_path: Path) -> None:
    group = JudgedGroup(fleet(tmp_path, delay="2h"))
    assert group.label([1.0] * 20) is None
    assert group.advance(timedelta(minutes=119)) is None
    assert group.advance(timedelta(minutes=1)) == "new_group"


def test_losses_that_are_larger_than_all_before_are_a_risen_error(tmp_path: Path) -> None:
    group = JudgedGroup(fleet(tmp_path))
    group.label([1.0] * 20)
    group.fit([n / 20 for n in range(1, 21)])
    for day in range(30):
        group.advance(timedelta(hours=6))
        if group.label([10.0 + day]):
            break
    assert group.stale_by == "error_rise"


def test_a_policy_of_ones_own_judges_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "judged_group_policies.py").write_text(POLICY, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    group = JudgedGroup(fleet(tmp_path, policies='policies = ["judged_group_policies:WorseThanFive"]'))
    group.label([1.0] * 20)
    group.fit([4.0] * 20)
    assert group.label([4.0] * 5) is None
    assert group.label([9.0] * 5) == "worse_than_five"
