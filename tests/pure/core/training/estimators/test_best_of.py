from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from spinney.core.config import parse
from spinney.core.errors import ContractError
from spinney.core.features.encoding import to_columns
from spinney.core.models.codec import dump, load
from spinney.core.models.signing import Signer
from spinney.core.recipes.recipe import Feature, Recipe
from spinney.core.training.estimators import kernel_for
from spinney.core.training.fit_kernels import KernelInput, KernelResult
from spinney.core.training.fitting import fit_groups

FEATURES = (Feature("x", "double"), Feature("s", "string"))
RIDGE = {"estimator": "ridge", "params": {"alpha": 1.0}}
CONSTANT: dict[str, Any] = {"estimator": "constant"}
MEDIAN = {"estimator": "constant", "params": {"statistic": "median"}}
START = datetime(2024, 5, 1, tzinfo=UTC)
SIGNER = Signer(b"a key of sixteen bytes at least")


def frame(n: int, seed: int, slope: float) -> pd.DataFrame:
    draw = np.random.default_rng(seed)
    x = draw.normal(size=n)
    label = slope * x + 5 + 0.5 * draw.normal(size=n)
    return pd.DataFrame({"x": x, "s": draw.choice(["a", "b"], n), "label": label})


SLOPED, FLAT, THIN = frame(100, 1, 4.0), frame(100, 2, 0.0), frame(49, 3, 4.0)


def stack(*frames: pd.DataFrame, weights: bool = False, loss: str = "absolute", labels: Any = None) -> KernelInput:
    whole = pd.concat(frames, ignore_index=True)
    starts = np.cumsum([0, *map(len, frames)])
    age = np.concatenate([np.arange(len(each))[::-1] for each in frames])
    values = whole["label"].to_numpy() if labels is None else labels
    keys = tuple(f'["{len(each)}-{each["x"].iloc[0]:.3f}"]' for each in frames)
    return KernelInput(keys, to_columns(whole, FEATURES), starts, values, np.exp2(-age / 10) if weights else None, loss)


def fit(of: KernelInput, *candidates: Any, task: str = "regression", **params: Any) -> list[KernelResult]:
    return kernel_for("best_of", task, {"candidates": list(candidates), **params}).fit(of, lambda: 0.0)


def alone(of: KernelInput, candidate: dict[str, Any], task: str = "regression") -> KernelResult:
    (found,) = kernel_for(candidate["estimator"], task, candidate.get("params", {})).fit(of, lambda: 0.0)
    return found


def payload(found: KernelResult) -> tuple[str, bytes]:
    assert found.model is not None, found.error
    return dump(found.model)


def test_each_group_gets_the_candidate_that_lost_least_on_its_newest_fifth_fitted_on_all_its_rows() -> None:
    sloped, flat = fit(stack(SLOPED, FLAT), RIDGE, CONSTANT)
    assert (sloped.scores["chosen"], flat.scores["chosen"]) == ("ridge", "constant")
    assert payload(sloped) == payload(alone(stack(SLOPED), RIDGE))
    assert payload(flat) == payload(alone(stack(FLAT), CONSTANT))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("loss", "power"), [("absolute", 1), ("squared", 2)])
def test_the_scores_are_the_fleets_loss_of_models_fitted_on_the_older_rows(
    weighted: bool, loss: str, power: int
) -> None:
    (found,) = fit(stack(SLOPED, weights=weighted, loss=loss), RIDGE, CONSTANT)
    for name, candidate in (("ridge", RIDGE), ("constant", CONSTANT)):
        # Of the older rows the newest weighs 1, as in any fit of theirs.
        model = alone(stack(SLOPED[:80], weights=weighted), candidate).model
        assert model is not None
        expected = (np.abs(SLOPED["label"][80:] - model.predict(SLOPED[80:])) ** power).mean()
        assert found.scores["candidates"][name] == pytest.approx(expected, rel=1e-12)


def test_a_groups_choice_and_model_do_not_depend_on_its_neighbours() -> None:
    together = fit(stack(THIN, SLOPED, FLAT, weights=True), RIDGE, CONSTANT)
    for found, own in zip(together, (THIN, SLOPED, FLAT), strict=True):
        (single,) = fit(stack(own, weights=True), RIDGE, CONSTANT)
        assert (payload(found), found.scores) == (payload(single), single.scores)


def test_too_few_rows_to_judge_by_take_the_first_candidate_without_scores() -> None:
    (found,) = fit(stack(THIN), CONSTANT, RIDGE)  # 49 // 5 is 9
    assert found.scores == {"chosen": "constant", "candidates": {"constant": None, "ridge": None}}
    (found,) = fit(stack(THIN), CONSTANT, RIDGE, compared_rows=9)
    assert found.scores["chosen"] == "ridge"


def test_the_first_of_equals_wins_and_twins_are_distinguished_by_their_params() -> None:
    (found,) = fit(stack(SLOPED), MEDIAN, {**MEDIAN, "params": {"statistic": "mean"}}, MEDIAN)
    assert list(found.scores["candidates"]) == ['constant {"statistic":"median"}', 'constant {"statistic":"mean"}']
    (found,) = fit(stack(SLOPED), RIDGE, {"estimator": "ridge", "params": {"alpha": 1}})
    assert found.scores["chosen"] == 'ridge {"alpha":1.0}'


