"""What the pages tell people to type exists."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import click
import pytest

from spinney.cli import main

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    str(page.relative_to(ROOT))
    for page in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md"))
)


def typed(program: str, page: str) -> list[tuple[str, str]]:
    """(word, the rest) of each call of a program on a page: a line of code that begins so, or words in backticks."""
    text = (ROOT / page).read_text(encoding="utf-8")
    word = "([a-z][a-z0-9-]*)"
    found = re.finditer(rf"^ {{4}}{program} {word}(.*)$|`{program} {word}([^`]*)`", text, re.MULTILINE)
    return [(match[1] or match[3], match[2] or match[4] or "") for match in found]


def files_named(page: str) -> list[str]:
    """Files and folders of this repository that a page names in backticks or gives to spark-submit."""
    text = (ROOT / page).read_text(encoding="utf-8")
    named = re.findall(r"`((?:spinney|streaming|batch|schemas|tests|examples|docs)/[\w./-]*)`", text)
    return [*named, *re.findall(r"spark-submit (\S+\.py)", text)]


@cache
def targets() -> set[str]:
    """What `make` lists; `tests/process/test_makefile.py` runs it."""
    return set(re.findall(r"^([a-z0-9]+):.* ## ", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))


def test_what_the_pages_tell_people_to_type_is_found_in_code_and_in_backticks() -> None:
    """Without it the tests below would pass on pages in which they find nothing."""
    assert {verb for page in PAGES for verb, _ in typed("spinney", page)} == set(main.commands)
    assert {word for word, _ in typed("make", "CONTRIBUTING.md")} >= {"setup", "check", "pure", "spark", "kafka", "e2e"}
    assert files_named("README.md")
    assert "streaming/app.py" in files_named("docs/design.md")


@pytest.mark.parametrize("page", PAGES)
def test_every_spinney_verb_on_a_page_exists_with_its_options(page: str) -> None:
    for verb, rest in typed("spinney", page):
        assert verb in main.commands, f"{page}: spinney {verb}"
        command = main.commands[verb]
        if isinstance(command, click.Group):
            command = command.commands[rest.split()[0]]
        known = {option for parameter in command.params for option in parameter.opts}
        reported = rest.partition("#")[0]
        assert set(re.findall(r"(?<!\S)--[a-z-]+", reported)) <= known, f"{page}: spinney {verb}{rest}"


@pytest.mark.parametrize("page", PAGES)
def test_every_make_target_on_a_page_exists(page: str) -> None:
    assert {word for word, _ in typed("make", page)} <= targets()


@pytest.mark.parametrize("page", PAGES)
def test_every_file_that_a_page_runs_or_names_with_its_folder_exists(page: str) -> None:
    for file in files_named(page):
        assert (ROOT / file).exists(), f"{page}: {file}"


def test_the_first_screen_of_the_readme_shows_how_to_run_the_demo_and_the_tests() -> None:
    first_screen = "\n".join((ROOT / "README.md").read_text(encoding="utf-8").splitlines()[:25])
    assert "    make demo" in first_screen
    assert "    make test" in first_screen


def test_the_newest_version_in_the_changelog_is_the_projects() -> None:
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    (version,) = re.findall(r'^version = "([^"]+)"', project, re.MULTILINE)
    newest = re.search(r"^## (\S+?),? ", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert newest is not None
    assert newest[1] == version
