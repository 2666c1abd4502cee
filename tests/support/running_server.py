"""An ASGI application on a free port, with the HTTP of `spinney serve`, in a thread of the test's own process."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn

from spinney.gateway.limits.connection_limits import LimitedProtocol


@contextmanager
def running(app: Any) -> Iterator[str]:
    """Serve meanwhile; yields the URL."""
    server = uvicorn.Server(
        uvicorn.Config(
            app, host="127.0.0.1", port=0, log_config=None, access_log=False, http=LimitedProtocol, server_header=False
        )
    )
    listening = threading.Event()
    started = server.startup

    async def startup(*arguments: Any, **more: Any) -> None:
        await started(*arguments, **more)
        listening.set()

    server.startup = startup  # type: ignore[method-assign]
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        assert listening.wait(30)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(30)
