from __future__ import annotations

import pickle

import pytest

from spinney.core import errors
from spinney.core.errors import (
    Busy,
    ConfigError,
    ContractError,
    Corrupt,
    Finding,
    FitFailed,
    GroupError,
    SetupError,
    SpinneyError,
    StoreError,
    TimedOut,
    TooFewRows,
    UnknownFormat,
    UnknownGroup,
)

FINDING = Finding("fleet.toml", 7, "fleet.task", '"regression" or "classification"', '"regresion"', "Correct it.")

ONE_OF_EACH: list[SpinneyError] = [
    SpinneyError("something"),
    ConfigError([FINDING]),
    ContractError("events lacks `a`"),
    GroupError('["AA"]', "no"),
    TooFewRows('["AA"]', 3, 20),
    FitFailed('["AA"]', "ValueError", "NaN in y"),
    TimedOut('["AA"]', "no end after 30s"),
    StoreError("table events"),
    Busy("lease held"),
    Corrupt("signature"),
    UnknownFormat("state in format 2"),
    UnknownGroup("nothing was ever stored of it"),
    SetupError("no Java"),
]


def subclasses(kind: type[SpinneyError]) -> set[type[SpinneyError]]:
    return {kind}.union(*(subclasses(child) for child in kind.__subclasses__()))


def test_this_file_has_an_example_of_every_class() -> None:
    ours = {kind for kind in subclasses(SpinneyError) if kind.__module__ == errors.__name__}
    assert {type(error) for error in ONE_OF_EACH} == ours


@pytest.mark.parametrize("error", ONE_OF_EACH, ids=lambda error: type(error).__name__)
def test_every_error_survives_pickling_with_all_it_carries(error: SpinneyError) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert vars(again) == vars(error)


def test_the_tree_is_drawn_at_the_top_of_the_module() -> None:
    assert errors.__doc__ is not None
    for kind in subclasses(SpinneyError):
        if kind.__module__ == errors.__name__:
            assert kind.__name__ in errors.__doc__


def test_a_finding_says_where_what_was_expected_what_came_and_what_to_do() -> None:
    assert str(FINDING) == (
        'fleet.toml:7: fleet.task: expected "regression" or "classification"; got "regresion". Correct it.'
    )


def test_a_finding_without_a_line_names_the_file_alone() -> None:
    finding = Finding("environment", None, "SPINNEY_X", "a section", "x", "")
    assert str(finding) == "environment: SPINNEY_X: expected a section; got x"


def test_a_configuration_error_lists_all_of_its_findings() -> None:
    other = Finding("fleet.toml", 9, "fleet.loss", "a loss", "1", "")
    assert str(ConfigError([FINDING, other])).splitlines() == [str(FINDING), str(other)]


def test_too_few_rows_says_how_many_and_how_many_are_needed() -> None:
    assert str(TooFewRows('["AA"]', 3, 20)) == 'group ["AA"]: 20 rows needed (recipe.min_rows), 3 there'


def test_a_failed_fit_keeps_the_class_and_a_bounded_text_of_the_cause() -> None:
    error = FitFailed.of("k", ValueError("x" * 600))
    assert (error.error_class, len(error.error)) == ("ValueError", 500)


def test_what_the_memory_limit_refused_is_reported_under_one_name_with_what_to_do() -> None:
    class ArrayMemoryError(MemoryError):
        """As NumPy's own."""

    error = FitFailed.of("k", ArrayMemoryError("8 GiB " * 200))
    assert error.error_class == "MemoryError"
    assert error.error.endswith("Fit fewer rows, or raise recipe.memory_limit_mib")
    assert FitFailed.of("k", MemoryError()).error.startswith("no more memory. ")


def test_a_text_that_no_table_takes_is_made_one_that_it_does() -> None:
    assert FitFailed("k", "\udc80", "half a \ud83d").error.encode() == b"half a \\ud83d"


def test_busy_is_to_be_retried_and_corrupt_is_not_busy() -> None:
    assert issubclass(Busy, StoreError)
    assert not issubclass(Corrupt, Busy)
