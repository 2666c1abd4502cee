"""Bodies that no client would send: each is answered, or refused for what it is; none is a fault."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from linear_fleet import FEATURES, key_of, write_fleet

from spinney.core.features.request_rows import request_rules
from spinney.gateway.errors import RequestError, TooMuchError, take_records
from spinney.gateway.limits.request_body import LEAST_MAX_VALUES, max_values, require_few_values
from spinney.gateway.protocols import mlflow_bodies
from spinney.gateway.protocols.inference_routes import _infer, _key_of
from spinney.gateway.protocols.inference_tensors import read_tensors
from spinney.gateway.protocols.json_body import read_json
from spinney.gateway.protocols.mlflow_bodies import read_csv_body, read_json_body
from spinney.gateway.protocols.mlflow_routes import _predictions
from spinney.gateway.protocols.predict_routes import _group, _predict
from spinney.gateway.shared_state import Guard, Service

MAX_ROWS = 10
GOOD = {"shop": "s1", "dept": "d1", **dict.fromkeys(FEATURES, 1.0)}
CELLS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 2),
    st.sampled_from([1 << 70, 1e308, -0.0, 1e-320, "", "s1", "d1", "nan", "1e999", "\u0000", "\U0001f600", "x" * 600]),
    st.just([]),
    st.just({}),
)
NAMES = st.sampled_from([*GOOD, "records", "inputs", "name", "shape", "data", "columns", "id", "a.b", ""])
VALUES = st.recursive(
    CELLS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4), max_leaves=8
)
RECORDS = st.lists(
    st.dictionaries(st.sampled_from(list(GOOD)), CELLS, max_size=3).map(lambda odd: {**GOOD, **odd}) | VALUES,
    max_size=12,
)
TENSORS = st.lists(
    st.fixed_dictionaries(
        {"name": NAMES, "shape": st.lists(st.integers(-1, 3) | CELLS, max_size=3), "data": st.lists(VALUES, max_size=3)}
    )
    | VALUES,
    max_size=6,
)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Service:
    return Service(write_fleet(tmp_path_factory.mktemp("lines"), 5).config, Guard(*[lambda _: "ada"] * 3))


def answered(function: Any, *arguments: Any, **more: Any) -> dict[str, Any] | None:
    """The answer; None if the request was refused as the caller's own fault."""
    try:
        found = json.loads(function(*arguments, **more))
    except RequestError as refused:
        if refused.status >= 500:
            raise
        return None
    assert isinstance(found, dict)
    return found


@given(st.fixed_dictionaries({"records": RECORDS}) | VALUES, st.booleans())
def test_records(service: Service, body: Any, strict: bool) -> None:
    found = answered(_predict, json.dumps(body).encode(), service.answer, as_of=None, strict=strict)
    assert found is None or len(found["predictions"]) == len(body["records"])


@given(
    st.dictionaries(st.sampled_from(["inputs", "instances", "dataframe_records", "dataframe_split"]), RECORDS | VALUES)
)
def test_mlflows_forms(service: Service, body: Any) -> None:
    answered(lambda: _predictions(service.answer(read_json_body(json.dumps(body).encode(), MAX_ROWS))))


@given(
    st.text(max_size=60)
    | st.lists(st.sampled_from(["shop,dept,x0,x1,x2,x3\n", "s1,d1,1,2,3,4\n", '"', ",", "\x00"])).map("".join)
)
def test_csv(service: Service, text: str) -> None:
    rules = request_rules(service.config.record_schema, by_column=True)
    answered(lambda: _predictions(service.answer(read_csv_body(text.encode(errors="surrogatepass"), MAX_ROWS, rules))))


@given(st.fixed_dictionaries({"inputs": TENSORS}, optional={"id": VALUES}) | VALUES, st.sampled_from([None, key_of(1)]))
def test_tensors(service: Service, body: Any, key: str | None) -> None:
    answered(_infer, service, "lines", key, json.dumps(body).encode(), service.answer)


@given(st.binary(max_size=40))
def test_bytes(service: Service, body: bytes) -> None:
    answered(_predict, body, service.answer, as_of=None, strict=False)


@given(st.text(max_size=30) | VALUES.map(json.dumps))
@example('["\\ud800","x"]')
@example("[" * 100_000)
def test_keys_of_groups(service: Service, key: str) -> None:
    answered(_group, service, key)
    answered(lambda: json.dumps({"key": _key_of(service, key)}))


FORMS = {
    "dataframe_split": lambda rows: {"columns": [], "data": [[]] * rows},
    "dataframe_records": lambda rows: [{}] * rows,
    "instances": lambda rows: [{}] * rows,
    "inputs": lambda rows: {"x0": [1] * rows},
}


@pytest.mark.parametrize("form", FORMS)
def test_rows_of_each_of_mlflows_forms_are_counted_before_they_are_made(form: str) -> None:
    def read(rows: int) -> int:
        return len(read_json_body(json.dumps({form: FORMS[form](rows)}).encode(), MAX_ROWS).values)

    assert read(MAX_ROWS) == MAX_ROWS
    with pytest.raises(TooMuchError, match=r"expected at most 10 records; got more\. .* raise gateway\.max_rows"):
        read(MAX_ROWS + 1)


def test_lines_of_csv_are_counted_before_they_are_read(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    rules = request_rules(service.config.record_schema, by_column=True)
    assert len(read_csv_body(b"x0\n" + b"1\n\n" * MAX_ROWS, MAX_ROWS, rules).values) == MAX_ROWS
    monkeypatch.setattr(mlflow_bodies, "encode_message", lambda *_, **__: pytest.fail("a line was read"))
    with pytest.raises(TooMuchError, match="expected at most 10 records; got more"):
        read_csv_body(b"x0\n" + b"1\n" * (MAX_ROWS + 1), MAX_ROWS, rules)


def test_values_of_a_tensor_are_counted_before_its_shape_is_looked_at(service: Service) -> None:
    limits = service.config.gateway.model_copy(update={"max_rows": MAX_ROWS})
    config = service.config.model_copy(update={"gateway": limits})
    tensor = {"name": "x0", "shape": [1], "datatype": "FP64", "data": [1.0] * (MAX_ROWS + 1)}
    with pytest.raises(TooMuchError, match="expected at most 10 records; got more"):
        read_tensors(read_json(json.dumps({"inputs": [tensor]}).encode()), None, config.fleet, config.gateway.max_rows)


def test_records_beyond_the_limit_are_not_taken() -> None:
    records = iter(range(1_000))
    with pytest.raises(TooMuchError):
        take_records(records, MAX_ROWS)
    assert next(records) == MAX_ROWS + 1


def test_values_are_counted_before_a_body_is_parsed() -> None:
    for body in (b'{"a": [' + b"1," * 9 + b"1]}", b"[" * 11 + b"]" * 11, b"[" + b"{}," * 5 + b"{}]"):
        with pytest.raises(TooMuchError, match=r"at most 10 values; got 1\d\. .* raise gateway\.max_rows"):
            require_few_values(body, 10)
        assert require_few_values(body, 12) == body
    assert max_values(20_000, 8) == LEAST_MAX_VALUES
    assert max_values(20_000, 100) == 8_000_000
