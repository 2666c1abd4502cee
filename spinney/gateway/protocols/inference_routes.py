"""The routes of the Open Inference Protocol (V2)."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from importlib import metadata
from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic_core import to_json

from spinney.core.errors import ContractError
from spinney.gateway.answers.fleet_answers import group_of
from spinney.gateway.errors import RequestError
from spinney.gateway.protocols.inference_tensors import describe_model, read_outputs, read_tensors, write_tensors
from spinney.gateway.protocols.json_body import read_json
from spinney.gateway.protocols.openapi import INFER, INFERENCE_PROBLEMS
from spinney.gateway.protocols.predict_routes import AsOf
from spinney.gateway.protocols.protocol_errors import INFERENCE_PATH
from spinney.gateway.shared_state import Answer, Service, require_valid

MAX_ID_CHARACTERS = 200


def inference_router(service: Service) -> APIRouter:
    """Return the routes below /v2. A model is the fleet, by its name, or a group, by its key."""
    router = APIRouter(prefix=INFERENCE_PATH, tags=["open inference protocol"])

    @router.get("/health/live")
    async def live() -> dict[str, bool]:
        """Tell whether the server runs."""
        return {"live": True}

    @router.get("/health/ready", responses={503: INFERENCE_PROBLEMS[503]})
    async def ready() -> Response:
        """Tell whether the server answers."""
        return _json({"ready": service.is_ready}, 200 if service.is_ready else 503)

    @router.get("")
    async def server() -> dict[str, Any]:
        """Describe the server."""
        return {"name": "spinney", "version": metadata.version("spinney"), "extensions": []}

    @router.post("/models/{name:path}/infer", responses=INFERENCE_PROBLEMS, openapi_extra=INFER)
    async def infer(request: Request, name: str, *, as_of: AsOf = None) -> Response:
        """Predict the rows of the input tensors. One bad row refuses the request."""
        service.guard.score(request)
        content = await service.run(request, partial(_infer, service, name, _key_of(service, name), as_of=as_of))
        return Response(content, media_type="application/json")

    @router.get("/models/{name:path}/ready", responses=INFERENCE_PROBLEMS)
    async def model_ready(request: Request, name: str) -> Response:
        """Tell whether a model answers: for a group, its own or a parent's."""
        service.guard.read(request)
        key = _key_of(service, name)
        has_model = key is None or service.has_answer(key)
        return _json({"name": name, "ready": has_model}, 200 if has_model else 404)

    @router.get("/models/{name:path}", responses=INFERENCE_PROBLEMS)
    async def model(request: Request, name: str) -> Response:
        """Describe the inputs and outputs of a model."""
        service.guard.read(request)
        return _json(describe_model(name, _key_of(service, name), service.config.fleet))

    return router


def _infer(
    service: Service, name: str, key: str | None, raw: bytes, answer: Answer, *, as_of: str | None = None
) -> bytes:
    body = read_json(raw)
    body.require_unique_names()
    records = read_tensors(body, key, service.config.fleet, service.config.gateway.max_rows)
    request_id = body.value.get("id")
    if request_id is not None and not (isinstance(request_id, str) and len(request_id) <= MAX_ID_CHARACTERS):
        raise RequestError(400, "id", f"id: expected a text of at most {MAX_ID_CHARACTERS} characters; got another")
    wanted = read_outputs(body.value, service.config.fleet)
    found = require_valid(answer(replace(records, as_of=as_of)), 400)
    return to_json(write_tensors(name, request_id, found, service.config.fleet, wanted))


def _key_of(service: Service, name: str) -> str | None:
    """Return the group that a model's name means; None for the fleet. Raises RequestError if it is neither."""
    if name == service.config.fleet.name:
        return None
    try:
        return group_of(name, service.config.fleet.group)
    except ContractError as error:
        message = f"model: expected {service.config.fleet.name}, or the key of a group as a JSON array; got another"
        raise RequestError(404, "unknown_model", message) from error


def _json(value: Any, status: int = 200) -> Response:
    return Response(to_json(value), status, media_type="application/json")
