from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from spinney.core.errors import ContractError, SetupError
from spinney.core.models.signing import Claim
from spinney.storage.layout import FleetStore
from spinney.storage.signing_key import ensure_key, load_signer

CLAIM = Claim('["a"]', "m1", "linear")


def test_without_a_key_the_error_says_how_to_make_one(configured) -> None:
    with pytest.raises(SetupError, match=r"signing key: none in SPINNEY_SIGNING_KEY and no file .*spinney init"):
        load_signer(FleetStore.of(configured()), {})


def test_the_key_is_made_once_and_nobody_else_may_read_it(configured) -> None:
    config = configured()
    assert ensure_key(FleetStore.of(config), {})
    signature = load_signer(FleetStore.of(config), {}).sign(CLAIM, b"payload")
    assert not ensure_key(FleetStore.of(config), {})
    load_signer(FleetStore.of(config), {}).verify(CLAIM, b"payload", signature)
    file = Path(config.storage.root) / "signing.key"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert len(file.read_bytes()) == 64


def test_the_environment_comes_before_the_file_and_needs_none(configured) -> None:
    config = configured()
    named = {"SPINNEY_SIGNING_KEY": "n" * 16}
    assert not ensure_key(FleetStore.of(config), named)
    assert not (Path(config.storage.root) / "signing.key").exists()
    ensure_key(FleetStore.of(config), {})
    assert load_signer(FleetStore.of(config), named).key == b"n" * 16
    assert load_signer(FleetStore.of(config), {}).key != b"n" * 16


def test_a_key_is_the_same_from_a_file_and_from_the_environment_whatever_stands_around_it(configured) -> None:
    config = configured()
    ensure_key(FleetStore.of(config), {})
    text = (Path(config.storage.root) / "signing.key").read_text()
    assert (
        load_signer(FleetStore.of(config), {"SPINNEY_SIGNING_KEY": f" {text}\n"}).key
        == load_signer(FleetStore.of(config), {}).key
    )
    (Path(config.storage.root) / "signing.key").write_text(f"{text}\n")
    assert load_signer(FleetStore.of(config), {}).key == text.encode()


def test_a_blank_variable_is_no_key(configured) -> None:
    assert ensure_key(FleetStore.of(configured()), {"SPINNEY_SIGNING_KEY": " \n"})
    assert len(load_signer(FleetStore.of(configured()), {"SPINNEY_SIGNING_KEY": " \n"}).key) == 64


def test_the_key_is_never_readable_by_others_not_even_before_it_is_whole(configured, monkeypatch) -> None:
    modes: list[int] = []
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda file: modes.append(stat.S_IMODE(os.fstat(file).st_mode)) or fsync(file))
    before = os.umask(0)
    try:
        ensure_key(FleetStore.of(configured()), {})
    finally:
        os.umask(before)
    assert modes == [0o600]


def test_of_two_that_make_the_key_at_once_one_does(configured, monkeypatch) -> None:
    """The other's key comes between the look and the write."""
    config = configured()
    file = Path(config.storage.root) / "signing.key"
    fsync = os.fsync

    def meanwhile(handle: int) -> None:
        file.write_bytes(b"o" * 64)
        fsync(handle)

    monkeypatch.setattr(os, "fsync", meanwhile)
    assert not ensure_key(FleetStore.of(config), {})
    assert load_signer(FleetStore.of(config), {}).key == b"o" * 64


def test_models_signed_with_an_older_key_still_verify(configured) -> None:
    config = configured()
    before = load_signer(FleetStore.of(config), {"SPINNEY_SIGNING_KEY": "o" * 16}).sign(CLAIM, b"payload")
    keys = {"SPINNEY_SIGNING_KEY": "n" * 16, "SPINNEY_SIGNING_KEYS_OLD": f" {'o' * 16} , {'p' * 20},"}
    load_signer(FleetStore.of(config), keys).verify(CLAIM, b"payload", before)
    assert load_signer(FleetStore.of(config), keys).old == (b"o" * 16, b"p" * 20)


def test_a_key_that_is_too_short_is_refused(configured) -> None:
    with pytest.raises(ContractError, match="at least 16 bytes; got 5"):
        load_signer(FleetStore.of(configured()), {"SPINNEY_SIGNING_KEY": "short"})
