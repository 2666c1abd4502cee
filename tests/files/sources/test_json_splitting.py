"""Values of JSON files that are not one per line."""

from __future__ import annotations

import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spinney.core.errors import ContractError
from spinney.sources import json_splitting
from spinney.sources.json_splitting import has_values_across_lines, split_values

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=True) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.lists(VALUES, max_size=6), st.sampled_from([None, 1]), st.integers(1, 40), st.booleans())
def test_an_array_is_split_into_its_values_however_it_is_indented_and_read(
    values: list[object], indent: int | None, characters: int, ascii_only: bool
) -> None:
    spelled = [json.dumps(value, indent=indent, ensure_ascii=ascii_only) for value in values]
    text = "[" + " ,\r\n".join(spelled) + "]"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_splitting, "_READ_CHARACTERS", characters)
        assert list(split_values(io.StringIO(text, newline=""), "a.json")) == spelled


def test_what_is_no_json_is_refused_with_its_record_without_reading_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_splitting, "_READ_CHARACTERS", 64)
    file = io.StringIO('[{"a": 1}, {"a": x' + "}" * 1_000)
    values = split_values(file, "a.json")
    assert next(values) == '{"a": 1}'
    with pytest.raises(ContractError, match=r"a\.json: record 2: expected JSON; got .*: Expecting value"):
        next(values)
    assert file.tell() <= 128


def test_a_value_that_is_too_long_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_splitting, "_READ_CHARACTERS", 64)
    monkeypatch.setattr(json_splitting, "MAX_CHARACTERS", 1_000)
    file = io.StringIO('{"a": "' + "x" * 10_000)
    with pytest.raises(ContractError, match=r"record 1: expected at most 0 MiB of JSON; got more"):
        next(split_values(file, "a.json"))
    assert file.tell() <= 1_200


@pytest.mark.parametrize(
    "start",
    [
        '{"a": 1}\n{"a": 2}',
        '{"a": 1}',
        "no\n",
        '{"a": NaN} no\n{',
        '{"a": 1} // {\n',
        '{"a',
        "",
        "\n \n",
        "1\n2",
        '"["',
    ],
)
def test_one_value_in_each_line_is_json_lines_even_if_the_first_is_none(start: str) -> None:
    assert not has_values_across_lines(start)
