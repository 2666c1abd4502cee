"""Serves the fleet page of a fleet on this machine, from a thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from fastapi import FastAPI, Request

from spinney.core.config import Config
from spinney.fleet import Fleet
from spinney.gateway.app import answer_errors
from spinney.gateway.limits.work_queue import WorkQueue
from spinney.gateway.page.page_data_refresh import PageDataRefresh
from spinney.gateway.page.routes import Access, page_router
from spinney.tables import lookup


def somebody(_: Request) -> str:
    """Return the name of every caller."""
    return "somebody"


WITHOUT_KEYS = Access(somebody, somebody)


@contextmanager
def served(config: Config, port: int = 0, access: Access = WITHOUT_KEYS) -> Iterator[tuple[str, PageDataRefresh]]:
    """Serve the page on this machine; yields its address."""
    lookup.keep_tables_open()  # as `spinney serve` does
    live, queue = PageDataRefresh(Fleet(config)), WorkQueue(8, 64, 30.0)
    live.start()
    app = FastAPI()
    app.include_router(page_router(live, access, queue))
    answer_errors(app)
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not (server.started and live.latest()):
        time.sleep(0.05)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/page/", live
    server.should_exit = True
    thread.join()
    queue.close()
    live.stop()
