"""Ivy is replaced by a script that prints what Ivy prints: how it is asked and understood is what counts here."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from spinney.core.errors import SetupError
from spinney.local.ivy import ivy
from spinney.local.jars import Jar, ensure

IVY = Path("ivy.jar")
ONE = Jar("spark", "org.acme", "one", "1.0", hashlib.sha256(b"one").hexdigest())
TWO = Jar("broker", "org.acme", "one", "2.0", hashlib.sha256(b"two").hexdigest())


def fake_java(tmp_path: Path, script: str) -> Path:
    java = tmp_path / "java"
    java.write_text(f"#!/bin/sh\nset -eu\nprintf '%s\\n' \"$@\" > {tmp_path}/arguments\n{script}\n")
    java.chmod(0o755)
    return java


def arguments(tmp_path: Path) -> list[str]:
    return (tmp_path / "arguments").read_text().splitlines()


def test_two_versions_of_one_module_are_both_asked_for_and_both_kept(tmp_path: Path) -> None:
    folder = tmp_path / "jars"
    java = fake_java(
        tmp_path,
        f"cp {folder}/.loading/ivy.xml {tmp_path}/asked.xml\n"
        f"printf one > {folder}/.loading/one-1.0.jar; echo '\t[SUCCESSFUL ] org.acme#one;1.0!one.jar (4ms)'\n"
        f"printf two > {folder}/.loading/one-2.0.jar; echo '\t[SUCCESSFUL ] org.acme#one;2.0!one.jar (4ms)'",
    )
    seen: list[str] = []
    files = ensure([ONE, TWO], folder, ivy(java, IVY, {}), lambda done, wanted, name: seen.append(name))
    assert [file.read_text() for file in files] == ["one", "two"]
    assert seen == ["one-1.0.jar", "one-2.0.jar"]
    asked = (tmp_path / "asked.xml").read_text()
    assert asked.count("<dependency ") == asked.count('transitive="false"') == 2
    assert '<conflict manager="all"/>' in asked
    assert not (folder / ".loading").exists()


def test_no_repository_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "jars"
    copy = f"cp {folder}/.loading/ivysettings.xml {tmp_path}/settings.xml"
    java = fake_java(tmp_path, f"{copy}; printf one > {folder}/.loading/one-1.0.jar")
    ensure([ONE], folder, ivy(java, IVY, {}))
    assert "http" not in (tmp_path / "settings.xml").read_text()


def test_a_jar_that_a_killed_run_had_loaded_is_taken_without_starting_java(tmp_path: Path) -> None:
    loading = tmp_path / "jars" / ".loading"
    loading.mkdir(parents=True)
    (loading / ONE.name).write_text("one")
    (file,) = ensure([ONE], tmp_path / "jars", ivy(tmp_path / "no-java-here", IVY, {}))
    assert file.read_text() == "one"


def test_a_proxy_and_its_exceptions_are_passed_on(tmp_path: Path) -> None:
    java = fake_java(tmp_path, f"printf one > {tmp_path}/jars/.loading/one-1.0.jar")
    environment = {"HTTPS_PROXY": "http://proxy.local:3128", "no_proxy": "localhost,.corp"}
    ensure([ONE], tmp_path / "jars", ivy(java, IVY, environment))
    options = [option for option in arguments(tmp_path) if option.startswith("-D")]
    proxy = ["-Dhttps.proxyHost=proxy.local", "-Dhttps.proxyPort=3128"]
    assert options == [*proxy, "-Dhttp.nonProxyHosts=localhost|*.corp"]


@pytest.mark.parametrize(
    ("says", "cause"),
    [
        ("Server access error at url https://x/y.jar (java.net.ConnectException: no)", "java.net.ConnectException: no"),
        ("Host example.org not found. url=https://example.org/y.jar", "Host example.org not found"),
        ("SERVER ERROR: Bad Gateway url=https://x/y.jar", "SERVER ERROR: Bad Gateway"),
        ("Your proxy requires authentication.", "Your proxy requires authentication"),
    ],
)
def test_no_network_is_reported_with_its_cause(tmp_path: Path, says: str, cause: str) -> None:
    java = fake_java(tmp_path, f"echo ' {says}'; echo ' :: org.acme#one;1.0: not found'; exit 1")
    with pytest.raises(SetupError, match=rf"one-1.0.jar: could not be loaded: {cause}\. Check the network"):
        ensure([ONE], tmp_path / "jars", ivy(java, IVY, {}))


def test_a_coordinate_that_is_not_there_is_named(tmp_path: Path) -> None:
    java = fake_java(tmp_path, "echo '  :: org.acme#one;2.0: not found'; exit 1")
    with pytest.raises(SetupError, match=r"org.acme:one:2.0: not in the default Maven repository"):
        ensure([ONE, TWO], tmp_path / "jars", ivy(java, IVY, {}))


def test_a_full_disk_is_reported_as_such(tmp_path: Path) -> None:
    java = fake_java(tmp_path, "echo 'java.io.IOException: No space left on device'; exit 1")
    with pytest.raises(SetupError, match="the disk is full"):
        ensure([ONE], tmp_path / "jars", ivy(java, IVY, {}))
