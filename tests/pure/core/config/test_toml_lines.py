from __future__ import annotations

import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spinney.core.config.toml_formatting import to_toml, to_toml_key
from spinney.core.config.toml_lines import key_lines

TEXT = '''\
# a comment with [brackets] and = signs
title = "x # no comment"   # [not.a.table]
a.b . "c d" = 1

[fleet] # here
group = [           # over
  "one",            # several = lines
  "]",
]
after = """
[not.a.table]
key = "neither" \\"""
"""
literal = \'\'\'
x = 1\'\'\'
columns = { carrier = "string", inner = { deep = [1, { far = 2 }] } }
when = 2013-01-01T00:00:00Z
"quoted.key" = true
[ fleet . ranges ]
air = [0, 1]
[[many]]
name = 1
[[many]]
name = 2
[spark]
spark.driver.memory = "2g"
'''


@pytest.mark.parametrize(
    ("key", "line"),
    [
        ("title", 2),
        ("a.b.c d", 3),
        ("fleet", 5),
        ("fleet.group", 6),
        ("fleet.after", 10),
        ("fleet.literal", 14),
        ("fleet.columns", 16),
        ("fleet.columns.carrier", 16),
        ("fleet.columns.inner.deep", 16),
        ("fleet.when", 17),
        ("fleet.quoted.key", 18),
        ("fleet.ranges", 19),
        ("fleet.ranges.air", 20),
        ("many", 21),
        ("many.name", 22),
        ("spark.spark.driver.memory", 26),
    ],
)
def test_a_key_is_found_on_its_line(key: str, line: int) -> None:
    assert key_lines(TEXT)[key] == line


def test_what_stands_in_strings_and_comments_is_no_key() -> None:
    tomllib.loads(TEXT)
    assert not any("not" in key or "neither" in key or key.endswith(".x") for key in key_lines(TEXT))


def test_line_ends_of_another_system_count_once() -> None:
    assert key_lines("a = 1\r\n\r\n[b]\r\nc = 2\r\n") == {"a": 1, "b": 3, "b.c": 4}


def test_an_empty_text_has_no_keys() -> None:
    assert key_lines("") == {}
    assert key_lines("# nothing\n\n") == {}


names = st.text(min_size=1, max_size=6).filter(lambda name: "." not in name)
scalars = st.one_of(st.integers(-9, 9), st.booleans(), st.text(max_size=8))
tables: st.SearchStrategy[dict[str, Any]] = st.dictionaries(
    names,
    st.recursive(
        scalars,
        lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(names, inner, max_size=3)),
        max_leaves=6,
    ),
    max_size=4,
)


@given(tables, st.lists(st.sampled_from(["", "# x = 1", "   "]), max_size=3))
def test_every_key_that_tomllib_reads_is_on_the_line_it_was_written_on(table: dict[str, Any], noise: list[str]) -> None:
    lines: list[str] = []
    written = {}
    for name, value in table.items():
        lines += noise
        lines.append(f"{to_toml_key(name)} = {to_toml(value)}")
        written[name] = len(lines)
    text = "\n".join(lines)
    assert tomllib.loads(text) == table
    found = key_lines(text)
    assert {name: found[name] for name in written} == written
