"""The route that a Prometheus server scrapes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime

from fastapi import APIRouter, Request, Response

from schemas.vocabulary import STREAMING
from spinney.gateway.monitoring.metrics import CONTENT_TYPE, Gauge
from spinney.gateway.protocols.openapi import PROBLEMS
from spinney.gateway.shared_state import Service
from spinney.storage.layout import FleetStore
from spinney.storage.reported_offsets import read_lag


def metrics_router(service: Service) -> APIRouter:
    """Return the route /metrics."""
    router = APIRouter(tags=["operation"])

    @router.get("/metrics", responses={code: PROBLEMS[code] for code in (401, 403, 503)})
    async def metrics(request: Request) -> Response:
        """Return counts of requests, rows and models, in the text format of Prometheus."""
        service.guard.read(request)
        lag = await asyncio.to_thread(_lag_by_query, FleetStore.of(service.config))  # has no place in the queue
        return Response(service.metrics.text([*_gauges(service), *lag]), media_type=CONTENT_TYPE)

    return router


def _lag_by_query(store: FleetStore) -> list[Gauge]:
    """Number of records that each streaming query has not processed, for the queries that read topics."""
    lags = {query.value: read_lag(store, query.value) for query in STREAMING}
    records = {query: sum(topic.records for topic in lag) for query, lag in lags.items() if lag}
    now = datetime.now(UTC)
    seen = {query: [topic.seen_at for topic in lag if topic.seen_at is not None] for query, lag in lags.items()}
    ages = {query: (now - min(times)).total_seconds() for query, times in seen.items() if times}
    return [
        ("stream_lag_records", "gauge", "Records of Kafka that a query has not processed.", records),
        ("stream_lag_age_seconds", "gauge", "Since a query has last looked for the ends of its topics.", ages),
    ]


def _gauges(service: Service) -> Iterator[Gauge]:
    counts = service.cache.counts
    yield "cache_hits_total", "counter", "Cache hits: models that were loaded already.", counts.hits
    yield "model_loads_total", "counter", "Models verified and loaded, or refused.", counts.loads
    yield "cache_models", "gauge", "Models that are loaded.", counts.models
    yield "cache_bytes", "gauge", "Bytes of the models that are loaded.", counts.bytes
    yield "champions", "gauge", "Groups and parents with a model that answers.", len(service.feed.current)
    yield "champions_age_seconds", "gauge", "Since the tables were last looked at with success.", service.feed.age_s
    yield "requests_in_progress", "gauge", "Requests that send their body, wait or run.", service.queue.there
