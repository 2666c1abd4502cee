"""The gateway's own routes: predictions, and what is known about one group."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic_core import to_json

from spinney.core.errors import ContractError, UnknownGroup
from spinney.core.json_conversion import json_value
from spinney.gateway.answers.fleet_answers import Records, group_of
from spinney.gateway.errors import RequestError
from spinney.gateway.protocols.json_body import read_json
from spinney.gateway.protocols.openapi import PROBLEMS, predict_body
from spinney.gateway.shared_state import Answer, Service, require_valid

JSON = "application/json"
AsOf = Annotated[str | None, Query(max_length=100, description="A time (ISO 8601) or a round: the fleet as it was.")]


def predict_router(service: Service) -> APIRouter:
    """Return the routes /predict and /groups."""
    router = APIRouter(tags=["fleet"])

    @router.post("/predict", responses=PROBLEMS, openapi_extra=predict_body(service.config.fleet))
    async def predict(
        request: Request,
        *,
        as_of: AsOf = None,
        strict: Annotated[bool, Query(description="Refuse the request if one record is not valid.")] = False,
    ) -> Response:
        """Predict records of any groups, in their order. One that is not valid has an error of its own."""
        service.guard.score(request)
        content = await service.run(request, partial(_predict, as_of=as_of, strict=strict))
        return Response(content, media_type=JSON)

    @router.get("/groups/{key:path}", responses=PROBLEMS)
    async def group(request: Request, key: str) -> Response:
        """Return what is known about a group: its status, and each verdict, attempt and decision with its reason.

        key: the group's key as a JSON array, or the value of its one key column.
        """
        service.guard.read(request)
        return Response(await service.queue.run(_group, service, key), media_type=JSON)

    return router


def _predict(raw: bytes, answer: Answer, *, as_of: str | None, strict: bool) -> bytes:
    body = read_json(raw)
    if not isinstance(body.value, Mapping) or not isinstance(body.value.get("records"), list):
        raise RequestError(422, "no_records", 'body: expected {"records": [{…}, …]}; got no list of records')
    records = Records(
        body.value["records"],
        lambda: body.exact["records"],
        as_of=as_of,
        check_names=lambda strings: body.require_unique_names(strings + body.strings_beside("records")),
    )
    found = answer(records)
    if strict:
        require_valid(found, 422)
    return to_json({"predictions": found.entries()})


def _group(service: Service, key: str) -> bytes:
    try:
        history = service.fleet.why(group_of(key, service.config.fleet.group))
    except ContractError as error:
        raise RequestError(422, "key", str(error)) from error
    except UnknownGroup as error:
        raise RequestError(404, "unknown_group", str(error)) from error
    found: dict[str, Any] = json_value(history)
    return to_json(found)
