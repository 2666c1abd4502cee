from __future__ import annotations

import re
from pathlib import Path

import pytest

from spinney.core.config import parse
from spinney.core.training.estimators import builtins
from spinney.local.checks.estimator_check import EstimatorCase, failed_points

PAGE = (Path(__file__).parents[2] / "docs" / "estimators.md").read_text(encoding="utf-8")
FLEET = """
[fleet]
group = ["shop"]
event_id = "id"
event_time = "at"
target = "sold"
features = ["price", "at"]
[fleet.columns]
shop = "string"
price = "double"
sold = "double"
[kafka]
events = "sales"
[storage]
root = "nowhere"
"""


def test_the_page_lists_every_estimator_with_its_tasks_and_no_other() -> None:
    listed = dict(re.findall(r"^\| `(\w+)` \| (\w+) \|", PAGE, re.MULTILINE))
    tasks = {name: "both" if len(each.tasks) == 2 else each.tasks[0] for name, each in builtins().items()}
    assert listed == tasks


@pytest.mark.parametrize("example", re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL))
def test_each_example_of_the_page_is_a_recipe_that_does_all_a_fleet_asks(example: str) -> None:
    assert failed_points(EstimatorCase.of(parse(FLEET + example, "fleet.toml", {}))) == []
