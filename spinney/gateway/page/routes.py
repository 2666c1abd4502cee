"""The page's routes below /page: its files, its figures, search, one group, dead letters, overrides, retrain requests.

Annotations here are evaluated at import, as FastAPI needs for dependencies that are arguments of the enclosing
function.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import JSONResponse, RedirectResponse, Response

from schemas.vocabulary import DeadLetterReason
from spinney.core.errors import Busy, ContractError, GroupError, SetupError, StoreError, UnknownGroup
from spinney.core.json_conversion import json_value
from spinney.core.reporting.group_status import State
from spinney.gateway.limits.work_queue import WorkQueue
from spinney.gateway.page.order_route import order_route
from spinney.gateway.page.overrides import OverrideOrder, RetrainOrder, carry_out_order, carry_out_retrain_order
from spinney.gateway.page.page_data_refresh import Document, PageDataRefresh, make_document
from spinney.gateway.page.static_files import INDEX, PageFile, read_page_files
from spinney.gateway.protocols.protocol_errors import problem
from spinney.operations.dead_letters.letters import DeadLetters, LetterFilter, newest_letters
from spinney.storage.layout import FleetStore
from spinney.tables import lookup

LOG = logging.getLogger(__name__)

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
"""Nothing from other hosts and no inline scripts, so that text from data cannot become a script."""

RETRY_LATER = {"Retry-After": "60"}
"""After what a person or the stream has to change first."""

LETTERS_SHOWN = 5
BYTES_SHOWN = 4_096

Authorize = Callable[[Request], str]
"""Returns the caller's name. Raises RequestError: no key, or one without the scope."""


@dataclass(frozen=True)
class Access:
    """Checks that guard the routes. read: for figures. operate: for overrides, recorded under the caller's name."""

    read: Authorize
    operate: Authorize


def page_router(live: PageDataRefresh, access: Access, queue: WorkQueue) -> APIRouter:
    """Return the routes of the page. The files need no key, the figures do.

    live: started by the caller. queue: runs the requests that read tables.
    """
    router = APIRouter(include_in_schema=False)
    _add_files(router, read_page_files())
    _add_figures(router, live, access)
    _add_details(router, live, access, queue)
    route_class = order_route(access.operate, queue)
    for path, function in (("overrides", _override(live, access)), ("retrain-requests", _retrain(live, access))):
        router.add_api_route(f"/page/{path}", function, methods=["POST"], route_class_override=route_class)
    return router


def _add_files(router: APIRouter, page_files: Mapping[str, PageFile]) -> None:
    @router.get("/")
    @router.get("/page")  # FastAPI's own redirection names a scheme and a host, which a proxy may have changed
    def root() -> Response:
        return RedirectResponse("page/")

    @router.get("/page/")
    @router.get("/page/static/{name}")
    def page_file(request: Request, name: str = INDEX) -> Response:
        file = page_files.get(name)
        if file is None:
            return problem(404, "unknown_file", "page: expected one of its files; got another name")
        headers = {"Content-Security-Policy": CONTENT_SECURITY_POLICY} if name == INDEX else {}
        return _unless_known(request, file.body, file.etag, file.media_type, headers)


def _add_figures(router: APIRouter, live: PageDataRefresh, access: Access) -> None:
    reader = Depends(access.read)

    @router.get("/page/fleet.json", dependencies=[reader])
    def fleet(request: Request) -> Response:
        reading = live.latest()
        return _reading() if reading is None else _document(request, live, reading.fleet)

    @router.get("/page/pipeline.json", dependencies=[reader])
    def pipeline(request: Request) -> Response:
        reading = live.latest()
        return _reading() if reading is None else _document(request, live, reading.pipeline)

    @router.get("/page/groups.json", dependencies=[reader])
    def groups(
        request: Request,
        q: Annotated[str, Query(max_length=200)] = "",
        state: State | None = None,
        offset: Annotated[int, Query(ge=0)] = 0,
        limit: Annotated[int, Query(ge=1, le=200)] = 50,
    ) -> Response:
        reading = live.latest()
        if reading is None:
            return _reading()
        page = reading.search.find(q, state=state, offset=offset, limit=limit)
        return _document(request, live, make_document({"found": page.found, "groups": lookup.to_dicts(page.rows)}))


