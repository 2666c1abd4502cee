"""Read the body of a request, up to the largest size that a request may have."""

from __future__ import annotations

from fastapi import Request

from spinney.gateway.errors import RequestError

MIB = 1 << 20

ORDER_BYTES = 1 << 16
"""Largest body of an order on the fleet page: a key, a model and a reason take a tenth of it."""


async def read_body(request: Request, max_mib: int) -> bytes:
    """Return the body of a request for predictions.

    Raises RequestError: 413 for a larger one, before it is read whole; 415 for a compressed one.
    """
    message = f"body: expected at most {max_mib} MiB; got more. Send several requests, or raise gateway.max_mib"
    return await _read(request, max_mib * MIB, message)


async def read_order(request: Request) -> bytes:
    """Return the body of an order on the fleet page. Raises the errors of `read_body`."""
    return await _read(
        request, ORDER_BYTES, f"body: expected at most {ORDER_BYTES} bytes; got more. Shorten the reason"
    )


async def _read(request: Request, max_bytes: int, too_large: str) -> bytes:
    encoding = request.headers.get("content-encoding", "identity")
    if encoding.strip().lower() != "identity":
        message = f"content-encoding: expected none; got {encoding[:80]!r}. Send the body as it is"
        raise RequestError(415, "content_encoding", message)
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > max_bytes:
        raise RequestError(413, "too_large", too_large)
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > max_bytes:
            raise RequestError(413, "too_large", too_large)
        parts.append(part)
    return b"".join(parts)
