from __future__ import annotations

from pathlib import Path

import pytest

from spinney.core.config import Config, parse
from spinney.core.errors import SetupError
from spinney.local.checks import fleet_checks
from spinney.local.checks.fleet_checks import Result
from spinney.storage import charter, last_configuration
from spinney.storage.layout import FleetStore

CONFIG = """\
[fleet]
group = ["shop"]
event_id = "id"
event_time = "at"
target = "sold"
features = ["price", "day", "at", "sunny", "floor", "brand"]
[fleet.columns]
shop = "string"
price = "double"
sold = "int"
day = "date"
sunny = "boolean"
floor = "int"
brand = "string"
[kafka]
events = "sales"
[storage]
root = "ROOT"
"""


def configured(root: Path | str, **environment: str) -> Config:
    return parse(CONFIG.replace("ROOT", str(root)), "fleet.toml", environment)


def test_a_key_without_effect_is_read_and_reported(tmp_path: Path) -> None:
    assert [found.state for found in fleet_checks.configuration(configured(tmp_path))] == ["ok"]
    earlier = configured(tmp_path, SPINNEY_STALENESS__ERROR_RISE__FACTOR="2.0")
    assert earlier.staleness.error_rise.factor == 2.0
    (found,) = fleet_checks.configuration(earlier)
    assert (found.state, found.text) == ("finding", "staleness.error_rise.factor has no effect any more")


def test_a_root_that_can_be_written_is_sound_even_before_it_is_made(tmp_path: Path) -> None:
    found = fleet_checks.storage(configured(tmp_path / "a" / "b").storage.root)
    assert found.state == "ok"
    assert "will be made" in found.text
    assert not (tmp_path / "a").exists()


def test_a_root_below_a_file_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    found = fleet_checks.storage(configured(tmp_path / "file" / "b").storage.root)
    assert found.state == "finding"
    assert "storage.root" in found.remedy


def test_a_disk_that_is_nearly_full_is_a_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet_checks, "FREE_BYTES", 1 << 80)
    assert "GB left" in fleet_checks.storage(configured(tmp_path).storage.root).text


def test_the_estimator_fits_a_toy_group_of_every_type_of_feature(tmp_path: Path) -> None:
    (found,) = fleet_checks.estimator(configured(tmp_path))
    assert (found.name, found.state, found.remedy) == ("estimator", "ok", "")
    assert found.text.startswith('"linear" meets all 12 requirements; ')


def test_the_estimator_of_a_classification_fits_a_toy_group(tmp_path: Path) -> None:
    config = configured(tmp_path, SPINNEY_FLEET__TASK="classification", SPINNEY_RECIPE__ESTIMATOR="logistic_regression")
    assert [found.state for found in fleet_checks.estimator(config)] == ["ok"]


def test_an_estimator_that_raises_is_reported_with_its_own_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sulky_shop.py").write_text(
        "from sklearn.dummy import DummyRegressor\n"
        "class Sulky(DummyRegressor):\n"
        "    def fit(self, X, y, sample_weight=None):\n"
        "        raise RuntimeError('not today')\n"
        "def model():\n"
        "    return Sulky()\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    (found,) = fleet_checks.estimator(configured(tmp_path, SPINNEY_RECIPE__ESTIMATOR="sulky_shop:model"))
    assert found.state == "finding"
    assert "fit: " in found.text
    assert "not today" in found.text
    assert found.remedy


