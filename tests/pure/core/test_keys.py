from __future__ import annotations

import difflib
from datetime import UTC, date, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spinney.core import keys
from spinney.core.errors import ContractError

TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=20)
COLUMNS = st.lists(st.none() | TEXT, min_size=1, max_size=5)


@pytest.mark.parametrize(
    ("values", "key"),
    [
        (["AA", "JFK", "LAX"], '["AA","JFK","LAX"]'),
        (["AA", None], '["AA",null]'),
        (["null"], '["null"]'),
        ([""], '[""]'),
        (['a"b', "c\\d"], r'["a\"b","c\\d"]'),
        (["Zürich", "東京", "😀"], '["Zürich","東京","😀"]'),
        ([7, -1, True, date(2013, 1, 2)], '["7","-1","true","2013-01-02"]'),
        (["a/b", "x\ty"], r'["a/b","x\ty"]'),
    ],
)
def test_a_group_is_a_compact_json_array_of_texts(values: list[object], key: str) -> None:
    assert keys.encode(values) == key


@pytest.mark.parametrize(
    ("names", "values", "key"),
    [
        ([], [], "{}"),
        (["dest"], ["LAX"], '{"dest":"LAX"}'),
        (["origin", "dest"], ["JFK", None], '{"origin":"JFK","dest":null}'),
        (["b", "a"], [2, 1], '{"b":"2","a":"1"}'),
    ],
)
def test_a_parent_is_a_json_object_in_declared_order(names: list[str], values: list[object], key: str) -> None:
    assert keys.parent_key(names, values) == key
    assert keys.is_parent(key)
    assert list(keys.parent_values(key)) == names


@given(COLUMNS)
def test_a_key_gives_back_its_columns(values: list[str | None]) -> None:
    key = keys.encode(values)
    assert keys.decode(key) == tuple(values)
    assert not keys.is_parent(key)


@given(COLUMNS, COLUMNS)
def test_two_groups_have_two_keys(one: list[str | None], other: list[str | None]) -> None:
    assert (keys.encode(one) == keys.encode(other)) == (one == other)


@given(COLUMNS, st.data())
def test_a_parent_holds_its_columns_of_the_group(values: list[str | None], data: st.DataObject) -> None:
    group = [f"column_{i}" for i in range(len(values))]
    chosen = data.draw(st.lists(st.sampled_from(group), unique=True))
    of = dict(zip(group, values, strict=True))
    parent, top = keys.ancestors(group, [chosen, []], keys.encode(values))
    assert keys.parent_values(parent) == {name: of[name] for name in chosen}
    assert top == keys.GLOBAL == "{}"


def test_the_parents_of_a_parent_have_some_of_its_columns() -> None:
    parents = (("region", "city"), ("region",), ("kind",), ())
    assert keys.ancestors_of_parent(parents, '{"region":"n","city":null}') == ('{"region":"n"}', "{}")
    assert keys.ancestors_of_parent(parents, '{"kind":"k"}') == ("{}",)
    assert keys.ancestors_of_parent(parents, "{}") == ()


def test_ancestors_come_nearest_first() -> None:
    group = ("carrier", "origin", "dest")
    assert keys.ancestors(group, (("origin", "dest"), ("dest",), ()), '["AA","JFK","LAX"]') == (
        '{"origin":"JFK","dest":"LAX"}',
        '{"dest":"LAX"}',
        "{}",
    )


@pytest.mark.parametrize(
    ("key", "shard_in_spark", "hash_in_spark"),
    # SELECT pmod(xxhash64(key), 64), xxhash64(key), asked of Spark 4.1.3. The first three are negative, which shows
    # only where the number of shards is no power of two.
    [
        ('["AA","JFK","LAX"]', 46, -6929263279242078802),
        ("{}", 0, -5091975031279963712),
        ('["Zürich",null]', 45, -2208156594194839059),
        ('["1"]', 42, 1111565339552055402),
    ],
)
def test_a_shard_is_the_one_spark_computes(key: str, shard_in_spark: int, hash_in_spark: int) -> None:
    assert keys.shard_of(key, 64) == shard_in_spark
    for shards in (7, 1000):
        assert keys.shard_of(key, shards) == hash_in_spark % shards


@given(TEXT, st.integers(1, 10_000))
def test_any_text_has_a_shard(key: str, shards: int) -> None:
    assert 0 <= keys.shard_of(key, shards) < shards


@pytest.mark.parametrize("value", [1.5, datetime(2013, 1, 1, tzinfo=UTC), b"AA", ["AA"]])
def test_a_column_without_one_text_is_refused(value: object) -> None:
    with pytest.raises(ContractError, match="expected text, an integer"):
        keys.encode([value])


@pytest.mark.parametrize("key", ["", "AA", "{}", "[1]", '"AA"', "[[]]"])
def test_what_is_no_group_is_not_decoded(key: str) -> None:
    with pytest.raises(ContractError, match="group_key"):
        keys.decode(key)


def test_a_parent_of_a_foreign_column_is_refused() -> None:
    with pytest.raises(ContractError, match="gate"):
        keys.ancestors(("origin",), (("gate",),), '["JFK"]')
    with pytest.raises(ContractError, match="expected 2 columns"):
        keys.ancestors(("origin", "dest"), ((),), '["JFK"]')
    with pytest.raises(ContractError, match="expected 1 values"):
        keys.parent_key(["origin"], [])
    with pytest.raises(ContractError, match="JSON object"):
        keys.parent_values('["JFK"]')


@pytest.mark.parametrize(
    ("words", "key"),
    [
        (("AA", "JFK", "LAX"), '["AA","JFK","LAX"]'),
        (('["AA", "JFK", "LAX"]',), '["AA","JFK","LAX"]'),
        ((' ["AA",null, 7]',), '["AA",null,"7"]'),
        (('{"dest": "LAX"}',), '{"dest":"LAX"}'),
        (("{}",), "{}"),
        (("Köln",), '["Köln"]'),
        (("7",), '["7"]'),
    ],
)
def test_a_group_is_named_as_people_type_it(words: tuple[str, ...], key: str) -> None:
    assert keys.parse_key_arguments(*words) == key
    assert keys.parse_key_arguments(key) == key


@pytest.mark.parametrize("word", ["[AA", '["AA", 1.5]', '{"dest": ["LAX"]}', '["\\ud800"]', "[" * 9_999])
def test_what_begins_as_json_and_is_no_key_is_refused(word: str) -> None:
    with pytest.raises(ContractError, match="expected"):
        keys.parse_key_arguments(word)


def test_of_many_keys_an_unknown_one_is_compared_with_those_that_begin_or_end_as_it_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    known = [keys.encode([f"s{n:05}", f"d{n % 10}", "x"]) for n in range(20_000)]
    compared: list[int] = []
    nearest = difflib.get_close_matches
    monkeypatch.setattr(
        difflib,
        "get_close_matches",
        lambda key, some, **more: (compared.append(len(some)), nearest(key, some, **more))[1],
    )
    for typed, meant in (
        (["s12345", "d6", "x"], '["s12346","d6","x"]'),
        (["S12345", "d5", "x"], '["s12345","d5","x"]'),
        (["s00000", "d0"], '["s00000","d0","x"]'),
        (["t", "d9", "x"], '["s19999","d9","x"]'),
    ):
        assert meant in keys.unknown_group_message(keys.encode(typed), known, "unknown"), typed
    assert max(compared) <= keys.MAX_COMPARED
    assert len(compared) == 4
