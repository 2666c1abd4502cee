from __future__ import annotations

import re
from enum import StrEnum

import pytest

from schemas import messages, tables
from schemas.contract import Column, Contract
from schemas.vocabulary import AnsweredBy, DeadLetterReason, Decision, ModelStatus, RoundKind, Staleness

EVERY = (*tables.ALL, messages.PREDICTION)
SCALAR = "string|double|float|bigint|int|boolean|binary|timestamp|date"
TYPE = re.compile(rf"(?:{SCALAR})|array<(?:{SCALAR})>|map<(?:{SCALAR}),(?:{SCALAR})>")
WORDS = re.compile(r"[a-z]+(?:_[a-z]+)*")

by_name = pytest.mark.parametrize("contract", EVERY, ids=lambda contract: contract.name)


@by_name
def test_no_column_stands_twice(contract: Contract) -> None:
    assert len(set(contract.names)) == len(contract.names)


@by_name
def test_every_column_has_a_name_a_type_that_spark_knows_and_an_explanation(contract: Contract) -> None:
    for column in contract.columns:
        assert WORDS.fullmatch(column.name), column
        assert TYPE.fullmatch(column.type), column
        assert column.doc.strip(), column
        assert not column.doc.endswith("."), column


@by_name
def test_the_ddl_is_a_list_of_quoted_names_and_types(contract: Contract) -> None:
    parts = re.findall(r"`([a-z_]+)` ([a-z]+(?:<[a-z,]+>)?)(?:, |$)", contract.ddl)
    assert parts == [(column.name, column.type) for column in contract.columns]
    assert ", ".join(f"`{name}` {type_}" for name, type_ in parts) == contract.ddl


@by_name
def test_every_contract_says_what_a_row_is(contract: Contract) -> None:
    assert contract.doc.endswith(".")
    assert "ne row per" in contract.doc or contract.doc.startswith(("One per", "Additive deltas", "Why a group"))


@by_name
def test_a_table_is_partitioned_by_columns_it_has_and_always_knows(contract: Contract) -> None:
    assert set(contract.partitioned_by) <= set(contract.names)
    assert all(contract.column(name).type == "date" for name in contract.partitioned_by)


def test_the_tables_are_those_of_the_design() -> None:
    names = [
        "events",
        "outcomes",
        "dead_letters",
        "incumbent",
        "predictions",
        "health",
        "verdicts",
        "models",
        "promotions",
        "rounds",
    ]
    assert [contract.name for contract in tables.ALL] == names


def test_the_tables_with_several_writers_have_a_directory_for_each() -> None:
    assert {contract.name: contract.directories for contract in tables.ALL if contract.directories} == {
        "health": ("score", "labels"),
        "verdicts": ("stream", "batch"),
        "models": ("stream", "batch", "people"),
        "promotions": ("stream", "batch", "people"),
        "rounds": ("stream", "batch"),
    }


@pytest.mark.parametrize("contract", tables.ALL, ids=lambda contract: contract.name)
def test_every_table_names_the_batch_that_wrote_it(contract: Contract) -> None:
    assert tables.BATCH_ID in contract.columns


def test_every_table_of_groups_is_laid_out_by_shard() -> None:
    without = {contract.name for contract in tables.ALL if contract.names[:2] != ("shard", "group_key")}
    assert without == {"dead_letters", "rounds"}


def listed(column: Column) -> set[str]:
    """The words of an explanation that is a list: `a, b or c`."""
    return set(re.split(r", | or ", column.doc))


@pytest.mark.parametrize(
    ("column", "values"),
    [
        (tables.PREDICTIONS.column("answered_by"), AnsweredBy),
        (messages.PREDICTION.column("answered_by"), AnsweredBy),
        (tables.VERDICTS.column("decision"), Staleness),
        (tables.MODELS.column("status"), ModelStatus),
        (tables.PROMOTIONS.column("decision"), Decision),
        (tables.ROUNDS.column("kind"), RoundKind),
    ],
)
def test_a_coded_column_lists_exactly_its_closed_list(column: Column, values: type[StrEnum]) -> None:
    assert listed(column) == {value.value for value in values}
    assert not column.nullable


def test_the_reason_of_a_dead_letter_is_from_its_closed_list() -> None:
    assert "DeadLetterReason" in tables.DEAD_LETTERS.column("reason").doc
    assert len(DeadLetterReason) == 15


def test_a_round_counts_each_way_that_a_group_may_leave_it() -> None:
    assert "groups_in = fitted + failed + too_few_rows + kept + deferred" in tables.ROUNDS.doc
    counts = {column.name for column in tables.ROUNDS.columns if column.unit == "groups"}
    assert counts == {
        *("groups_in", "fitted", "failed", "too_few_rows", "kept", "deferred"),
        *("promoted", "unproven", "refused", "held"),
    }


@pytest.mark.parametrize("words", [DeadLetterReason, AnsweredBy, ModelStatus, Decision, Staleness, RoundKind])
def test_every_word_of_a_closed_list_is_lower_case_and_its_own_name(words: type[StrEnum]) -> None:
    for word in words:
        assert re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", word.value)
        assert word.name == word.value.upper()


def test_a_prediction_says_the_same_as_its_row_in_the_table() -> None:
    for column in messages.PREDICTION.columns:
        assert tables.PREDICTIONS.column(column.name).type == column.type
