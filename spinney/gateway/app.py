"""The application: routes, answers to errors, headers."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response

from spinney.core.errors import StoreError
from spinney.gateway.errors import RequestError
from spinney.gateway.monitoring.metrics_routes import metrics_router
from spinney.gateway.page.page_data_refresh import PageDataRefresh
from spinney.gateway.page.routes import Access, page_router
from spinney.gateway.protocols.inference_routes import inference_router
from spinney.gateway.protocols.mlflow_routes import mlflow_router
from spinney.gateway.protocols.predict_routes import predict_router
from spinney.gateway.protocols.protocol_errors import problem_of
from spinney.gateway.response_middleware import FAULT, ResponseMiddleware
from spinney.gateway.routing_bypass import DirectDispatch, fixed_post_routes
from spinney.gateway.shared_state import Service

log = logging.getLogger(__name__)

RETRY_AFTER_S = 5


def create_app(service: Service) -> FastAPI:
    """Return the application of a fleet. The threads of `service` run while the application runs.

    Its interface is described by /openapi.json. FastAPI's documentation page is turned off, since it loads scripts from
    other hosts.
    """
    figures = PageDataRefresh(service.fleet)

    @asynccontextmanager
    async def threads(_: FastAPI) -> AsyncIterator[None]:
        service.start()
        figures.start()
        try:
            yield
        finally:
            figures.stop()
            service.stop()

    app = FastAPI(title=f"spinney: {service.config.fleet.name}", docs_url=None, redoc_url=None, lifespan=threads)
    predictions = [predict_router(service), mlflow_router(service)]
    for router in (*predictions, inference_router(service), metrics_router(service)):
        app.include_router(router)
    app.include_router(page_router(figures, Access(service.guard.read, service.guard.operate), service.queue))
    answer_errors(app)
    app.add_middleware(DirectDispatch, routes=fixed_post_routes(predictions), answer_error=_answer_to)
    app.add_middleware(ResponseMiddleware, metrics=service.metrics, is_draining=lambda: service.is_draining)
    return app


def answer_errors(app: FastAPI) -> None:
    """Answer errors without any path, module or stack of the server; the log has them."""

    @app.exception_handler(RequestError)
    @app.exception_handler(StoreError)
    async def refused(request: Request, error: Exception) -> Response:
        path = request.url.path
        return _answer_to(error, path) or problem_of(path, 500, "fault", FAULT)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        return problem_of(request.url.path, 422, "invalid", f"{where}: {first['msg']}")

    @app.exception_handler(HTTPException)
    @app.exception_handler(404)  # of a route that is not there: not FastAPI's own class
    @app.exception_handler(405)
    async def no_such_route(request: Request, error: HTTPException) -> Response:
        headers = dict(error.headers or {})
        return problem_of(request.url.path, error.status_code, "http", str(error.detail), headers)


def _answer_to(error: Exception, path: str) -> Response | None:
    """Return the answer to a request that is refused or whose tables cannot be read; None for a fault of the server."""
    if isinstance(error, RequestError):
        headers = {} if error.retry_after_s is None else {"Retry-After": str(error.retry_after_s)}
        if error.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        return problem_of(path, error.status, error.code, str(error), headers)
    if isinstance(error, StoreError):
        log.error("tables: %s", error)
        message = "server: expected tables that can be read; the server's log has the cause. Send it again later"
        return problem_of(path, 503, "tables", message, {"Retry-After": str(RETRY_AFTER_S)})
    return None