def test_each_point_that_is_broken_is_a_finding_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "moody_shop.py").write_text(
        "import random\n"
        "from sklearn.linear_model import LinearRegression\n"
        "class Moody(LinearRegression):\n"
        "    def fit(self, X, y, sample_weight=None):\n"
        "        return super().fit(X, y + random.random())\n"
        "    def predict(self, X):\n"
        "        return super().predict(X) + len(X)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    found = fleet_checks.estimator(configured(tmp_path, SPINNEY_RECIPE__ESTIMATOR="moody_shop:Moody"))
    assert {result.state for result in found} == {"finding"}
    assert [result.text.split(": ")[1] for result in found] == ["payload", "same bytes", "row order", "one label"]
    assert all(result.remedy for result in found)


def test_the_shadow_is_asked_the_same_and_the_recipe_still_passes(tmp_path: Path) -> None:
    assert fleet_checks.shadow(configured(tmp_path)) == []
    (found,) = fleet_checks.shadow(configured(tmp_path, SPINNEY_SHADOW__ESTIMATOR="constant"))
    assert (found.name, found.state) == ("shadow", "ok")
    assert found.text.startswith('"constant" meets all')
    wrong = configured(tmp_path, SPINNEY_SHADOW__ESTIMATOR="constnat")
    (found,) = fleet_checks.shadow(wrong)
    assert (found.name, found.state) == ("shadow", "finding")
    assert "Did you mean `constant`?" in found.remedy
    assert [result.state for result in fleet_checks.estimator(wrong)] == ["ok"]


def test_each_failure_is_a_finding_and_the_others_are_still_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_java(environment: object) -> Result:
        raise SetupError("no Java. Install one")

    def no_broker(config: Config) -> Result:
        raise SetupError("nobody answers. Start one")

    monkeypatch.setattr(fleet_checks, "java", no_java)
    monkeypatch.setattr(fleet_checks, "kafka", no_broker)
    monkeypatch.setattr(fleet_checks, "jars", lambda environment: Result("jars", "ok", "all"))
    config = configured(tmp_path, SPINNEY_SHADOW__ESTIMATOR="constant")
    found = {result.name: result for result in fleet_checks.run(config, {})}
    assert list(found) == ["configuration", "java", "jars", "kafka", "topics", "storage", "estimator", "shadow"]
    assert found["java"] == Result("java", "finding", "no Java", "Install one")
    assert found["topics"].state == "skipped"
    assert found["estimator"].state == "ok"


def test_an_unknown_estimator_is_a_finding_with_the_nearest_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("java", "jars", "kafka", "topics"):
        ok = Result(name, "ok", "")
        monkeypatch.setattr(fleet_checks, name, lambda _, message=[ok] if name == "topics" else ok: message)
    found = fleet_checks.run(configured(tmp_path, SPINNEY_RECIPE__ESTIMATOR="rigde"), {})[-1]
    assert (found.name, found.state) == ("estimator", "finding")
    assert "Did you mean `ridge`?" in found.remedy


def test_jars_that_are_missing_are_counted_and_not_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from spinney.local import jars

    monkeypatch.setattr(jars, "cache_folder", lambda environment: tmp_path)
    found = fleet_checks.jars({})
    assert found.state == "finding"
    assert "python -m spinney.local.java_and_jars" in found.remedy
    assert list(tmp_path.iterdir()) == []


def test_an_edit_of_a_living_fleet_is_reported_with_what_it_means(tmp_path: Path) -> None:
    config = configured(tmp_path)
    assert fleet_checks.fleet(config) == []
    charter.ensure_charter(FleetStore.of(config))
    last_configuration.write_last_configuration(config)
    assert [found.state for found in fleet_checks.fleet(config)] == ["ok"]
    edited = configured(tmp_path, SPINNEY_RECIPE__MIN_ROWS="7", SPINNEY_KAFKA__EVENTS="tills")
    refused, taken = fleet_checks.fleet(edited)
    assert (refused.state, taken.state) == ("finding", "ok")
    assert refused.text.startswith('kafka.events was "sales" and is "tills"')
    assert taken.text.startswith("recipe.min_rows was 20 and is 7: group by group")


def test_what_a_fleet_ran_with_is_kept_without_credentials(tmp_path: Path) -> None:
    config = configured(
        tmp_path, SPINNEY_KAFKA__OPTIONS='{ "ssl.key.password" = "hush" }', SPINNEY_RECIPE__MIN_ROWS="7"
    )
    last_configuration.write_last_configuration(config)
    (file,) = tmp_path.glob("last.toml")
    assert "hush" not in file.read_text()
    found = last_configuration.read_last_configuration(FleetStore.of(config))
    assert found is not None
    assert found.recipe.min_rows == 7
    file.write_text("[flet]\n")  # of another version
    assert last_configuration.read_last_configuration(FleetStore.of(config)) is None
