"""Bodies of MLflow's scoring protocol as records: dataframe_split, dataframe_records, instances, inputs, CSV.

https://mlflow.org/docs/latest/ml/deployment/deploy-model-locally/
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from pydantic_core import from_json

from spinney.core.records.input_message_encoding import encode_message
from spinney.core.records.json_parsing import read_value
from spinney.core.records.rules import RecordRules
from spinney.gateway.answers.fleet_answers import Records
from spinney.gateway.errors import RequestError, take_records
from spinney.gateway.protocols.json_body import read_json


def read_json_body(raw: bytes, max_rows: int) -> Records:
    """Return the records of a JSON body.

    NaN is null: MLflow's client writes it for a missing value.

    Raises RequestError if the body does not have exactly one of the four forms, or has more than max_rows rows.
    """
    body = read_json(raw, has_nan=True)
    body.require_unique_names()
    forms = [name for name in _FORMS if isinstance(body.value, Mapping) and name in body.value]
    if len(forms) != 1:
        got = "none" if not forms else ", ".join(forms)
        raise RequestError(400, "BAD_REQUEST", f"body: expected exactly one of {', '.join(_FORMS)}; got {got}")
    (form,) = forms
    # The exact value is read in the same way: names of columns are texts in both.
    convert = partial(_FORMS[form], form, max_rows)
    return Records(convert(body.value[form]), lambda: convert(body.exact[form]), by_column=True)


def read_csv_body(raw: bytes, max_rows: int, rules: RecordRules) -> Records:
    """Return the records of a CSV body with a header. Cells are read like those of a CSV file.

    rules: of the columns. Raises RequestError for text that is not such a CSV, and for more than max_rows rows.
    """
    try:
        text = raw.decode("utf-8-sig")  # spreadsheets begin a CSV in UTF-8 with a byte order mark
        lines = csv.reader(io.StringIO(text, newline=""), strict=True)
        header = next(lines, [])
        rows = take_records(filter(None, lines), max_rows)
    except (UnicodeDecodeError, csv.Error) as error:
        raise RequestError(400, "BAD_REQUEST", f"body: expected CSV in UTF-8; got text that is not: {error}") from error
    if not header or len(set(header)) < len(header) or any(len(row) != len(header) for row in rows):
        raise RequestError(400, "BAD_REQUEST", "body: expected CSV with distinct names in its first line, and as many "
                           "cells in each; got another number of cells, or a name twice")  # fmt: skip
    texts = [encode_message(dict(zip(header, row, strict=True)), rules, texts=frozenset(header)) for row in rows]
    return Records([from_json(text) for text in texts], lambda: [read_value(text.decode()) for text in texts], True)


def _split(form: str, max_rows: int, value: Any) -> Sequence[Any]:
    columns, data = (value.get("columns"), value.get("data")) if isinstance(value, Mapping) else (None, None)
    if not isinstance(columns, list) or not isinstance(data, list):
        raise _wrong(form, '{"columns": […], "data": [[…], …]}')
    if not all(isinstance(name, str) for name in columns) or len(set(columns)) < len(columns):
        raise _wrong(form, "distinct names as columns")
    data = take_records(data, max_rows)
    if not all(isinstance(row, list) and len(row) == len(columns) for row in data):
        raise _wrong(form, "as many values in each row of data as there are columns")
    return [dict(zip(columns, row, strict=True)) for row in data]


def _list(form: str, max_rows: int, value: Any) -> Sequence[Any]:
    if not isinstance(value, list) or not all(isinstance(row, Mapping) for row in value):
        raise _wrong(form, "a list of objects, one a row, with the names of columns")
    return take_records(value, max_rows)


def _columns(form: str, max_rows: int, value: Any) -> Sequence[Any]:
    if isinstance(value, list):
        return _list(form, max_rows, value)
    lists = list(value.values()) if isinstance(value, Mapping) else [None]
    if len({len(cells) if isinstance(cells, list) else -1 for cells in lists} - {-1}) != 1 or not all(
        isinstance(cells, list) for cells in lists
    ):
        raise _wrong(form, "an object with a list of values for each column, all of one length")
    rows = take_records(zip(*value.values(), strict=True), max_rows)
    return [dict(zip(value, cells, strict=True)) for cells in rows]


def _wrong(form: str, expected: str) -> RequestError:
    return RequestError(400, "BAD_REQUEST", f"body: {form}: expected {expected}; got something else")


_FORMS: Mapping[str, Callable[[str, int, Any], Sequence[Any]]] = {
    "dataframe_split": _split,
    "dataframe_records": _list,
    "instances": _list,
    "inputs": _columns,
}
