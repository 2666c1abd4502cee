from __future__ import annotations

import pytest

from spinney.spark.session import DRIVER_JAVA_OPTIONS, LOCAL_ENVIRONMENT, _add_defaults, _with_user_settings

OURS = {DRIVER_JAVA_OPTIONS: "-Dours=1 -XX:+UseParallelGC"}


@pytest.fixture(autouse=True)
def no_options_of_java(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "_JAVA_OPTIONS"):
        monkeypatch.delenv(name, raising=False)


def test_java_options_of_a_user_stand_behind_ours() -> None:
    assert _with_user_settings(OURS, {DRIVER_JAVA_OPTIONS: "-Xss4m"}) == {
        DRIVER_JAVA_OPTIONS: "-Dours=1 -XX:+UseParallelGC -Xss4m"
    }


def test_a_collector_that_a_user_names_takes_the_place_of_ours() -> None:
    assert _with_user_settings(OURS, {DRIVER_JAVA_OPTIONS: "-XX:+UseZGC"}) == {
        DRIVER_JAVA_OPTIONS: "-Dours=1 -XX:+UseZGC"
    }


def test_so_does_one_that_the_environment_gives_to_every_jvm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAVA_TOOL_OPTIONS", "-Xmx1g -XX:+UseG1GC")
    assert _with_user_settings(OURS, {}) == {DRIVER_JAVA_OPTIONS: "-Dours=1"}


def test_so_does_one_of_sparks_default_options() -> None:
    given = {"spark.driver.defaultJavaOptions": "-XX:+UseSerialGC"}
    assert _with_user_settings(OURS, given) == {**given, DRIVER_JAVA_OPTIONS: "-Dours=1"}


def test_the_environment_of_the_jvm_is_the_callers_with_ours_where_it_has_none() -> None:
    given = {"MALLOC_ARENA_MAX": "8"}
    _add_defaults(given, {**LOCAL_ENVIRONMENT, "OTHER": "1"})
    assert given == {"MALLOC_ARENA_MAX": "8", "OTHER": "1"}
