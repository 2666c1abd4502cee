r"""A group's key as one string, and its shard. Keys are unique per group, and the same as those built by Spark SQL.

A group's key is a compact JSON array of its key columns as text, ``["AA","JFK",null]``. A parent's key is a compact
JSON object with the columns in declared order, ``{"dest":"LAX"}``; the global one is ``{}``.

Spark's ``to_json`` differs in two ways: it writes control characters as ``\u001F`` instead of ``\u001f`` (records with
such characters are dead letters), and it drops null fields of a struct unless ``ignoreNullFields`` is ``false``.
"""

from __future__ import annotations

import difflib
import json
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from itertools import islice
from typing import Any

import xxhash

from spinney.core.errors import ContractError

SPARK_SEED = 42
"""The seed of Spark SQL's ``xxhash64``."""

GLOBAL = "{}"
"""The key of the global parent."""

MAX_COMPARED = 2_000
"""Largest number of keys that are compared with an unknown one."""


def encode(values: Sequence[object]) -> str:
    """Return the key of the group with these key columns, in declared order.

    values: text, integers, booleans, dates or None, each written as Spark's ``CAST(… AS STRING)`` writes it. Raises
    ContractError for other types: floats and timestamps have no unique text.
    """
    return _dumps([_text(value) for value in values])


def decode(key: str) -> tuple[str | None, ...]:
    """Return the texts of a group's key columns. Raises ContractError if `key` is not a group's."""
    values = _loads(key)
    if not isinstance(values, list) or not all(value is None or isinstance(value, str) for value in values):
        raise ContractError(f'group_key: expected a JSON array of texts like ["AA","JFK"]; got {key!r}')
    return tuple(values)


def parse_key_arguments(*words: str) -> str:
    """Return the key that was typed on a command line: a group's columns one by one, or a key as JSON with any spaces.

    Raises ContractError for text that begins as JSON and is not a key.
    """
    if len(words) != 1 or not words[0].lstrip().startswith(("[", "{")):
        return encode(words)
    parsed = _loads(words[0])
    return parent_key(list(parsed), list(parsed.values())) if isinstance(parsed, dict) else encode(parsed)


def parent_key(names: Sequence[str], values: Sequence[object]) -> str:
    """Return the key of the parent whose columns `names` have these `values`; without columns the global one.

    Raises ContractError if the numbers of names and values differ.
    """
    if len(names) != len(values):
        raise ContractError(f"parent_key: expected {len(names)} values for columns {list(names)}; got {len(values)}")
    return _dumps({name: _text(value) for name, value in zip(names, values, strict=True)})


def parent_values(key: str) -> Mapping[str, str | None]:
    """Return column -> text of a parent's key. Raises ContractError if `key` is not a parent's."""
    values = _loads(key)
    if not isinstance(values, dict):
        raise ContractError(f'parent key: expected a JSON object like {{"dest":"LAX"}}; got {key!r}')
    return values


def is_parent(key: str) -> bool:
    """Return whether `key` is that of a parent (including the global one), not of a group."""
    return key.startswith("{")


def ancestors(group: Sequence[str], parents: Sequence[Sequence[str]], key: str) -> tuple[str, ...]:
    """Return the keys of a group's parents, nearest first.

    group: names of the key columns. parents: for each parent the names of its columns, a subset of `group`. Raises
    ContractError if `key` has another number of columns, or a parent has a column that is not one of the group's.
    """
    texts = decode(key)
    if len(texts) != len(group):
        raise ContractError(f"group_key {key!r}: expected {len(group)} columns {list(group)}; got {len(texts)}")
    text_of = dict(zip(group, texts, strict=True))
    unknown = sorted({name for names in parents for name in names} - set(text_of))
    if unknown:
        raise ContractError(f"parents: expected columns of the group {list(group)}; got {unknown}")
    return tuple(parent_key(names, [text_of[name] for name in names]) for names in parents)


def ancestors_of_parent(parents: Sequence[Sequence[str]], key: str) -> tuple[str, ...]:
    """Return the keys of a parent's own parents, nearest first: those that have some of its columns only.

    parents: as in `ancestors`. Raises ContractError if `key` is not a parent's.
    """
    value_of = parent_values(key)
    above = [names for names in parents if set(names) < value_of.keys()]
    return tuple(parent_key(names, [value_of[name] for name in names]) for names in above)


def unknown_group_message(key: str, known: Iterable[str], text: str) -> str:
    """Return the message about a group that is not known, with the keys nearest to it."""
    near = difflib.get_close_matches(key, _candidates(key, list(known)), n=3, cutoff=0.0)
    nearest = f"; the nearest are {', '.join(near)}" if near else ""
    return f"group {key}: {text}{nearest}; `spinney fleet` lists the groups"


def _candidates(key: str, known: list[str]) -> list[str]:
    """Return the keys that are worth a comparison: all, or those that begin or end as the key does.

    To compare one takes 20 us, and nothing else runs in this process meanwhile.
    """
    if len(known) <= MAX_COMPARED:
        return known
    ordered, half = sorted(known), MAX_COMPARED // 2
    place = min(max(bisect_left(ordered, key) - half // 2, 0), len(ordered) - half)
    end = _longest_end(key, ordered)
    with_end = islice((name for name in ordered if name.endswith(end)), half)
    return list(dict.fromkeys([*ordered[place : place + half], *with_end]))


def _longest_end(key: str, known: list[str]) -> str:
    """Return the longest end of a key with which another one ends."""
    low, high = 0, len(key)
    while low < high:
        middle = (low + high + 1) // 2
        if any(name.endswith(key[-middle:]) for name in known):
            low = middle
        else:
            high = middle - 1
    return key[len(key) - low :]


def shard_of(key: str, shards: int) -> int:
    """Return ``pmod(xxhash64(key), shards)`` as Spark computes it: 0 to shards - 1."""
    unsigned = xxhash.xxh64_intdigest(key.encode(), seed=SPARK_SEED)
    signed = unsigned - (1 << 64) if unsigned >= 1 << 63 else unsigned
    return signed % shards


_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))
"""Made once: `json.dumps` with these arguments makes one for each key, which takes longer than the key."""


def _dumps(value: object) -> str:
    return _ENCODER.encode(value)


def _loads(key: str) -> Any:
    try:
        value = json.loads(key)
        if "\\" in key:
            _dumps(value).encode()  # a lone surrogate can be escaped in JSON, but has no UTF-8
    except (ValueError, RecursionError) as error:
        raise ContractError(f"group_key {key!r}: expected JSON of texts in Unicode; got {error}") from error
    return value


def _text(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, date) and not isinstance(value, datetime):
        return value.isoformat()
    name = type(value).__name__
    raise ContractError(f"key column: expected text, an integer, a boolean or a date; got {name} {value!r}")
