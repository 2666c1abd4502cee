"""Errors in the form of the protocol that a route speaks: that of MLflow, of Open Inference (V2), or our own."""

from __future__ import annotations

from collections.abc import Mapping

from fastapi.responses import JSONResponse, Response

INFERENCE_PATH = "/v2"
"""Path below which the routes of the Open Inference Protocol are."""

INVOCATIONS_PATH = "/invocations"
"""Path of MLflow's scoring route."""

_MLFLOW_CODES = {
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    408: "TEMPORARILY_UNAVAILABLE",
    429: "REQUEST_LIMIT_EXCEEDED",
    503: "TEMPORARILY_UNAVAILABLE",
}
"""Status -> MLflow's error code; others are BAD_REQUEST."""


def problem(
    status: int,
    code: str,
    message: str,
    headers: Mapping[str, str] | None = None,
    more: Mapping[str, str] | None = None,
) -> Response:
    """Return an error as the answer to a request. more: fields beside it, of another protocol."""
    return JSONResponse({"error": {"code": code, "message": message}, **(more or {})}, status, headers)


def problem_of(path: str, status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> Response:
    """Return an error as the answer to a request for `path`.

    Below /v2 `error` is the message, as that protocol has it, and `code` is beside it. `/invocations` has `error_code`
    and `message` of MLflow's scoring server beside our own form.
    """
    if path == INFERENCE_PATH or path.startswith(f"{INFERENCE_PATH}/"):
        return JSONResponse({"error": message, "code": code}, status, headers)
    if path == INVOCATIONS_PATH:
        own = {"error_code": _MLFLOW_CODES.get(status, "BAD_REQUEST"), "message": message}
        return problem(status, code, message, headers, own)
    return problem(status, code, message, headers)
