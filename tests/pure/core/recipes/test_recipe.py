from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from recipes import VERSIONED

from spinney.core.config import Gate
from spinney.core.errors import ContractError
from spinney.core.recipes import recipe as module
from spinney.core.recipes.recipe import Feature, Recipe, Shadow, UserRuleTerms, installed_versions


@pytest.mark.parametrize(
    "change",
    [
        {"estimator": "constant"},
        {"params": (("alpha", "2.0"),)},
        {"params": ()},
        {"features": VERSIONED.features[::-1]},
        {"features": (Feature("x", "float"), Feature("s", "string"))},
        {"target": Feature("y", "float")},
        {"loss": "squared"},
        {"min_rows": 21},
        {"window_rows": 2001},
        {"window": timedelta(days=90, microseconds=1)},
        {"weight_half_life": timedelta(days=30)},
        {"source": "other"},
        {"versions": (("numpy", "2.4.7"), ("scikit-learn", "1.9.1"))},
    ],
)
def test_whatever_changes_a_model_changes_the_recipes_name(change: dict[str, Any]) -> None:
    assert replace(VERSIONED, **change).recipe_id != VERSIONED.recipe_id


def test_our_own_change_of_fitting_changes_the_name(monkeypatch: pytest.MonkeyPatch) -> None:
    before = VERSIONED.recipe_id
    monkeypatch.setattr(module, "FITTING_VERSION", module.FITTING_VERSION + 1)
    assert replace(VERSIONED).recipe_id != before


WATCHED = ['["g2"]', '["g14"]', '["g19"]', '["g20"]', '["g32"]']
"""Worked out apart: the first eight digits of SHA-256 of shadow, a zero byte and the key, below a tenth."""
NO_SHADOW = {"estimator": None, "params": {}, "share": 0.1}


class Fleet(SimpleNamespace):
    def type_of(self, name: str) -> str | None:
        types: dict[str, str] = {"x": "double", "s": "string", "y": "double"}
        return types.get(name)


def config(shadow: dict[str, Any] | None = None, gate: Gate | None = None, **recipe: Any) -> Any:
    fleet = Fleet(task="regression", loss="absolute", features=("x", "s"), target="y")
    asked = {
        "estimator": "ridge",
        "params": {"alpha": 1.0},
        "min_rows": 20,
        "window_rows": 2000,
        "window": timedelta(days=90),
        "weight_half_life": None,
        "pooling_rows": None,
        **recipe,
    }
    return SimpleNamespace(
        fleet=fleet,
        recipe=SimpleNamespace(**asked),
        shadow=SimpleNamespace(**{**NO_SHADOW, **(shadow or {})}),
        gate=gate or Gate(),
    )


VERSIONS = {"scikit-learn": "1.9.1", "numpy": "2.4.6"}


def test_a_configuration_gives_its_recipe() -> None:
    made = Recipe.of(config(), VERSIONS)
    assert made == VERSIONED
    assert made.recipe_id == VERSIONED.recipe_id
    assert made.arguments == {"alpha": 1.0}


def test_the_order_of_parameters_does_not_matter() -> None:
    one, other = (
        Recipe.of(config(params=p), VERSIONS)
        for p in ({"a": 1, "b": {"d": 1, "c": 2}}, {"b": {"c": 2, "d": 1}, "a": 1})
    )
    assert one.recipe_id == other.recipe_id


def test_by_default_the_versions_are_those_installed_here() -> None:
    assert Recipe.of(config()).versions == tuple(sorted(installed_versions().items()))


def test_a_users_code_is_part_of_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    ids = []
    for name, body in (("shop_one", "return 1"), ("shop_two", "return 1"), ("shop_three", "return 2")):
        (tmp_path / f"{name}.py").write_text(f"def make():\n    {body}\n")
        made = Recipe.of(config(estimator=f"{name}:make"), VERSIONS)
        ids.append(replace(made, estimator="same").recipe_id)
    assert ids[0] == ids[1] != ids[2]


def test_code_that_cannot_be_read_is_refused() -> None:
    with pytest.raises(ContractError, match="PYTHONPATH"):
        Recipe.of(config(estimator="no_such_module:make"), VERSIONS)


