"""The route that a Prometheus server scrapes."""

from __future__ import annotations

from collections.abc import Iterator

from fastapi import APIRouter, Request, Response

from spinney.gateway.metrics import CONTENT_TYPE, Gauge
from spinney.gateway.openapi import PROBLEMS
from spinney.gateway.service import Service


def metrics_router(service: Service) -> APIRouter:
    """Return the route /metrics."""
    router = APIRouter(tags=["operation"])

    @router.get("/metrics", responses={401: PROBLEMS[401], 403: PROBLEMS[403]})
    async def metrics(request: Request) -> Response:
        """Return counts of requests, rows and models, in the text format of Prometheus."""
        service.guard.read(request)
        return Response(service.metrics.text(_gauges(service)), media_type=CONTENT_TYPE)

    return router


def _gauges(service: Service) -> Iterator[Gauge]:
    counts = service.cache.counts
    yield "cache_hits_total", "counter", "Cache hits: models that were loaded already.", counts.hits
    yield "model_loads_total", "counter", "Models verified and loaded, or refused.", counts.loads
    yield "cache_models", "gauge", "Models that are loaded.", counts.models
    yield "cache_bytes", "gauge", "Bytes of the models that are loaded.", counts.bytes
    yield "champions", "gauge", "Groups and parents with a model that answers.", len(service.feed.current)
    yield "champions_age_seconds", "gauge", "Since the tables were last looked at with success.", service.feed.age_s
    yield "requests_in_progress", "gauge", "Requests that send their body, wait or run.", service.queue.there
