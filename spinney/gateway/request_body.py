"""Read the body of a request, up to the largest size that a request may have."""

from __future__ import annotations

from fastapi import Request

from spinney.gateway.errors import RequestError

MIB = 1 << 20


async def read_body(request: Request, max_mib: int) -> bytes:
    """Return the body. Raises RequestError with status 413 for a larger body, before all of it is read."""
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
