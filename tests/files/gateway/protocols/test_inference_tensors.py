from __future__ import annotations

import json
from typing import Any

import pytest

from spinney.core.config import parse
from spinney.core.features.request_rows import read_request_rows, request_rules
from spinney.gateway.errors import RequestError
from spinney.gateway.protocols.inference_tensors import read_tensors
from spinney.gateway.protocols.json_body import JsonBody, read_json

TEXT = """\
[fleet]
group = ["shop", "dept", "open"]
event_id = "sale"
event_time = "at"
target = "sold"
features = ["price"]
coerce = false
[fleet.columns]
shop = "string"
dept = "bigint"
open = "boolean"
price = "double"
sold = "double"
[kafka]
events = "sales"
[storage]
root = "/nowhere"
"""
FLEET, MAX_ROWS = parse(TEXT, "fleet.toml", {}).fleet, 20_000


@pytest.mark.parametrize("rows", [1, 20])
def test_the_columns_of_a_groups_key_have_their_types_where_no_other_form_is_accepted(rows: int) -> None:
    config = parse(TEXT, "fleet.toml", {})
    key = '["7","9007199254740993","true"]'
    prices = {"name": "price", "shape": [rows], "datatype": "FP64", "data": [0.1] * rows}
    records = read_tensors(read_json(json.dumps({"inputs": [prices]}).encode()), key, FLEET, MAX_ROWS)
    found = read_request_rows(
        records.values, records.exact, request_rules(config.record_schema, by_column=True), config.fleet
    )
    assert (found.errors, found.group_keys) == ({}, [key] * rows)


@pytest.mark.parametrize(
    "shape",
    [
        [9999999999] * 50_000, ["1" * 5_000], ["1"], [1, 1, 1], [1, 10**4000], [-1], [1.0], [True], [None], [],
    ],
)  # fmt: skip
def test_a_shape_that_is_not_that_of_one_value_per_row_is_refused_however_long_it_is(shape: list[Any]) -> None:
    tensor = {"name": "price", "shape": shape, "datatype": "FP64", "data": [0.1]}
    body = read_json(json.dumps({"inputs": [tensor]}).encode())
    for value in (body.value, body.exact):
        with pytest.raises(RequestError, match=r"one value per row, of shape \[rows\] or \[rows, 1\]"):
            read_tensors(JsonBody(b"", value), '["7","1","true"]', FLEET, MAX_ROWS)


@pytest.mark.parametrize("shape", [[2], [2, 1]])
def test_a_shape_may_have_a_second_dimension_of_one(shape: list[int]) -> None:
    tensor = {"name": "price", "shape": shape, "datatype": "FP64", "data": [[0.1], [0.2]]}
    records = read_tensors(read_json(json.dumps({"inputs": [tensor]}).encode()), None, FLEET, MAX_ROWS)
    assert records.values == [{"price": 0.1}, {"price": 0.2}]
    assert records.exact() == [{"price": "0.1"}, {"price": "0.2"}]


@pytest.mark.parametrize(
    ("shape", "data"),
    [
        ([3], [[0.1, 0.2], [0.3]]), ([3, 1], [[0.1, 0.2], [0.3]]), ([2], [[0.1, 0.2], [0.3]]), ([2], [[0.1], 0.2]),
        ([2, 1], [0.1, [0.2]]), ([2], [[[0.1]], [[0.2]]]), ([1], [[[0.1]]]), ([2], [[0.1], [0.2], []]),
        ([0], [[]]), ([1], [[]]), ([1, 1], [[0.1, 0.2]]), ([2], [[0.1, 0.2]]),
    ],
)  # fmt: skip
def test_data_that_are_ragged_or_nested_otherwise_than_their_shape_are_refused(shape: Any, data: Any) -> None:
    tensor = {"name": "price", "shape": shape, "datatype": "FP64", "data": data}
    body = read_json(json.dumps({"inputs": [tensor]}).encode())
    for value in (body.value, body.exact):
        with pytest.raises(RequestError, match="tensor price: expected one value per row") as refused:
            read_tensors(JsonBody(b"", value), '["7","1","true"]', FLEET, MAX_ROWS)
        assert refused.value.status == 400


@pytest.mark.parametrize("shape", [[2], [2, 1]])
def test_data_may_be_flat_whatever_the_shape(shape: list[int]) -> None:
    tensor = {"name": "price", "shape": shape, "datatype": "FP64", "data": [0.1, None]}
    records = read_tensors(read_json(json.dumps({"inputs": [tensor]}).encode()), None, FLEET, MAX_ROWS)
    assert records.values == [{"price": 0.1}, {"price": None}]
