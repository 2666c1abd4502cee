"""What `make` says on a machine that lacks something. Nothing is installed here: each run ends before that."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The Makefile alone, and a PATH with what every machine has, but Python."""
    (tmp_path / "bin").mkdir()
    for tool in ("make", "sh", "awk", "touch", "test", "rm", "echo"):
        found = shutil.which(tool)
        assert found
        (tmp_path / "bin" / tool).symlink_to(found)
    for name in ("Makefile", "requirements.lock", "requirements-build.lock", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def python(checkout: Path, name: str, script: str) -> None:
    file = checkout / "bin" / name
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o755)


def make(checkout: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["make", *words], cwd=checkout, env={"PATH": str(checkout / "bin")}, capture_output=True, text=True, check=False
    )


def test_make_alone_lists_what_there_is(checkout: Path) -> None:
    done = make(checkout)
    assert done.returncode == 0
    assert {line.split()[1] for line in done.stdout.splitlines()} >= {"demo", "test", "check", "pure", "e2e", "clean"}


def test_without_python_one_sentence_says_what_to_install(checkout: Path) -> None:
    done = make(checkout, "pure")
    assert done.returncode != 0
    first = done.stderr.splitlines()[0]
    assert first.startswith("make: no Python 3.11, 3.12 or 3.13 found (python3 is missing). Install one")


def test_a_python_that_is_too_old_is_named(checkout: Path) -> None:
    python(checkout, "python3", '[ "$1" = --version ] && echo Python 3.9.2 || exit 1')
    assert "(python3 is Python 3.9.2). Install one, or run make PYTHON=" in make(checkout, "pure").stderr


def test_a_newer_python_beside_an_old_one_is_found(checkout: Path) -> None:
    python(checkout, "python3", "exit 1")
    python(checkout, "python3.12", 'case "$2" in "import sys"*) exit 0;; esac; exit 1')
    assert f"make: {checkout}/bin/python3.12 cannot make virtual environments" in make(checkout, "pure").stderr


def test_a_python_without_venv_says_which_package_to_install(checkout: Path) -> None:
    python(checkout, "python3", 'case "$2" in *ensurepip*) exit 1;; esac; exit 0')
    assert "apt install python3-venv), then run make again" in make(checkout, "pure").stderr


def test_packages_that_cannot_be_had_say_what_to_check(checkout: Path) -> None:
    works = 'case "$2" in venv) mkdir -p "$4/bin"; ln -s "$0" "$4/bin/python";; pip) echo no route >&2; exit 1;; esac'
    (checkout / "bin" / "mkdir").symlink_to(str(shutil.which("mkdir")))
    (checkout / "bin" / "ln").symlink_to(str(shutil.which("ln")))
    python(checkout, "python3", works)
    done = make(checkout, "pure")
    assert "no route" in done.stderr
    assert "make: packages could not be installed: pip says why above. Check network and disk" in done.stderr


@pytest.mark.parametrize("failing", ["ruff", "mypy", "lint-imports", "python", None])
def test_all_tests_run_beside_the_checks_and_a_failure_of_either_is_one_of_both(
    checkout: Path, failing: str | None
) -> None:
    (checkout / ".venv" / "bin").mkdir(parents=True)
    for name in ("ruff", "mypy", "lint-imports", "python"):
        program = checkout / ".venv" / "bin" / name
        program.write_text(f"#!/bin/sh\necho {name} ran\nexit {int(name == failing)}\n")
        program.chmod(0o755)
    (checkout / "bin" / "cat").symlink_to(str(shutil.which("cat")))
    done = make(checkout, "-o", "setup", "test")
    assert (done.returncode == 0) == (failing is None)
    assert "python ran" in done.stdout
    assert ("make: a check failed, see above" in done.stderr) == (failing not in (None, "python"))
    assert done.stdout.count("ruff ran") == 1 + (failing not in (None, "python"))


def test_the_version_check_agrees_with_pyproject() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert 'requires-python = ">=3.11,<3.14"' in text
    assert "(3, 11) <= sys.version_info < (3, 14)" in (ROOT / "Makefile").read_text(encoding="utf-8")
    assert (3, 11) <= sys.version_info < (3, 14)
