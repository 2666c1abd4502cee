"""A second recipe beside the first: compared on the same rows, and of no effect."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest
from recipes import RIDGE

from spinney.core.models.signing import Signer
from spinney.core.recipes.recipe import Recipe, Shadow
from spinney.core.training import current_group
from spinney.core.training.fitting import fit_groups

START = datetime(2024, 5, 1, tzinfo=UTC)
CLOCK = START + timedelta(days=30)
SIGNER = Signer(b"k" * 32)
RECIPE = RIDGE
KEYS = [f'["g{g}"]' for g in range(6)]
OWN = """
import numpy as np
from sklearn.base import BaseEstimator, RegressorMixin

class Base(RegressorMixin, BaseEstimator):
    def fit(self, X, y):
        self.mean_ = 0.0
        return self
    def predict(self, X):
        return np.zeros(len(X))

class Raises(Base):
    def fit(self, X, y):
        raise ZeroDivisionError("no " + chr(0xd800))

class Unanswering(Base):
    def predict(self, X):
        return np.full(len(X), np.nan)

class Deaf(Base):
    def predict(self, X):
        raise OSError("not listening")

class Greedy(Base):
    def fit(self, X, y):
        X[:], y[:] = 0.0, 0.0
        np.random.seed(1)
        return super().fit(X, y)

class Wordless(Exception):
    def __str__(self):
        raise RuntimeError("no words")

class Dumb(Base):
    def fit(self, X, y):
        raise Wordless

class Dumbfounded(Base):
    def predict(self, X):
        raise Wordless

def unmade_without_a_word():
    raise Wordless

def unmade():
    raise RuntimeError("not made")
