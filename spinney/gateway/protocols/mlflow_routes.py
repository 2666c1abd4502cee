"""The routes of MLflow's scoring server, so that its clients work unchanged."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from importlib import metadata

from fastapi import APIRouter, Request, Response
from pydantic_core import to_json

from spinney.core.features.request_rows import request_rules
from spinney.gateway.answers.fleet_answers import RecordAnswers
from spinney.gateway.errors import RequestError
from spinney.gateway.protocols.mlflow_bodies import read_csv_body, read_json_body
from spinney.gateway.protocols.openapi import INVOCATIONS, PROBLEMS
from spinney.gateway.protocols.predict_routes import AsOf
from spinney.gateway.protocols.protocol_errors import INVOCATIONS_PATH
from spinney.gateway.shared_state import Service, require_valid

TYPES = {"application/json": "JSON", "text/csv": "CSV"}


def mlflow_router(service: Service) -> APIRouter:
    """Return the routes /invocations, /ping, /health and /version."""
    router = APIRouter(tags=["mlflow"])
    rules, max_rows = request_rules(service.config.record_schema, by_column=True), service.config.gateway.max_rows

    @router.post(INVOCATIONS_PATH, responses=PROBLEMS, openapi_extra=INVOCATIONS)
    async def invocations(request: Request, *, as_of: AsOf = None) -> Response:
        """Predict rows as MLflow's scoring server does for the registered fleet. One bad row refuses the request."""
        service.guard.score(request)
        kind = _content_type(request.headers.get("content-type", ""))
        read = read_json_body if kind == "application/json" else partial(read_csv_body, rules=rules)
        content = await service.run(
            request,
            lambda raw, answer: _predictions(answer(replace(read(raw, max_rows), as_of=as_of))),
            may_be_small=kind == "application/json",  # a CSV body has many more rows in as many bytes, read one by one
        )
        return Response(content, media_type="application/json")

    @router.get("/ping", responses={503: PROBLEMS[503]})
    @router.get("/health", responses={503: PROBLEMS[503]})
    async def health() -> Response:
        """Tell whether the gateway answers."""
        return Response("\n", 200 if service.is_ready else 503, media_type="application/json")

    @router.get("/version")
    async def version() -> Response:
        """Tell the version of MLflow whose protocol the gateway implements."""
        return Response(metadata.version("mlflow"), media_type="application/json")

    return router


def _content_type(declared: str) -> str:
    """Return the content type without its parameters. Raises RequestError for a type that the route does not read."""
    kind, *parameters = [part.strip().lower() for part in declared.split(";")]
    if kind not in TYPES or any(part not in {"charset=utf-8", 'charset="utf-8"', ""} for part in parameters):
        message = f"content-type: expected {' or '.join(TYPES)} in UTF-8; got {declared[:80]!r}"
        raise RequestError(415, "content_type", message)
    return kind


def _predictions(answers: RecordAnswers) -> bytes:
    columns = require_valid(answers, 400).columns
    return to_json(
        {"predictions": [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]}
    )
