"""Requests and answers of the Open Inference Protocol (V2) as records and columns.

https://github.com/kserve/open-inference-protocol, REST. A model of the protocol is a whole fleet, by its name, or one
group, by its key: then the group's columns are not among the inputs. Tensors have one value per row.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any

from spinney.core import keys
from spinney.core.config import Fleet
from spinney.core.records.json_parsing import NumberText
from spinney.core.records.value_conversion import BOOLEAN_TEXTS, INTEGER, INTEGER_BITS
from spinney.gateway.answers.fleet_answers import RecordAnswers, Records
from spinney.gateway.errors import RequestError, take_records
from spinney.gateway.protocols.json_body import JsonBody

DATATYPES = {
    "tinyint": "INT8", "smallint": "INT16", "int": "INT32", "bigint": "INT64", "float": "FP32", "double": "FP64",
    "boolean": "BOOL",
}  # fmt: skip
"""Spark SQL type -> datatype; others are BYTES, as text."""


def describe_model(name: str, group_key: str | None, fleet: Fleet) -> dict[str, Any]:
    """Return the metadata of a model. group_key: None for the whole fleet."""
    names = dict.fromkeys([*(() if group_key else fleet.group), *fleet.features])
    inputs = [_tensor(column, fleet.columns.get(column, "timestamp")) for column in names]
    answer = "double" if fleet.task == "regression" else "string"
    interval = [_tensor(bound, answer) for bound in ("lower", "upper") if fleet.task == "regression"]
    named = [_tensor("model_id", "string"), _tensor("answered_by", "string")]
    outputs = [_tensor("prediction", answer), *interval, *named]
    return {"name": name, "versions": [], "platform": "spinney", "inputs": inputs, "outputs": outputs}


def read_tensors(body: JsonBody, group_key: str | None, fleet: Fleet, max_rows: int) -> Records:
    """Return the rows of a request. max_rows: `gateway.max_rows`.

    Raises RequestError for tensors that do not hold one value per row each, and for more rows.
    """
    convert = partial(_rows, max_rows=max_rows)
    group = {} if group_key is None else dict(zip(fleet.group, keys.decode(group_key), strict=True))
    plain, exact = ({name: _of_text(text, name, fleet, number) for name, text in group.items()} for number in _NUMBERS)
    return Records(convert(body.value, plain), lambda: convert(body.exact, exact), by_column=True)


def read_outputs(value: Mapping[str, Any], fleet: Fleet) -> Collection[str]:
    """Return the names of the outputs that a request asks for, by default all. Raises RequestError for any other."""
    known = [output["name"] for output in describe_model("", None, fleet)["outputs"]]
    wanted = value.get("outputs") or [{"name": name} for name in known]
    if not isinstance(wanted, list) or not all(
        isinstance(each, Mapping) and each.get("name") in known for each in wanted
    ):
        raise _wrong("outputs", f"a list of objects with one of these names: {', '.join(known)}")
    return {each["name"] for each in wanted}


def write_tensors(
    name: str, request_id: Any, answers: RecordAnswers, fleet: Fleet, wanted: Collection[str]
) -> dict[str, Any]:
    """Return the answer. A row that no model answers has null as its prediction. wanted: from `read_outputs`."""
    is_number = fleet.task == "regression"
    outputs = [
        {**_tensor(column, "double" if column not in _TEXTS and is_number else "string"), "shape": [len(values)]}
        | {"data": values}
        for column, values in answers.columns.items()
        if column in wanted
    ]
    answer = {"model_name": name, "outputs": outputs}
    return answer if request_id is None else answer | {"id": request_id}


_TEXTS = frozenset({"model_id", "answered_by"})


def _tensor(name: str, kind: str) -> dict[str, Any]:
    return {"name": name, "datatype": DATATYPES.get(kind, "BYTES"), "shape": [-1]}


_NUMBERS: tuple[Callable[[str], Any], Callable[[str], Any]] = (int, NumberText)
"""The two readers of a whole number: pydantic's parser gives an int, the exact parser a NumberText."""


def _of_text(text: str | None, column: str, fleet: Fleet, number: Callable[[str], Any]) -> Any:
    """A key column's text as a value of a record, which without `coerce` must have its declared type."""
    kind = fleet.columns[column]
    if text is None or (kind not in INTEGER_BITS and kind != "boolean"):
        return text
    if kind == "boolean":
        return BOOLEAN_TEXTS.get(text, text)
    return number(text) if INTEGER.fullmatch(text) else text


def _rows(value: Any, group: Mapping[str, Any], max_rows: int) -> Sequence[Any]:
    inputs = value.get("inputs") if isinstance(value, Mapping) else None
    if not isinstance(inputs, list) or not inputs:
        raise _wrong("inputs", "a list of tensors")
    columns = dict(_column(tensor, max_rows) for tensor in inputs)
    if len(columns) < len(inputs):
        raise _wrong("inputs", "each name once")
    if len({len(cells) for cells in columns.values()}) != 1:
        raise _wrong("inputs", "tensors of one length")
    names = list(columns)
    return [{**dict(zip(names, cells, strict=True)), **group} for cells in zip(*columns.values(), strict=True)]


def _column(tensor: Any, max_rows: int) -> tuple[str, list[Any]]:
    if not isinstance(tensor, Mapping) or not isinstance(tensor.get("name"), str):
        raise _wrong("inputs", 'tensors with "name", "shape", "datatype" and "data"')
    name, shape, data = tensor["name"], tensor.get("shape"), tensor.get("data")
    if not isinstance(shape, list) or not isinstance(data, list):
        raise _wrong(f"tensor {name[:80]}", '"shape" and "data" as lists')
    cells = _cells(take_records(data, max_rows))
    # Compared as texts: a caller may send dimensions with so many digits that `int` refuses them, or takes long.
    rows = str(len(data))
    if cells is None or list(map(_dimension, shape[:3])) not in ([rows], [rows, "1"]):
        raise _wrong(f"tensor {name[:80]}", "one value per row, of shape [rows] or [rows, 1], not ragged")
    return name, cells


def _dimension(value: Any) -> str | None:
    """Return the text of a whole number, as the fast or the exact parser reads it; None for other values."""
    if isinstance(value, NumberText):
        return value
    return f"{value:d}" if type(value) is int and abs(value) < 1 << 63 else None


def _cells(data: list[Any]) -> list[Any] | None:
    """Return one value per row, from values or from lists of one value each; None for data that are nested otherwise.

    Ragged data are not flattened: a value would become that of another row.
    """
    if not any(isinstance(value, list) for value in data):
        return data
    if all(isinstance(row, list) and len(row) == 1 and not isinstance(row[0], list) for row in data):
        return [row[0] for row in data]
    return None


def _wrong(where: str, expected: str) -> RequestError:
    return RequestError(400, "inputs", f"{where}: expected {expected}; got something else")
