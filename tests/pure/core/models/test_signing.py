from __future__ import annotations

import hashlib
import hmac
import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spinney.core.errors import ContractError, Corrupt
from spinney.core.models.signing import Claim, Signer

KEY, NEW_KEY = b"k" * 32, b"n" * 32
CLAIM = Claim('["AA"]', "model-1", "linear")


def test_a_signature_is_hmac_sha256_over_claim_and_digest() -> None:
    fields = ['["AA"]', "model-1", "linear", hashlib.sha256(b"payload").hexdigest()]
    expected = hmac.new(KEY, json.dumps(fields).encode(), hashlib.sha256).digest()
    assert Signer(KEY).sign(CLAIM, b"payload") == expected


@given(st.binary(min_size=1, max_size=64), st.data())
def test_a_flipped_bit_is_found(payload: bytes, data: st.DataObject) -> None:
    signature = Signer(KEY).sign(CLAIM, payload)
    bit = data.draw(st.integers(0, 8 * len(payload) - 1))
    flipped = bytearray(payload)
    flipped[bit // 8] ^= 1 << bit % 8
    with pytest.raises(Corrupt, match="model-1"):
        Signer(KEY).verify(CLAIM, bytes(flipped), signature)


@pytest.mark.parametrize("field", ["group_key", "model_id", "codec"])
def test_a_signature_holds_for_no_other_claim(field: str) -> None:
    signature = Signer(KEY).sign(CLAIM, b"payload")
    with pytest.raises(Corrupt):
        Signer(KEY).verify(replace(CLAIM, **{field: "other"}), b"payload", signature)


@pytest.mark.parametrize("signature", [None, b"", b"\0" * 32])
def test_no_signature_is_no_signature(signature: bytes | None) -> None:
    with pytest.raises(Corrupt):
        Signer(KEY).verify(CLAIM, b"payload", signature)


def test_an_old_key_still_verifies_but_signs_no_more() -> None:
    signature = Signer(KEY).sign(CLAIM, b"payload")
    rotated = Signer(NEW_KEY, (KEY,))
    rotated.verify(CLAIM, b"payload", signature)
    assert rotated.sign(CLAIM, b"payload") == Signer(NEW_KEY).sign(CLAIM, b"payload") != signature
    with pytest.raises(Corrupt):
        Signer(NEW_KEY).verify(CLAIM, b"payload", signature)


def test_a_signer_does_not_show_its_keys() -> None:
    assert "kkk" not in repr(Signer(KEY, (KEY,)))


def test_a_short_key_is_refused() -> None:
    with pytest.raises(ContractError, match="at least 16 bytes; got 3"):
        Signer(b"abc")
