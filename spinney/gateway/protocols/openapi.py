"""Schemas of request bodies and answers in the OpenAPI document."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from spinney.core.config import Fleet

_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["code", "message"],
            "properties": {"code": {"type": "string"}, "message": {"type": "string"}},
        }
    },
}


def _problem(description: str) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": _ERROR}}}


PROBLEMS: dict[int | str, dict[str, Any]] = {
    400: _problem("The body is not JSON, or a name is twice in one object."),
    401: _problem("No API key, or one that is not known."),
    403: _problem("The key does not have the scope."),
    404: _problem("There is no such thing."),
    408: _problem("The body did not come in time."),
    413: _problem("The body is too large."),
    415: _problem("The body is compressed, or the content type is none that is read."),
    422: _problem("What the request asks for cannot be answered; the message says why."),
    429: _problem("Too many requests at once; try again after Retry-After."),
    500: _problem("A fault of the server."),
    503: _problem("Not answered in time, or the tables cannot be read; try again after Retry-After."),
}

_INFERENCE_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {"error": {"type": "string"}, "code": {"type": "string"}},
}

INFERENCE_PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {**problem, "content": {"application/json": {"schema": _INFERENCE_ERROR}}}
    for status, problem in PROBLEMS.items()
}
"""The same errors in the form of the Open Inference Protocol."""

_PROBABILITIES = {"probabilities": {"type": ["object", "null"], "additionalProperties": {"type": "number"}}}
_NULLABLE_TEXT = {"type": ["string", "null"]}


def _json_type(kind: str) -> dict[str, Any]:
    """The JSON type of a column; other forms are accepted where `[fleet] coerce` is on."""
    plain = kind.partition("(")[0]
    if plain in {"float", "double", "decimal"}:
        return {"type": ["number", "null"]}
    if plain in {"tinyint", "smallint", "int", "bigint"}:
        return {"type": ["integer", "null"]}
    if plain == "boolean":
        return {"type": ["boolean", "null"]}
    if plain == "timestamp" and "(" in kind:
        return {"type": ["number", "null"]}
    if plain in {"timestamp", "date"}:
        return {"type": ["string", "null"], "format": "date-time" if plain == "timestamp" else "date"}
    return dict(_NULLABLE_TEXT)


def record_schema(fleet: Fleet) -> dict[str, Any]:
    """Return the JSON schema of a record to be predicted: the group's columns and the features."""
    names = dict.fromkeys([*fleet.group, *fleet.features])
    fields = {fleet.fields.get(name, name): _json_type(fleet.columns.get(name, "timestamp")) for name in names}
    needed = [fleet.fields.get(name, name) for name in fleet.group]
    return {"type": "object", "required": needed, "properties": fields}


def predict_body(fleet: Fleet) -> dict[str, Any]:
    """Return the document's description of `POST /predict`."""
    regression = fleet.task == "regression"
    prediction = {
        "prediction": {"type": ["number" if regression else "string", "null"]},
        **({bound: {"type": ["number", "null"]} for bound in ("lower", "upper")} if regression else _PROBABILITIES),
        "model_id": _NULLABLE_TEXT,
        "answered_by": {"enum": ["own", "parent", "global", "none"]},
        "status": {"enum": ["answered", "no_model", "invalid"]},
        "error": {"type": "object", "properties": {"reason": {"type": "string"}, "detail": {"type": "string"}}},
    }
    answer = {"type": "object", "required": ["prediction", "model_id", "answered_by", "status"]}
    answers = {"type": "array", "items": answer | {"properties": prediction}}
    body = {"type": "object", "required": ["records"]}
    return {
        "requestBody": _content(body | {"properties": {"records": {"type": "array", "items": record_schema(fleet)}}}),
        "responses": {
            "200": {"description": "One prediction per record, in their order."}
            | _content({"type": "object", "required": ["predictions"], "properties": {"predictions": answers}})
        },
    }


def _content(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"content": {"application/json": {"schema": schema}}}


_ROWS = {"type": "array", "items": {"type": "object"}}
INVOCATIONS: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "properties": {
                        "dataframe_split": {
                            "type": "object",
                            "required": ["columns", "data"],
                            "properties": {
                                "columns": {"type": "array", "items": {"type": "string"}},
                                "data": {"type": "array", "items": {"type": "array", "items": {}}},
                            },
                        },
                        "dataframe_records": _ROWS,
                        "instances": _ROWS,
                        "inputs": {"type": "object", "additionalProperties": {"type": "array", "items": {}}},
                    },
                }
            },
            "text/csv": {"schema": {"type": "string"}},
        },
    },
    "responses": {
        "200": {"description": "As of MLflow's scoring server."}
        | _content({"type": "object", "required": ["predictions"], "properties": {"predictions": _ROWS}})
    },
}
"""The document's description of `POST /invocations`."""

_TENSORS = {
    "type": "array",
    "items": {
        "type": "object",
        "required": ["name", "shape", "datatype", "data"],
        "properties": {
            "name": {"type": "string"},
            "shape": {"type": "array", "items": {"type": "integer"}},
            "datatype": {"type": "string"},
            "data": {"type": "array", "items": {}},
        },
    },
}
_NAMED = {
    "type": "array",
    "items": {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}}},
}
INFER: dict[str, Any] = {
    "requestBody": {"required": True}
    | _content(
        {
            "type": "object",
            "required": ["inputs"],
            "properties": {"id": {"type": "string"}, "inputs": _TENSORS, "outputs": _NAMED},
        }
    ),
    "responses": {
        "200": {"description": "One output per column of the answers."}
        | _content(
            {
                "type": "object",
                "required": ["model_name", "outputs"],
                "properties": {"model_name": {"type": "string"}, "outputs": _TENSORS},
            }
        )
    },
}
"""The document's description of `POST /v2/models/{name}/infer`."""
