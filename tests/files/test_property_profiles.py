"""What `make search` changes about the property tests of `make test`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from example_counts import examples
from hypothesis import settings
from hypothesis.database import DirectoryBasedExampleDatabase

TESTS = Path(__file__).parents[1]
MAY_SET = {"conftest.py", "example_counts.py", Path(__file__).name}


@pytest.fixture
def search() -> Iterator[settings]:
    before = settings.get_current_profile_name()
    settings.load_profile("search")
    yield settings.get_profile("search")
    settings.load_profile(before)


def test_every_number_of_examples_is_enlarged_alike(search: settings) -> None:
    assert search.max_examples == 1_000
    assert [examples(count).max_examples for count in (60, 6, 300)] == [1_000, 100, 5_000]


def test_no_test_sets_a_number_of_examples_that_no_profile_enlarges() -> None:
    files = {file for file in TESTS.rglob("*.py") if "max_examples" in file.read_text(encoding="utf-8")}
    assert {file.name for file in files} == MAY_SET


def test_what_search_finds_is_kept_in_the_checkout_and_tried_again(search: settings) -> None:
    assert isinstance(search.database, DirectoryBasedExampleDatabase)
    assert search.database.path == TESTS.parent / ".hypothesis" / "examples"
    assert not search.derandomize