def _add_details(router: APIRouter, live: PageDataRefresh, access: Access, queue: WorkQueue) -> None:
    reader = Depends(access.read)

    @router.get("/page/group.json", dependencies=[reader])
    async def group(request: Request, key: Annotated[str, Query(min_length=1, max_length=2_000)]) -> Response:
        try:
            return _document(request, live, await queue.run(live.group, key))
        except (UnknownGroup, ContractError) as error:
            LOG.info("group %r: %s", key, error)
            return problem(404, "unknown_group", "no such group; search finds groups by parts of their keys")

    @router.get("/page/dead-letters.json", dependencies=[reader])
    async def dead_letters(
        request: Request, reason: DeadLetterReason, field: Annotated[str | None, Query(max_length=200)] = None
    ) -> Response:
        choice = LetterFilter((reason.value,), () if field is None else (field,))
        return _document(request, live, await queue.run(_newest_letters, FleetStore.of(live.fleet.config), choice))


def _override(live: PageDataRefresh, access: Access) -> Callable[..., Response]:
    def override(order: OverrideOrder, person: Annotated[str, Depends(access.operate)]) -> Response:
        if order.seen is not None and not order.reason:
            return problem(422, "no_reason", "reason: expected one; got none")
        try:
            proposed = carry_out_order(FleetStore.of(live.fleet.config), order, person)
        except Busy:
            return problem(503, "busy", "another person's change is being written; try again", {"Retry-After": "2"})
        except GroupError as error:
            return problem(409, "not_possible", str(error))
        except SetupError as error:
            LOG.warning("override by %s: %s", person, error)
            return problem(503, "no_signing_key", "the server has no signing key", RETRY_LATER)
        except StoreError as error:
            LOG.warning("override by %s: %s", person, error)
            message = "nothing was written: the group is unknown, or a champion was changed meanwhile"
            return problem(409, "changed", message)
        if order.seen is not None:
            live.refresh_soon()
        written = order.seen is not None and bool(proposed.steps)
        return JSONResponse(json_value({"written": written, **vars(proposed)}))

    return override


def _retrain(live: PageDataRefresh, access: Access) -> Callable[..., Response]:
    def retrain(order: RetrainOrder, person: Annotated[str, Depends(access.operate)]) -> Response:
        try:
            outcome = carry_out_retrain_order(FleetStore.of(live.fleet.config), order, person)
        except Busy:
            return problem(503, "too_many", "too many requests wait for the stream; try again later", RETRY_LATER)
        except GroupError as error:
            return problem(409, "not_possible", str(error))
        except UnknownGroup as error:
            LOG.info("retrain request by %s: %s", person, error)
            return problem(404, "unknown_group", "no such group; search finds groups by parts of their keys")
        except StoreError as error:
            LOG.warning("retrain request by %s: %s", person, error)
            message = "the request could not be written; the server's log has the cause"
            return problem(503, "not_written", message, RETRY_LATER)
        if outcome.request is not None:
            LOG.info("retrain request %s for %s by %s", outcome.request.id, outcome.group_key, person)
            live.refresh_soon()
        return JSONResponse(json_value(outcome))

    return retrain


def _newest_letters(store: FleetStore, choice: LetterFilter) -> Document:
    found = newest_letters(DeadLetters.opened(store, choice), LETTERS_SHOWN)
    return make_document({"letters": [_readable(row) for row in found]})


def _readable(row: Mapping[str, Any]) -> dict[str, Any]:
    """A dead letter with the beginning of its bytes as text."""
    return {
        name: value[:BYTES_SHOWN].decode("utf-8", "backslashreplace") if isinstance(value, bytes) else value
        for name, value in row.items()
    }


def _document(request: Request, live: PageDataRefresh, document: Document) -> Response:
    headers = {"X-Fleet": live.fleet.config.fleet.name}
    return _unless_known(request, document.body, document.etag, "application/json", headers)


def _unless_known(request: Request, body: bytes, etag: str, media_type: str, headers: Mapping[str, str]) -> Response:
    """Return the body, or status 304 if the client already has it."""
    headers = {"ETag": etag, "Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff", **headers}
    known = {part.strip().removeprefix("W/") for part in request.headers.get("If-None-Match", "").split(",")}
    if etag in known or "*" in known:  # a proxy that compresses answers makes their tags weak
        return Response(status_code=304, headers=headers)
    return Response(body, media_type=media_type, headers=headers)


def _reading() -> Response:
    return problem(503, "reading", "the tables are being read for the first time", {"Retry-After": "1"})
