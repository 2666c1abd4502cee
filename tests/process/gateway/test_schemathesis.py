"""Schemathesis makes requests from the OpenAPI document, valid ones and others: none may be a fault of the server."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from example_counts import examples
from fastapi import FastAPI
from hypothesis import HealthCheck, given
from linear_fleet import FEATURES, key_of, write_fleet
from schemathesis.generation.modes import GenerationMode
from schemathesis.python import asgi

from spinney.gateway.app import answer_errors, create_app
from spinney.gateway.page.page_data_refresh import PageDataRefresh
from spinney.gateway.page.routes import Access, page_router
from spinney.gateway.shared_state import Guard, Service

GROUPS, EXAMPLES = 20, 10
PATH_PARTS = ("lines", '["s3","d3"]', '{"dept":"d3"}', "[", '["\\ud800","d1"]')
"""Names of models and keys, which random texts would hardly ever be."""

KNOWN = key_of(3)
TENSORS = [
    {"name": name, "shape": [1], "datatype": kind, "data": [value]}
    for name, kind, value in (
        ("shop", "BYTES", "s3"), ("dept", "BYTES", "d3"), *((name, "FP64", 0.5) for name in FEATURES),
    )
]  # fmt: skip
"""A group and a row of the fleet, which random requests would hardly ever contain."""

HEALTH = tuple(HealthCheck)


@pytest.fixture(autouse=True)
def _ended_applications() -> Iterator[None]:
    """Schemathesis keeps the threads of an application until its process ends."""
    yield
    asgi.shutdown_lifespans()


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Service:
    config = write_fleet(tmp_path_factory.mktemp("lines"), GROUPS, more="[gateway]\nmax_rows = 100").config
    return Service(config, Guard(*[lambda _: "ada"] * 3))


def page_application(service: Service) -> FastAPI:
    """The page's routes, which the gateway's document leaves out, in a document of their own."""
    live = PageDataRefresh(service.fleet)
    live.read_changes()
    router = page_router(live, Access(service.guard.read, service.guard.operate), service.queue)
    for route in router.routes:
        route.include_in_schema = True
    application = FastAPI()
    application.include_router(router)
    answer_errors(application)
    return application


def operations(application: FastAPI) -> Iterator[Any]:
    for found in schemathesis.openapi.from_asgi("/openapi.json", application).get_all_operations():
        yield found.ok()


def name_something_known(case: Any) -> None:
    """Put an existing group and valid rows into a request; the rest stays random."""
    if "key" in (case.query or {}):
        case.query["key"] = KNOWN
    if isinstance(case.body, dict):
        known = {"group_key": KNOWN, "inputs": TENSORS, "outputs": []}
        case.body |= {name: value for name, value in known.items() if name in case.body}


def send(
    operation: Any, mode: GenerationMode, path_part: str | None, statuses: Counter[int], *, is_known: bool = False
) -> None:
    """Send requests. path_part: what stands in the path in place of a random text. is_known: see above."""

    @given(case=operation.as_strategy(generation_mode=mode))
    @examples(2 if path_part else EXAMPLES, suppress_health_check=HEALTH)
    def request(case: Any) -> None:
        if path_part is not None:
            case.path_parameters = dict.fromkeys(case.path_parameters, path_part)
        if is_known:
            name_something_known(case)
        answer = case.call()
        statuses[answer.status_code] += 1
        assert answer.status_code != 500, f"{case.as_curl_command()}: {answer.text}"

    request()


@pytest.mark.hypothesis  # the properties are within, so that `make search` would not see any
def test_no_request_that_the_documents_allow_or_forbid_is_a_fault(service: Service) -> None:
    by_path: dict[str, Counter[int]] = {}
    for application in (create_app(service), page_application(service)):
        for operation in operations(application):
            statuses = by_path.setdefault(operation.path, Counter())
            for path_part in (None, *PATH_PARTS) if "{" in operation.path else (None,):
                for mode in GenerationMode.POSITIVE, GenerationMode.NEGATIVE:
                    if mode is GenerationMode.POSITIVE or operation.method == "post":
                        send(operation, mode, path_part, statuses)
            path_part = PATH_PARTS[0] if "{name}" in operation.path else KNOWN if "{" in operation.path else None
            send(operation, GenerationMode.POSITIVE, path_part, statuses, is_known=True)
    assert {"/predict", "/invocations", "/v2/models/{name}/infer", "/page/overrides"} <= set(by_path)
    # Requests were not all refused for one reason, so that something was tried behind each check.
    assert {200, 422} <= set(by_path["/predict"])
    assert {200, 404} <= set(by_path["/v2/models/{name}"])
    for path in ("/invocations", "/v2/models/{name}/infer", "/page/group.json", "/page/retrain-requests"):
        assert 200 in by_path[path], path
