from __future__ import annotations

import json
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from schemas.vocabulary import Scope
from spinney.core.config import Config
from spinney.core.errors import Corrupt, SetupError, StoreError
from spinney.storage.api_keys import FILE, KeyRing, add_key, list_keys, revoke_key
from spinney.storage.layout import FleetStore


@pytest.fixture
def store(configured: Callable[..., Config]) -> FleetStore:
    return FleetStore.of(configured())


def test_a_key_is_found_by_its_text_and_the_file_does_not_hold_it(store: FleetStore) -> None:
    key, text = add_key(store, "ada", ["score", "read"])
    assert re.fullmatch(rf"spinney_{key.id}_[\w-]{{43}}", text)
    assert KeyRing(store).find(text) == key == list_keys(store)[0]
    assert key.scopes == (Scope.READ, Scope.SCORE)
    content = (store.folder / FILE).read_text()
    assert text.split("_", 2)[2] not in content  # a secret may hold underscores of its own
    assert (store.folder / FILE).stat().st_mode & 0o777 == 0o600


def test_any_other_text_finds_no_key(store: FleetStore) -> None:
    ring = KeyRing(store)
    assert ring.find("spinney_a_b") is None
    _, text = add_key(store, "ada", ["read"])
    other, _ = add_key(store, "bea", ["read"])
    secret = text.split("_", 2)[2]
    changed = [text[:at] + ("x" if text[at] != "x" else "y") + text[at + 1 :] for at in range(len(text))]
    for wrong in (
        *changed,
        "",
        "_",
        text[:-1],
        text + "x",
        f"spinney_{other.id}_{secret}",
        f"spinney__{secret}",
        "\ud800",
    ):
        assert ring.find(wrong) is None, wrong
    assert ring.find(text) is not None


def test_a_running_gateway_sees_a_new_key_and_a_revoked_one(store: FleetStore) -> None:
    ring = KeyRing(store)
    assert not ring.has_valid_key
    key, text = add_key(store, "ada", ["read"])
    assert ring.has_valid_key
    assert ring.find(text) == key
    revoked = revoke_key(store, key.id)
    assert ring.find(text) is None
    assert not ring.has_valid_key
    assert revoke_key(store, key.id) == revoked, "once more changes nothing"
    (store.folder / FILE).unlink()
    assert ring.find(text) is None


def test_two_programs_that_add_keys_at_once_lose_none(store: FleetStore) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda n: add_key(store, f"program {n}", ["score"])[0].id, range(16)))
    assert sorted(key.id for key in list_keys(store)) == sorted(made)


@pytest.mark.parametrize(
    ("name", "scopes"),
    [
        (" ", ["read"]),
        ("stream", ["read"]),
        ("x" * 101, ["read"]),
        ("ada", []),
        ("ada\nby: bob", ["read"]),
        ("ada\x1b[2J", ["read"]),
        ("ada\u202ebob", ["read"]),
    ],
)
def test_a_key_has_a_persons_or_programs_name_and_a_scope(store: FleetStore, name: str, scopes: list[str]) -> None:
    with pytest.raises(SetupError, match="expected"):
        add_key(store, name, scopes)
    assert list_keys(store) == []


def test_a_key_that_is_not_there_cannot_be_revoked(store: FleetStore) -> None:
    key, _ = add_key(store, "ada", ["read"])
    with pytest.raises(StoreError, match=rf"key 00: expected the id of a key; got none of {key.id} \(ada\)"):
        revoke_key(store, "00")


def test_the_file_says_its_format(store: FleetStore) -> None:
    add_key(store, "ada", ["read"])
    content: dict[str, Any] = json.loads((store.folder / FILE).read_text())
    assert content["format"] == 1


@pytest.mark.parametrize("content", ["", "{", '{"format": 1, "keys": [{"id": "a"}]}', '{"format": 1, "keys": 3}'])
def test_a_file_that_is_damaged_lets_nobody_in_and_is_named(store: FleetStore, content: str) -> None:
    _, text = add_key(store, "ada", ["read"])
    (store.folder / FILE).write_text(content)
    with pytest.raises(Corrupt, match=r"api_keys\.json: expected"):
        KeyRing(store).find(text)
