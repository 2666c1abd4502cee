from __future__ import annotations

import sys
from pathlib import Path

import pytest

from spinney.core.errors import ConfigError, Finding
from spinney.core.name_resolution import NameOrigin, resolve

BUILTIN = {"ridge": 1, "random_forest": 2}


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    name = f"shop_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text("loaded = True\ndef model():\n    return 'mine'\nnumber = 3\n")
    (tmp_path / f"{name}_broken.py").write_text("raise OSError('no licence')\n")
    (tmp_path / f"{name}_needy.py").write_text("import a_module_that_is_nowhere\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    return name


def refused(name: str) -> Finding:
    with pytest.raises(ConfigError) as caught:
        resolve(name, BUILTIN)
    (finding,) = caught.value.findings
    assert finding.key == "recipe.estimator"
    return finding


def test_a_built_in_name_is_its_object() -> None:
    assert resolve("ridge", BUILTIN) == 1


def test_a_module_and_a_name_is_the_users_own(shop: str) -> None:
    assert shop not in sys.modules
    found = resolve(f"{shop}:model", {})
    assert callable(found)
    assert found() == "mine"


def test_an_unknown_name_is_answered_with_the_nearest_and_all_known() -> None:
    finding = refused("rigde")
    assert finding.remedy == "Did you mean `ridge`? Known: random_forest, ridge."
    assert "module:name" in finding.expected


def test_a_name_like_no_other_is_answered_with_all_known() -> None:
    assert refused("xyz").remedy == "Known: random_forest, ridge."


def test_a_missing_module_is_answered_with_the_path_to_set() -> None:
    finding = refused("a_shop_that_is_nowhere.models:churn")
    assert "a_shop_that_is_nowhere.models" in finding.expected
    assert "PYTHONPATH" in finding.remedy


def test_a_module_that_misses_another_says_which(shop: str) -> None:
    finding = refused(f"{shop}_needy:model")
    assert "a_module_that_is_nowhere" in finding.got
    assert "PYTHONPATH" not in finding.remedy


def test_a_module_that_raises_is_reported_with_its_own_words(shop: str) -> None:
    assert refused(f"{shop}_broken:model").got == "OSError: no licence"


def test_a_name_that_the_module_lacks_is_answered_with_the_nearest(shop: str) -> None:
    assert refused(f"{shop}:modle").remedy == "Did you mean `model`?"


def test_what_cannot_be_called_is_refused(shop: str) -> None:
    assert refused(f"{shop}:number").got == "a int"


@pytest.mark.parametrize("name", [":model", "shop:", "shop:a:b", "shop:a b"])
def test_a_malformed_name_is_refused(name: str) -> None:
    assert refused(name).expected == '"module:name"'


def test_the_message_names_who_asks() -> None:
    with pytest.raises(ConfigError, match=r"gate\.rule: expected a built-in rule"):
        resolve("x", {}, NameOrigin("gate.rule", "rule"))
