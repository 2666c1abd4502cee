"""Signatures of models. They are verified before a byte of a payload is parsed."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field
from json.encoder import encode_basestring_ascii as quoted

from spinney.core.errors import ContractError, Corrupt

MIN_KEY_BYTES = 16


@dataclass(frozen=True)
class Claim:
    """The group, model and codec that a signature binds a payload to."""

    group_key: str
    model_id: str
    codec: str


@dataclass(frozen=True)
class Signer:
    """Signs with one key and verifies with it and older keys, so that a key can be replaced while models are in use.

    key, old: at least 16 bytes each. Raises ContractError for a shorter one.
    """

    key: bytes = field(repr=False)
    old: tuple[bytes, ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        for key in (self.key, *self.old):
            if len(key) < MIN_KEY_BYTES:
                raise ContractError(
                    f"signing key: expected at least {MIN_KEY_BYTES} bytes; got {len(key)}. "
                    "Make one: python -c 'import secrets; print(secrets.token_hex(32))'"
                )

    def sign(self, claim: Claim, payload: bytes) -> bytes:
        """Return the signature: 32 bytes, HMAC-SHA-256 over the claim and the payload's digest."""
        return hmac.digest(self.key, _message(claim, payload), "sha256")

    def verify(self, claim: Claim, payload: bytes, signature: bytes | None) -> None:
        """Check that one of the keys signed this claim and payload. Raises Corrupt."""
        message = _message(claim, payload)
        for key in (self.key, *self.old):
            if hmac.compare_digest(hmac.digest(key, message, "sha256"), bytes(signature or b"")):
                return
        raise Corrupt(
            f"model {claim.model_id} of group {claim.group_key}: expected a signature by one of {1 + len(self.old)} "
            "keys; got one that does not hold: payload, group or codec were changed, or the signing key was. Restore "
            "the key (SPINNEY_SIGNING_KEY), or refit the group: spinney retrain --group"
        )


def _message(claim: Claim, payload: bytes) -> bytes:
    digest = hashlib.sha256(payload).hexdigest()
    # A JSON list written by hand: json.dumps sets up an encoder for each call, which takes longer than the digest.
    return f'[{quoted(claim.group_key)}, {quoted(claim.model_id)}, {quoted(claim.codec)}, "{digest}"]'.encode()
