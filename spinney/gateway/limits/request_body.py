"""Read the body of a request, up to the largest size that a request may have."""

from __future__ import annotations

from fastapi import Request

from spinney.gateway.errors import RequestError, TooMuchError

MIB = 1 << 20

ORDER_BYTES = 1 << 16
"""Largest body of an order on the fleet page: a key, a model and a reason take a tenth of it."""


LEAST_MAX_VALUES = 1_000_000
"""Values that every request may have. Parsed with their digits, so many take 0.1 GB and half a second, in which no
other request is answered."""


def max_values(max_rows: int, n_columns: int) -> int:
    """Return the largest number of values of a request: those of `gateway.max_rows` rows, and three times as many that
    no column reads.
    """
    return max(LEAST_MAX_VALUES, 4 * max_rows * n_columns)


def require_few_values(raw: bytes, most: int) -> bytes:
    """Return a body. Raises TooMuchError if it has more values, counted before it is parsed.

    Each value but the first of an array or object comes after a comma. Commas inside texts count too.
    """
    if len(raw) > most and (values := sum(map(raw.count, (b",", b"[", b"{")))) > most:
        raise TooMuchError("values", most, values, "gateway.max_rows")
    return raw


def most_bytes(request: Request, max_mib: int) -> int:
    """Return the largest size that the body of a request can have, before it is read. max_mib: as for `read_body`."""
    declared = request.headers.get("content-length", "")
    if declared.isdecimal():
        return min(int(declared), max_mib * MIB)
    return max_mib * MIB if "transfer-encoding" in request.headers else 0


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
