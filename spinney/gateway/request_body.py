"""Reads the body of a request, as much as one may have."""

from __future__ import annotations

import asyncio

from fastapi import Request

from spinney.gateway.errors import RequestError

MIB = 1 << 20


async def read_body(request: Request, max_mib: int, time_limit_s: float) -> bytes:
    """Return the body. Raises RequestError: 413 for a larger one, before it is read whole; 408 for one that is late."""
    try:
        async with asyncio.timeout(time_limit_s):
            return await _read(request, max_mib)
    except TimeoutError as error:
        message = f"body: expected it within {time_limit_s:g} s; got a part of it"
        raise RequestError(408, "body_late", message) from error


async def _read(request: Request, max_mib: int) -> bytes:
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > max_mib * MIB:
        raise _too_large(max_mib)
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > max_mib * MIB:
            raise _too_large(max_mib)
        parts.append(part)
    return b"".join(parts)


def _too_large(max_mib: int) -> RequestError:
    message = f"body: expected at most {max_mib} MiB; got more. Send several requests, or raise gateway.max_mib"
    return RequestError(413, "too_large", message)
