from __future__ import annotations

from pathlib import Path

import pytest

from spinney.local.checks.estimator_check import POINTS
from spinney.storage.config_file import read_config
from spinney.testing import estimator_points

EXAMPLES = Path(__file__).parents[3] / "examples"


@pytest.fixture
def forest(monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(str(EXAMPLES / "machines"))
    return EXAMPLES / "machines" / "forest.toml"


@pytest.mark.parametrize("point", estimator_points(EXAMPLES / "machines" / "forest.toml"), ids=str)
def test_the_examples_own_estimator_keeps(point: object, forest: Path) -> None:
    assert callable(point)
    point()


def test_the_points_are_those_of_spinney_check_by_name(forest: Path) -> None:
    assert [str(point) for point in estimator_points(forest)] == list(POINTS)
    assert estimator_points(read_config(forest)) == estimator_points(str(forest))


def test_a_point_that_does_not_hold_fails_a_test_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "clocks.py").write_text(
        "import time\n"
        "from sklearn.dummy import DummyRegressor\n"
        "class Clock(DummyRegressor):\n"
        "    def predict(self, X):\n"
        "        return super().predict(X) * float('nan')\n"
        "def clock():\n"
        "    return Clock()\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    text = (
        (EXAMPLES / "flights" / "fleet.toml")
        .read_text()
        .replace('"ridge"', '"clocks:clock"')
        .replace("alpha = 30.0", "")
    )
    (tmp_path / "fleet.toml").write_text(text)
    points = {str(point): point for point in estimator_points(tmp_path / "fleet.toml")}
    points["fit"]()
    with pytest.raises(
        AssertionError, match=r'"clocks:clock": answers: 60 of 60 answers .* are NaN or infinite\. Every row'
    ):
        points["answers"]()
