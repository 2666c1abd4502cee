"""The outermost layer of the application: headers, answers to faults, and the counts of requests."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from starlette.requests import ClientDisconnect

from spinney.gateway.monitoring.json_logs import FIELDS
from spinney.gateway.monitoring.metrics import Metrics
from spinney.gateway.protocols.protocol_errors import problem_of

log = logging.getLogger(__name__)

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
}
"""Headers that every answer gets unless it sets its own."""

NO_ROUTE = "none"
"""Name of the route in metrics for requests that match no route."""

CLIENT_LEFT = 499
"""Status counted for a client that closed its connection before it was answered; nginx uses the same number."""

FAULT = "server: a fault of the gateway; the server's log has the cause"
"""The message that the caller gets."""

_ENCODED = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
_Scope = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[_Scope]]
_Send = Callable[[_Scope], Awaitable[None]]
_Application = Callable[[_Scope, _Receive, _Send], Awaitable[None]]


def _without_host(location: bytes) -> bytes:
    """Return where a redirection leads, on the same server.

    FastAPI repeats the host that the caller named, and `http` also behind a proxy that speaks TLS: a client would send
    its key again without encryption.
    """
    parts = urlsplit(location)
    return b"/" + urlunsplit((b"", b"", parts.path, parts.query, b"")).lstrip(b"/") if parts.netloc else location


class ResponseMiddleware:
    """Adds HEADERS, answers if a route fails, counts and logs each request. app: an ASGI application.

    is_draining: whether clients are asked to close their connections.
    """

    def __init__(self, app: _Application, metrics: Metrics, is_draining: Callable[[], bool] = lambda: False) -> None:
        self._app, self._metrics, self._is_draining = app, metrics, is_draining

    async def __call__(self, scope: _Scope, receive: _Receive, send: _Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status, began, method = 0, time.perf_counter(), scope["method"]
        if method == "HEAD":
            scope = {**scope, "method": "GET"}  # uvicorn keeps the scope of its own, and sends no body

        async def send_with_headers(message: _Scope) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = [(name.lower(), value) for name, value in message["headers"]]
                present = dict(headers)
                if b"location" in present:
                    headers = [
                        (name, _without_host(value) if name == b"location" else value) for name, value in headers
                    ]
                message["headers"] = [*headers, *(header for header in _ENCODED if header[0] not in present)]
                if self._is_draining():
                    message["headers"].append((b"connection", b"close"))
            await send(message)

        try:
            await self._app(scope, receive, send_with_headers)
        except ClientDisconnect:
            pass  # no fault, and there is nobody to answer
        except Exception:
            log.exception("request: a fault of the gateway")
            if status:
                raise
            await problem_of(scope["path"], 500, "fault", FAULT)(scope, receive, send_with_headers)
        finally:
            self._count(method, scope, status or CLIENT_LEFT, time.perf_counter() - began)

    def _count(self, method: str, scope: _Scope, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", NO_ROUTE).replace(":path", "")
        self._metrics.count_request(route, status, seconds)
        fields = {"method": method, "route": route, "status": status, "ms": round(seconds * 1e3, 2)}
        log.info("request", extra={FIELDS: fields})
