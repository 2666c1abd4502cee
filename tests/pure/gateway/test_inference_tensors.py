from __future__ import annotations

import json

import pytest

from spinney.core.config import parse
from spinney.core.features.request_rows import read_request_rows, request_rules
from spinney.gateway.inference_tensors import read_tensors
from spinney.gateway.json_body import read_json

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


@pytest.mark.parametrize("rows", [1, 20])
def test_the_columns_of_a_groups_key_have_their_types_where_no_other_form_is_accepted(rows: int) -> None:
    config = parse(TEXT, "fleet.toml", {})
    key = '["7","9007199254740993","true"]'
    prices = {"name": "price", "shape": [rows], "datatype": "FP64", "data": [0.1] * rows}
    records = read_tensors(read_json(json.dumps({"inputs": [prices]}).encode()), key, config)
    found = read_request_rows(records.values, records.exact, request_rules(config, by_column=True), config)
    assert (found.errors, found.group_keys) == ({}, [key] * rows)
