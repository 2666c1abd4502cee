"""Routes that take an order of a person: the caller is authorized before the body is read, which is bounded."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.types import Message

from spinney.gateway.limits.request_body import read_order
from spinney.gateway.limits.work_queue import WorkQueue


def order_route(authorize: Callable[[Request], str], queue: WorkQueue) -> type[APIRoute]:
    """Return the class of these routes.

    FastAPI reads a whole body into memory, however large and slow, before it calls the dependencies of a route that
    would refuse its sender. authorize: raises an error for a caller who may not order anything. queue: has the time
    limit. The routes raise the errors of `authorize`, `read_order` and `WorkQueue.read_in_time`.
    """

    class OrderRoute(APIRoute):
        """A route whose function is called with a body that was read already."""

        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            """Return the function that answers a request."""
            answer = super().get_route_handler()

            async def answer_order(request: Request) -> Response:
                authorize(request)
                body = await queue.read_in_time(partial(read_order, request))

                async def receive() -> Message:
                    return {"type": "http.request", "body": body, "more_body": False}

                return await answer(Request(request.scope, receive))

            return answer_order

    return OrderRoute