def test_a_column_that_is_not_declared_is_refused() -> None:
    wrong = config()
    wrong.fleet.target = "missing"
    with pytest.raises(ContractError, match="expected 'missing' in it, which is used; got nothing"):
        Recipe.of(wrong, VERSIONS)


def test_a_parameter_that_is_no_json_is_refused() -> None:
    with pytest.raises(ContractError, match="got object"):
        Recipe.of(config(params={"alpha": object()}), VERSIONS)


def test_a_shadow_is_the_recipe_with_another_estimator_and_no_part_of_its_name() -> None:
    made = Recipe.of(config(shadow={"estimator": "constant", "share": 0.25}), VERSIONS)
    assert made.recipe_id == VERSIONED.recipe_id
    assert made.shadow == Shadow(replace(VERSIONED, estimator="constant", params=()), 0.25)
    alone = Recipe.of(config(estimator="constant", params={}), VERSIONS)
    assert made.shadow is not None
    assert made.shadow.recipe.recipe_id == alone.recipe_id
    assert Recipe.of(config(), VERSIONS).shadow is None


def test_a_shadow_that_cannot_be_imported_stops_no_recipe() -> None:
    made = Recipe.of(config(shadow={"estimator": "no_such_module:make"}), VERSIONS)
    assert replace(made, shadow=None) == VERSIONED
    assert made.shadow is not None
    assert made.shadow.recipe.estimator == "no_such_module:make"


def test_a_share_of_the_groups_is_watched_the_same_in_every_process_and_no_parent() -> None:
    groups = [f'["g{n}"]' for n in range(4000)]
    tenth, half = (Shadow(VERSIONED, share) for share in (0.1, 0.5))
    watched = [key for key in groups if tenth.includes(key)]
    # 400 expected, standard deviation 19.
    assert 310 < len(watched) < 490
    assert all(half.includes(key) for key in watched)
    assert [key for key in groups[:40] if tenth.includes(key)] == WATCHED
    assert all(Shadow(VERSIONED, 1.0).includes(key) for key in groups)
    assert not any(Shadow(VERSIONED, 1.0).includes(key) for key in ("{}", '{"region":"north"}'))


def test_pooling_is_part_of_the_name_and_without_it_the_name_is_as_before_there_was_any() -> None:
    pooled = Recipe.of(config(pooling_rows=20.0), VERSIONS)
    assert pooled == replace(VERSIONED, pooling_rows=20.0)
    assert pooled.recipe_id != VERSIONED.recipe_id
    assert Recipe.of_text(pooled.text) == pooled
    assert "pooling_rows" not in VERSIONED.text
    assert Recipe.of_text(VERSIONED.text) == VERSIONED


def test_with_estimated_weights_the_parents_are_part_of_the_recipe() -> None:
    made = config(pooling_rows="estimated")
    made.fleet.group, made.fleet.parents = ["region", "store"], [["region"], []]
    pooled = Recipe.of(made, VERSIONS)
    ladder = (("region", "store"), ("region",), ())
    assert pooled == replace(VERSIONED, pooling_rows="estimated", ladder=ladder)
    assert Recipe.of_text(pooled.text) == pooled
    assert replace(pooled, ladder=ladder[::2]).recipe_id != pooled.recipe_id
    assert "ladder" not in VERSIONED.text


def test_a_shadow_is_not_pooled() -> None:
    made = Recipe.of(config(shadow={"estimator": "constant"}, pooling_rows=20.0), VERSIONS)
    assert made.shadow is not None
    assert made.shadow.recipe.pooling_rows is None


def test_a_rule_of_the_gate_goes_to_the_workers_and_is_no_part_of_the_name() -> None:
    made = Recipe.of(config(gate=Gate(rule="no_such_module:rule", evidence=12, margin=0.1)), VERSIONS)
    assert made.user_rule == UserRuleTerms("no_such_module:rule", 12, 0.1)
    built_in = Recipe.of(config(), VERSIONS)
    assert built_in.user_rule is None
    assert (made.text, made.recipe_id) == (built_in.text, built_in.recipe_id)
