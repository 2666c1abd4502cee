"""Errors of `/invocations` in the form of MLflow's scoring server, beside that of the other routes."""

from __future__ import annotations

from collections.abc import Mapping

from fastapi.responses import Response

from spinney.gateway.response_middleware import problem

_CODES = {
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    408: "TEMPORARILY_UNAVAILABLE",
    429: "REQUEST_LIMIT_EXCEEDED",
    503: "TEMPORARILY_UNAVAILABLE",
}
"""Status -> MLflow's error code; others are BAD_REQUEST."""


def mlflow_problem(status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> Response:
    """Return an error as `problem` does, with `error_code` and `message` of MLflow beside it."""
    return problem(
        status, code, message, headers, {"error_code": _CODES.get(status, "BAD_REQUEST"), "message": message}
    )