def test_classes_are_judged_by_log_loss_and_keep_their_names() -> None:
    labels = np.where(SLOPED["x"] > 0, "up", "down").astype(object)
    logistic = {"estimator": "logistic_regression"}
    (found,) = fit(stack(SLOPED, loss="log", labels=labels), CONSTANT, logistic, task="classification")
    assert found.scores["chosen"] == "logistic_regression"
    back = load(*payload(found))
    assert back.classes == ("down", "up")
    share = (labels[:80] == "up").mean()
    expected = -np.log(np.where(labels[80:] == "up", share, 1 - share)).mean()
    assert found.scores["candidates"]["constant"] == pytest.approx(expected, rel=1e-12)


@pytest.fixture
def moody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "moody_candidates.py").write_text(
        "from sklearn.dummy import DummyRegressor\n"
        "class Sulky(DummyRegressor):\n"
        "    def fit(self, X, y, sample_weight=None):\n"
        "        raise RuntimeError('not today')\n"
        "class Silent(DummyRegressor):\n"
        "    def predict(self, X):\n"
        "        return super().predict(X) * float('nan')\n"
        "class Greedy(DummyRegressor):\n"
        "    def fit(self, X, y, sample_weight=None):\n"
        "        raise MemoryError\n"
        "class GreedyInAnswers(DummyRegressor):\n"
        "    def predict(self, X):\n"
        "        raise MemoryError('no room to answer')\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path / "moody_candidates.py"


def test_a_candidate_that_raises_or_has_no_answer_is_passed_over_with_no_score(moody: Path) -> None:
    strange = [{"estimator": f"moody_candidates:{name}"} for name in ("Sulky", "Silent")]
    (found,) = fit(stack(SLOPED), *strange, RIDGE)
    assert found.scores["chosen"] == "ridge"
    assert list(found.scores["candidates"].values())[:2] == [None, None]
    (found,) = fit(stack(SLOPED), *strange)
    assert "not today" in str(found.error)


@pytest.mark.parametrize("greedy", ["Greedy", "GreedyInAnswers"])
def test_want_of_memory_is_the_groups_own_failure_and_not_another_choice(moody: Path, greedy: str) -> None:
    """Else what a neighbour takes would decide which model has the group's model_id."""
    thin, found = fit(stack(THIN, SLOPED), CONSTANT, {"estimator": f"moody_candidates:{greedy}"}, RIDGE)
    assert thin.scores["chosen"] == "constant"
    assert (found.model, type(found.error), found.scores) == (None, MemoryError, {})


def config(*candidates: str, root: str = "nowhere") -> Any:
    text = "\n".join(f"[[recipe.params.candidates]]\nestimator = {name}" for name in candidates)
    return parse(
        f"""
[fleet]
group = ["shop"]
event_id = "id"
event_time = "at"
target = "sold"
features = ["x", "s"]
[fleet.columns]
shop = "string"
x = "double"
s = "string"
sold = "double"
[recipe]
estimator = "best_of"
{text}
[kafka]
events = "sales"
[storage]
root = "{root}"
""",
        "fleet.toml",
        {},
    )


def test_the_losers_scores_are_kept_in_the_attempts_metrics() -> None:
    recipe = Recipe.of(config('"ridge"', '"constant"'))
    rows = SLOPED.assign(
        group_key='["a"]',
        event_id=[f"{at:03}" for at in range(100)],
        event_time=pd.to_datetime([START + timedelta(hours=at) for at in range(100)]),
    )
    asks = pd.DataFrame({"group_key": ['["a"]']})
    found = fit_groups(
        rows.sample(frac=1, random_state=1), asks, recipe, START + timedelta(days=9), SIGNER, lambda: 0.0
    )
    metrics = json.loads(found["metrics"].iloc[0])
    (expected,) = fit(stack(SLOPED), {"estimator": "ridge"}, CONSTANT)
    assert (metrics["chosen"], metrics["candidates"]) == ("ridge", expected.scores["candidates"])
    # The gate's rows have no part in the challenger's choice: it is the best of the 80 older ones.
    (challenger,) = fit(stack(SLOPED[:80]), {"estimator": "ridge"}, CONSTANT)
    assert challenger.model is not None
    lost = np.abs(SLOPED["label"][80:] - challenger.model.predict(SLOPED[80:])).mean()
    assert metrics["challenger_loss"] == pytest.approx(lost, rel=1e-12)


def test_the_recipe_is_another_with_another_candidate_or_other_code_of_one(moody: Path) -> None:
    one = Recipe.of(config('"ridge"', '"moody_candidates:Silent"'))
    assert one.recipe_id == Recipe.of(config('"ridge"', '"moody_candidates:Silent"')).recipe_id
    assert one.recipe_id != Recipe.of(config('"constant"', '"moody_candidates:Silent"')).recipe_id
    assert one.source
    assert not Recipe.of(config('"ridge"', '"constant"')).source


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"candidates": []},
        {"candidates": [RIDGE]},
        {"candidates": "ridge"},
        {"candidates": [RIDGE, "constant"]},
        {"candidates": [RIDGE, {"estimator": "best_of", "params": {"candidates": [RIDGE, CONSTANT]}}]},
        {"candidates": [RIDGE, {"estimator": "constant", "alpha": 1}]},
        {"candidates": [RIDGE, CONSTANT], "compared_rows": 0},
        {"candidates": [RIDGE, CONSTANT], "rows": 3},
    ],
)
def test_wrong_candidates_are_refused_in_a_sentence(params: dict[str, Any]) -> None:
    with pytest.raises(ContractError, match="expected candidates, two or more tables"):
        kernel_for("best_of", "regression", params)


def test_a_candidate_that_is_wrong_in_itself_is_refused_as_it_would_be_alone() -> None:
    with pytest.raises(ContractError, match="of ridge"):
        kernel_for("best_of", "regression", {"candidates": [CONSTANT, {"estimator": "ridge", "params": {"beta": 1}}]})
