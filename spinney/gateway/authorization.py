"""Who may call the gateway: callers with an API key, or anybody on this machine with `--insecure`."""

from __future__ import annotations

import logging
from collections.abc import Callable
from ipaddress import ip_address
from urllib.parse import SplitResult, urlsplit

from fastapi import Request

from schemas.vocabulary import Scope
from spinney.gateway.errors import RequestError
from spinney.gateway.shared_state import Guard
from spinney.storage.api_keys import KeyRing

log = logging.getLogger(__name__)

ANYBODY = "anybody"
"""The caller's name with `--insecure`."""

_SCHEME = "bearer "


def guard_by_keys(ring: KeyRing) -> Guard:
    """Return the guard that asks for `Authorization: Bearer KEY`. A cookie is never read, so no other site can act."""

    def with_scope(scope: Scope) -> Callable[[Request], str]:
        def authorize(request: Request) -> str:
            header = request.headers.get("authorization", "")
            key = ring.find(header[len(_SCHEME) :].strip()) if header[: len(_SCHEME)].lower() == _SCHEME else None
            if key is None:
                raise RequestError(401, "no_key", "key: expected Authorization: Bearer with a valid API key; got none")
            if scope not in key.scopes:
                log.warning("key %s of %s: refused, it has no scope %s", key.id, key.name, scope)
                has = ", ".join(key.scopes)
                raise RequestError(403, "scope", f"key {key.id}: expected one with the scope {scope}; got {has}")
            return key.name

        return authorize

    return Guard(*(with_scope(scope) for scope in (Scope.READ, Scope.SCORE, Scope.OPERATE)))


def guard_of_this_machine() -> Guard:
    """Return the guard of `--insecure`. It asks for no key, but accepts only names of this machine and no pages of
    other sites.

    Otherwise a page of another site could call its visitor's gateway, under a name that it has made to mean this
    machine.
    """

    def authorize(request: Request) -> str:
        host, origin = request.headers.get("host", ""), request.headers.get("origin")
        if not is_loopback(_split(f"//{host}").hostname or ""):
            raise RequestError(
                403, "host", "host: expected localhost, since the gateway runs with --insecure; got another"
            )
        if origin is not None and _split(origin).netloc != host:
            raise RequestError(403, "origin", "origin: expected the gateway's own page; got that of another site")
        return ANYBODY

    return Guard(authorize, authorize, authorize)


def _split(url: str) -> SplitResult:
    """The parts of a URL; empty if it cannot be parsed, as with an open bracket."""
    try:
        return urlsplit(url)
    except ValueError:
        return urlsplit("")


def is_loopback(host: str) -> bool:
    """Whether a host name or address means this machine only."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