"""


@pytest.fixture(autouse=True, scope="module")
def own_shadows(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    folder = tmp_path_factory.mktemp("own")
    (folder / "own_shadows.py").write_text(OWN)
    sys.path.insert(0, str(folder))
    yield
    sys.path.remove(str(folder))
    sys.modules.pop("own_shadows", None)


def with_shadow(estimator: str = "constant", params: tuple[tuple[str, str], ...] = (), share: float = 1.0) -> Recipe:
    return replace(RECIPE, shadow=Shadow(replace(RECIPE, estimator=estimator, params=params), share))


def rows_of(key: str, n: int) -> pd.DataFrame:
    draw = np.random.default_rng([n, *key.encode()])
    x = draw.normal(size=n)
    times = pd.Series([START + timedelta(hours=i) for i in range(n)]).astype("datetime64[us, UTC]")
    ids = [f"e{i:03}" for i in range(n)]
    label = 3 * x + draw.normal(size=n)
    return pd.DataFrame({"group_key": key, "event_id": ids, "event_time": times, "x": x, "label": label})


ROWS = pd.concat([rows_of(key, 30 + 5 * g) for g, key in enumerate(KEYS)], ignore_index=True)
ASKS = pd.DataFrame({"group_key": KEYS})


def fit(recipe: Recipe, asks: pd.DataFrame = ASKS, rows: pd.DataFrame = ROWS) -> pd.DataFrame:
    return fit_groups(rows, asks, recipe, CLOCK, SIGNER, lambda: 0.0)


def shadow_metrics(result: pd.DataFrame) -> list[dict[str, Any]]:
    return [json.loads(text).get("shadow", {}) for text in result["metrics"]]


def without_shadow(result: pd.DataFrame) -> pd.DataFrame:
    metrics = [{k: v for k, v in json.loads(text).items() if k != "shadow"} for text in result["metrics"]]
    return result.assign(metrics=[json.dumps(each) for each in metrics])


def champions(result: pd.DataFrame, through: timedelta) -> pd.DataFrame:
    names = {"id": "model_id", "codec": "codec", "payload": "payload", "signature": "signature"}
    held = {f"champion_{name}": result[column] for name, column in names.items()}
    return result[["group_key"]].assign(**held, champion_trained_through=result["trained_through"] - through)


ALONE = fit(RECIPE)


@pytest.mark.parametrize(
    "estimator",
    [
        "constant",
        "random_forest",
        "own_shadows:Raises",
        "own_shadows:Unanswering",
        "own_shadows:Deaf",
        "own_shadows:Greedy",
        "own_shadows:Dumb",
        "own_shadows:Dumbfounded",
        "own_shadows:unmade_without_a_word",
        "own_shadows:unmade",
        "own_shadows:nothing",
        "nobody",
        "logistic_regression",
    ],
)
def test_a_group_gets_the_same_model_with_any_shadow_and_none(estimator: str) -> None:
    params = (("n_estimators", "2"),) if estimator == "random_forest" else ()
    result = fit(with_shadow(estimator, params))
    pd.testing.assert_frame_equal(without_shadow(result), ALONE)
    assert all(shadow_metrics(result))
    again = champions(ALONE, timedelta(hours=3))
    late = rows_of(KEYS[0], 30).assign(event_id=lambda of: "late-" + of["event_id"])
    late["event_time"] += timedelta(days=3)
    rows = pd.concat([ROWS, late], ignore_index=True)
    pd.testing.assert_frame_equal(
        without_shadow(fit(with_shadow(estimator, params), again, rows)), fit(RECIPE, again, rows)
    )


def test_the_shadow_is_fitted_on_the_older_rows_and_measured_where_the_challenger_was() -> None:
    result = fit(with_shadow())
    for key, found, text in zip(KEYS, shadow_metrics(result), result["metrics"], strict=True):
        labels = ROWS.loc[ROWS["group_key"] == key, "label"].to_numpy()
        heldout = len(labels) // 5
        loss = np.abs(labels[-heldout:] - labels[:-heldout].mean()).mean()
        recipe_id = replace(RECIPE, estimator="constant", params=()).recipe_id
        wanted = {"estimator": "constant", "recipe_id": recipe_id, "loss": pytest.approx(loss), "rows": heldout}
        assert found == wanted
        assert json.loads(text)["heldout_rows"] == heldout


def test_beside_a_champion_it_is_measured_on_the_rows_that_the_champion_has_not_seen() -> None:
    asks = champions(ALONE.head(1), timedelta(hours=3)).assign(champion_id="another")
    asks["champion_signature"] = [SIGNER.sign(_claim("another", ALONE), ALONE["payload"].iloc[0])]
    result = fit(with_shadow(), asks)
    labels = ROWS.loc[ROWS["group_key"] == KEYS[0], "label"].to_numpy()
    (found,) = shadow_metrics(result)
    assert json.loads(result["metrics"].iloc[0])["heldout_rows"] == found["rows"] == 2
    assert found["loss"] == pytest.approx(np.abs(labels[-2:] - labels[:-2].mean()).mean())


def _claim(model_id: str, result: pd.DataFrame) -> Any:
    from spinney.core.models.signing import Claim

    return Claim(KEYS[0], model_id, result["codec"].iloc[0])


@pytest.mark.parametrize(
    ("estimator", "error"),
    [
        ("own_shadows:Raises", "ZeroDivisionError: no \\ud800"),
        ("own_shadows:Unanswering", "NotFinite: the fitted model answered NaN or infinity for rows it was asked about"),
        ("own_shadows:Deaf", "OSError: not listening"),
        ("own_shadows:unmade", "ContractError: recipe.estimator own_shadows:unmade with {}: expected an unfitted est"),
        ("own_shadows:Dumb", "Wordless"),
        ("own_shadows:Dumbfounded", "Wordless"),
        ("nobody", "ConfigError: "),
    ],
)
def test_what_a_shadow_raises_is_its_groups_text_alone(estimator: str, error: str) -> None:
    for found in shadow_metrics(fit(with_shadow(estimator))):
        assert found["error"].startswith(error)
        assert "loss" not in found


def test_only_a_share_of_the_groups_and_no_parent_is_watched() -> None:
    keys = [f'["g{g}"]' for g in range(40)] + ['{"region":"north"}']
    rows = pd.concat([rows_of(key, 10) for key in keys], ignore_index=True)
    recipe = with_shadow(share=0.3)
    assert recipe.shadow is not None
    watched = [bool(each) for each in shadow_metrics(fit(recipe, pd.DataFrame({"group_key": keys}), rows))]
    assert watched == [recipe.shadow.includes(key) for key in keys]
    assert 0 < sum(watched) < 40
    assert not watched[-1]


def test_a_group_that_is_kept_or_has_too_few_rows_is_not_compared() -> None:
    same = champions(ALONE, timedelta(0))
    assert set(fit(with_shadow(), same)["status"]) == {"kept"}
    assert shadow_metrics(fit(with_shadow(), same)) == [{}] * len(KEYS)
    assert shadow_metrics(fit(replace(with_shadow(), min_rows=100))) == [{}] * len(KEYS)


def test_the_cost_of_a_fit_is_with_its_shadows() -> None:
    def ticking() -> Iterator[float]:
        yield from range(10**6)

    clock, other = ticking(), ticking()
    forest = replace(with_shadow("random_forest", (("n_estimators", "1"),)), estimator="constant", params=())
    alone = fit_groups(ROWS, ASKS, replace(forest, shadow=None), CLOCK, SIGNER, lambda: next(clock))
    beside = fit_groups(ROWS, ASKS, forest, CLOCK, SIGNER, lambda: next(other))
    # The timer moves by a second each time it is read: twice around each fit of a forest.
    assert (beside["fit_ms"] - alone["fit_ms"]).tolist() == pytest.approx([1000.0] * len(KEYS))


def test_a_group_whose_shadow_ended_the_process_is_fitted_without_it_and_says_why() -> None:
    recipe = with_shadow("own_shadows:Deaf")
    assert recipe.shadow is not None
    spoiled = replace(recipe, shadow=replace(recipe.shadow, failed_groups=((KEYS[1], "Killed: by itself"),)))
    errors = [found["error"] for found in shadow_metrics(fit(spoiled))]
    assert errors == ["Killed: by itself" if key == KEYS[1] else "OSError: not listening" for key in KEYS]
    nowhere = replace(spoiled, shadow=replace(recipe.shadow, disabled_reason="not tried: it hangs"))
    assert [found["error"] for found in shadow_metrics(fit(nowhere))] == ["not tried: it hangs"] * len(KEYS)


def test_a_turn_of_a_shadow_is_reported_from_the_groups_own() -> None:
    heard: list[tuple[str | None, str]] = []
    with current_group.reported_to(lambda key, doing: heard.append((key, doing))):
        fit(with_shadow("random_forest", (("n_estimators", "1"),)), ASKS.head(1))
    begins = heard.index((KEYS[0], current_group.STORE)) + 1
    assert current_group.SHADOW not in {doing for _, doing in heard[:begins]}
    assert set(heard[begins:]) == {(None, current_group.SHADOW), (KEYS[0], current_group.SHADOW)}
    assert heard[begins] == (None, current_group.SHADOW)
