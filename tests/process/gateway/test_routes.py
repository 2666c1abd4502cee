"""The gateway's routes by HTTP, against `Fleet` and MLflow's own scoring functions on the same tables."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Iterator
from http.client import HTTPConnection
from typing import Any
from urllib.parse import quote

import pandas as pd
import pytest
import requests
from linear_fleet import FEATURES, LinearFleet, key_of, promote, write_fleet
from mlflow.pyfunc import scoring_server
from running_server import running

from spinney.core.errors import StoreError
from spinney.core.json_conversion import json_value
from spinney.fleet import Fleet
from spinney.gateway.answers.champion_refresh import ChampionRefresh
from spinney.gateway.app import create_app
from spinney.gateway.response_middleware import HEADERS
from spinney.gateway.shared_state import STALE_AFTER_S, Guard, Service

GROUPS = 30


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> LinearFleet:
    fleet = write_fleet(tmp_path_factory.mktemp("lines"), GROUPS, more="[gateway]\nmax_rows = 200\nmax_mib = 1")
    promote(fleet.config, {key_of(1): fleet.coefficients[key_of(2)]}, hour=30)
    return fleet


@pytest.fixture(scope="module")
def service(fleet: LinearFleet) -> Service:
    return Service(fleet.config, Guard(*[lambda _: "ada"] * 3))


@pytest.fixture(scope="module")
def url(service: Service) -> Iterator[str]:
    with running(create_app(service)) as url:
        yield url


@pytest.fixture(scope="module")
def http() -> Iterator[requests.Session]:
    with requests.Session() as session:
        yield session


def frame(rows: int = 12) -> pd.DataFrame:
    """Rows of several groups, of one with its parent's model, and of one without any."""
    shops = [f"s{(7 * n) % GROUPS}" for n in range(rows - 2)] + ["new", "s1"]
    depts = [f"d{(7 * n) % GROUPS % 10}" for n in range(rows - 2)] + ["d3", "nowhere"]
    columns = {name: [(n + at) / 3 for n in range(rows)] for at, name in enumerate(FEATURES)}
    return pd.DataFrame({"shop": shops, "dept": depts, **columns})


def code(answer: requests.Response) -> tuple[int, str]:
    found = answer.json()
    return answer.status_code, found["code"] if "code" in found else found["error"]["code"]


def test_a_client_that_offers_http_2_is_answered_and_so_is_its_next_request(fleet: LinearFleet, url: str) -> None:
    offer = {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c", "HTTP2-Settings": "AAMAAABkAAQCAAAAAAIAAAAA"}
    row = {"shop": "s4", "dept": "d4", **dict.fromkeys(FEATURES, 1.0)}
    connection = HTTPConnection(url.removeprefix("http://"), timeout=30)  # Java's client offers it with each request
    for headers in (offer, {}, offer):
        connection.request("POST", "/predict", json.dumps({"records": [row]}), headers)
        answer = connection.getresponse()
        (found,) = json.loads(answer.read())["predictions"]
        assert (answer.status, found["prediction"]) == (200, fleet.expected(key_of(4), row))
    connection.close()


def test_predictions_of_mixed_groups_are_those_of_the_fleet(fleet: LinearFleet, url: str, http) -> None:
    rows = frame()
    answer = http.post(f"{url}/predict", json={"records": rows.to_dict("records")})
    expected = json_value(Fleet(fleet.config).predict(rows).to_dict("records"))
    statuses = [{"status": "no_model" if each["model_id"] is None else "answered"} for each in expected]
    assert answer.json() == {"predictions": [each | more for each, more in zip(expected, statuses, strict=True)]}
    assert {each["answered_by"] for each in expected} == {"own", "parent", "none"}


def test_as_of_an_earlier_time_the_models_of_then_answer(fleet: LinearFleet, url: str, http) -> None:
    rows = [{"shop": "s1", "dept": "d1", **dict.fromkeys(FEATURES, 1.0)}]
    now, then = (
        http.post(f"{url}/predict", json={"records": rows}, params=as_of).json()["predictions"][0]["prediction"]
        for as_of in ({}, {"as_of": "2024-05-01T20:00Z"})
    )
    assert (now, then) == (fleet.expected(key_of(2), rows[0]), fleet.expected(key_of(1), rows[0]))
    refused = http.post(f"{url}/predict", json={"records": rows}, params={"as_of": "stream-99"})
    assert code(refused) == (422, "as_of")
    assert "expected a time like 2026-11-20T18:00Z, or a round" in refused.json()["error"]["message"]


@pytest.mark.parametrize("path", ["invocations", "v2/models/lines/infer"])
def test_as_of_is_heeded_in_the_other_protocols_too(fleet: LinearFleet, url: str, http, path: str) -> None:
    rows = pd.DataFrame([{"shop": "s1", "dept": "d1", **dict.fromkeys(FEATURES, 1.0)}])
    body = {"inputs": rows.to_dict("list")} if path == "invocations" else {"inputs": tensors(rows)}

    def predicted(**as_of: str) -> Any:
        found = http.post(f"{url}/{path}", json=body, params=as_of).json()
        return found["predictions"][0]["prediction"] if path == "invocations" else found["outputs"][0]["data"][0]

    row = rows.to_dict("records")[0]
    assert predicted() == fleet.expected(key_of(2), row)
    assert predicted(as_of="2024-05-01T20:00Z") == fleet.expected(key_of(1), row)
    refused = http.post(f"{url}/{path}", json=body, params={"as_of": "stream-99"})
    assert code(refused) == (422, "as_of")


def test_a_bad_record_fails_alone_unless_the_caller_is_strict(url: str, http) -> None:
    rows = [*frame(3).to_dict("records"), {"shop": "s1", "dept": "d1", "x0": "many"}]
    found = http.post(f"{url}/predict", json={"records": rows}).json()["predictions"]
    assert [each["status"] for each in found] == ["answered", "answered", "no_model", "invalid"]
    assert found[3]["error"]["field"] == "x0"
    refused = http.post(f"{url}/predict", json={"records": rows}, params={"strict": True})
    assert code(refused) == (422, "wrong_type")
    assert refused.json()["error"]["message"].startswith('record 3: x0: expected double; got the text "many"')


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"{", (400, "not_json")),
        (b"\xff", (400, "not_json")),
        (b"[" * 100_000, (400, "not_json")),
        (b'{"records": [NaN]}', (400, "not_json")),
        (
            b'{"records": [{"shop": "a", "shop": "b", "dept": "d", "x0":1,"x1":1,"x2":1,"x3":1}]}',
            (400, "duplicate_field"),
        ),
        (b"[]", (422, "no_records")),
        (b'{"records": {}}', (422, "no_records")),
        (b'{"records": [{"shop": "s1", "dept": "d1"}]}', (422, "contract")),
        (b'{"records": [' + b"1," * 200 + b"1]}", (422, "too_much")),
        (b'"' + b"x" * (1 << 20) + b'"', (413, "too_large")),
    ],
)
def test_a_body_that_cannot_be_answered_is_refused(url: str, http, body: bytes, expected: tuple[int, str]) -> None:
    assert code(http.post(f"{url}/predict", data=body)) == expected


def test_a_body_sent_in_pieces_is_refused_once_it_is_too_large(url: str, http) -> None:
    pieces = (b" " * 65_536 for _ in range(17))
    assert code(http.post(f"{url}/predict", data=pieces)) == (413, "too_large")


def test_a_body_with_more_values_than_rows_may_have_is_refused_unparsed(
    service: Service, url: str, http, monkeypatch
) -> None:
    monkeypatch.setattr(service, "_max_values", 5_000)
    junk = {"records": [{**frame().to_dict("records")[0], "junk": [1] * 5_000}]}
    for path, body in (("predict", junk), ("invocations", {"inputs": [1] * 5_001}), ("v2/models/lines/infer", junk)):
        assert code(http.post(f"{url}/{path}", json=body)) == (422, "too_much")


def test_no_records_have_no_predictions(url: str, http) -> None:
    assert http.post(f"{url}/predict", json={"records": []}).json() == {"predictions": []}


def test_a_group_is_reported_as_by_spinney_why(fleet: LinearFleet, url: str, http) -> None:
    found = http.get(f"{url}/groups/{quote(key_of(1))}").json()
    assert found == json_value(Fleet(fleet.config).why(key_of(1)))
    assert [each["what"] for each in found["happened"]].count("promoted") == 2
    assert code(http.get(f"{url}/groups/{quote(key_of(77))}")) == (404, "unknown_group")
    assert code(http.get(f"{url}/groups/alone")) == (422, "key")


def mlflows_answer(fleet: LinearFleet, rows: pd.DataFrame) -> Any:
    """What MLflow's server writes for the frame that a registered fleet returns."""
    answered = Fleet(fleet.config).predict(rows)
    numbers = answered[["prediction", "lower", "upper"]]
    written = io.StringIO()
    scoring_server.predictions_to_json(answered.assign(**numbers.astype(object).where(numbers.notna(), None)), written)
    return json.loads(written.getvalue())


def test_each_form_of_mlflows_protocol_is_answered_as_mlflow_does(fleet: LinearFleet, url: str, http) -> None:
    rows = frame()
    split = rows.to_dict("split")
    forms = {
        "dataframe_split": split,
        "dataframe_records": rows.to_dict("records"),
        "instances": rows.to_dict("records"),
        "inputs": rows.to_dict("list"),
    }
    expected = mlflows_answer(fleet, rows)
    for form, value in forms.items():
        answer = http.post(f"{url}/invocations", json={form: value, "params": {}})
        assert answer.json() == expected, form
    answer = http.post(
        f"{url}/invocations", data=rows.to_csv(index=False), headers={"Content-Type": "text/csv; charset=utf-8"}
    )
    assert answer.json() == expected


def test_mlflows_own_client_is_answered(fleet: LinearFleet, url: str) -> None:
    import mlflow
    from mlflow.pyfunc.scoring_server.client import ScoringServerClient

    client = ScoringServerClient("127.0.0.1", int(url.rpartition(":")[2]))
    client.ping()
    assert client.get_version() == mlflow.__version__
    found = client.invoke(frame()).get_predictions()
    expected = Fleet(fleet.config).predict(frame())
    assert found["model_id"].tolist() == expected["model_id"].tolist()
    assert found["prediction"].tolist()[:-1] == expected["prediction"].tolist()[:-1]


@pytest.mark.parametrize(
    ("body", "kind", "expected"),
    [
        ({}, None, (400, "BAD_REQUEST")),
        ({"inputs": {}, "instances": []}, None, (400, "BAD_REQUEST")),
        ({"inputs": {"a": [1], "b": [1, 2]}}, None, (400, "BAD_REQUEST")),
        (
            {"inputs": {"shop": ["s1"] * 2, "dept": ["d1"] * 2, **{name: [[1.0, 2.0], [3.0]] for name in FEATURES}}},
            None,
            (400, "wrong_type"),
        ),
        ({"inputs": "a"}, None, (400, "BAD_REQUEST")),
        ({"inputs": 1}, None, (400, "BAD_REQUEST")),
        ({"instances": [[1, 2]]}, None, (400, "BAD_REQUEST")),
        ({"dataframe_split": {"columns": ["a", "a"], "data": [[1, 2]]}}, None, (400, "BAD_REQUEST")),
        ({"dataframe_split": {"columns": ["a"], "data": [[1, 2]]}}, None, (400, "BAD_REQUEST")),
        ({"dataframe_records": [{"shop": None, **dict.fromkeys(FEATURES, 1)}]}, None, (400, "null_key")),
        ("a,a\n1,2\n", "text/csv", (400, "BAD_REQUEST")),
        ("a,b\n1\n", "text/csv", (400, "BAD_REQUEST")),
        ("", "text/csv", (400, "BAD_REQUEST")),
        ("{}", "application/xml", (415, "content_type")),
        ("{}", "application/json; charset=latin-1", (415, "content_type")),
    ],
)
def test_a_body_outside_mlflows_protocol_is_refused(url: str, http, body: Any, kind: str | None, expected) -> None:
    content = {"json": body} if kind is None else {"data": body, "headers": {"Content-Type": kind}}
    assert code(http.post(f"{url}/invocations", **content)) == expected


def test_mlflows_client_may_send_missing_values_which_it_writes_as_nan(fleet: LinearFleet, url: str) -> None:
    from mlflow.pyfunc.scoring_server.client import ScoringServerClient

    client = ScoringServerClient("127.0.0.1", int(url.rpartition(":")[2]))
    for rows in (frame(4), frame(12)):
        rows.loc[1, "x1"] = float("nan")
        found = client.invoke(rows).get_predictions()
        assert found["prediction"].tolist()[:-1] == Fleet(fleet.config).predict(rows)["prediction"].tolist()[:-1]


def test_an_infinite_number_is_no_missing_value(url: str, http) -> None:
    text = json.dumps({"dataframe_split": frame().assign(x1=float("inf")).to_dict("split")})
    assert "Infinity" in text
    answer = http.post(f"{url}/invocations", data=text, headers={"Content-Type": "application/json"})
    assert code(answer) == (400, "not_json")


def test_csv_may_begin_with_a_byte_order_mark_as_spreadsheets_write_it(fleet: LinearFleet, url: str, http) -> None:
    text = frame().to_csv(index=False).encode("utf-8-sig")
    answer = http.post(f"{url}/invocations", data=text, headers={"Content-Type": "text/csv"})
    assert answer.json() == mlflows_answer(fleet, frame())


@pytest.mark.parametrize("rows", [2, 12])
@pytest.mark.parametrize("form", ["dataframe_records", "instances", "inputs", "dataframe_split", "v2"])
def test_a_name_that_is_twice_in_one_object_is_refused_in_every_form(url: str, http, form: str, rows: int) -> None:
    table = frame(rows)
    values = {
        "dataframe_split": {**table.to_dict("split"), "data ": []},
        "inputs": {**table.to_dict("list"), "shop ": [None] * rows},
        "v2": [{**each, "name ": "x"} for each in tensors(table)],
    }
    records = [{**each, "shop ": "s3"} for each in table.to_dict("records")]
    path, name = ("v2/models/lines/infer", "inputs") if form == "v2" else ("invocations", form)
    text = json.dumps({name: values.get(form, records)})
    asked = {"headers": {"Content-Type": "application/json"}}
    assert http.post(f"{url}/{path}", data=text, **asked).status_code == 200
    twice = text.replace('"shop "', '"shop"').replace('"data "', '"data"').replace('"name "', '"name"')
    assert code(http.post(f"{url}/{path}", data=twice, **asked)) == (400, "duplicate_field")


def test_an_error_of_invocations_has_mlflows_fields_too(url: str, http) -> None:
    answer = http.post(f"{url}/invocations", json={}).json()
    assert answer["error_code"] == "BAD_REQUEST"
    assert answer["message"] == answer["error"]["message"]
    routed = http.post(f"{url}/invocations?x=1", json={}).json()
    assert routed == answer
    assert set(http.post(f"{url}/predict", json={}).json()) == {"error"}


def test_an_error_of_open_inference_is_a_text_as_its_protocol_has_it(url: str, http) -> None:
    for answer in (
        http.get(f"{url}/v2/models/other"),
        http.get(f"{url}/v2/nothing"),
        http.post(f"{url}/v2/models/lines/infer", json={"inputs": []}),
    ):
        assert answer.status_code >= 400
        assert isinstance(answer.json()["error"], str)


def test_a_compressed_body_is_refused_for_what_it_is(url: str, http) -> None:
    headers = {"Content-Encoding": "gzip"}
    answer = http.post(f"{url}/predict", data=gzip.compress(b'{"records": []}'), headers=headers)
    assert code(answer) == (415, "content_encoding")
    assert http.post(f"{url}/predict", data=b'{"records": []}', headers={"Content-Encoding": "identity"}).ok


def tensors(rows: pd.DataFrame) -> list[dict[str, Any]]:
    return [
        {
            "name": name, "shape": [len(rows), 1], "datatype": "FP64" if name in FEATURES else "BYTES",
            "data": [[each] for each in rows[name].tolist()],
        }
        for name in rows.columns
    ]  # fmt: skip


def test_tensors_of_the_whole_fleet_are_answered_in_columns(fleet: LinearFleet, url: str, http) -> None:
    rows = frame()
    answer = http.post(f"{url}/v2/models/lines/infer", json={"id": "7", "inputs": tensors(rows)}).json()
    expected = json_value(Fleet(fleet.config).predict(rows).to_dict("list"))
    assert (answer["model_name"], answer["id"]) == ("lines", "7")
    assert {each["name"]: each["data"] for each in answer["outputs"]} == expected
    assert [(each["name"], each["datatype"], each["shape"]) for each in answer["outputs"]] == [
        ("prediction", "FP64", [12]), ("lower", "FP64", [12]), ("upper", "FP64", [12]), ("model_id", "BYTES", [12]),
        ("answered_by", "BYTES", [12]),
    ]  # fmt: skip


def test_a_caller_gets_the_outputs_that_it_asks_for(url: str, http) -> None:
    def infer(outputs: Any) -> requests.Response:
        return http.post(f"{url}/v2/models/lines/infer", json={"inputs": tensors(frame()), "outputs": outputs})

    asked = infer([{"name": "model_id"}, {"name": "prediction"}]).json()["outputs"]
    assert [each["name"] for each in asked] == ["prediction", "model_id"]
    assert len(infer([]).json()["outputs"]) == 5
    for unknown in ([{"name": "loss"}], ["prediction"], "prediction", [{}]):
        assert code(infer(unknown)) == (400, "inputs")


def test_a_group_is_a_model_of_its_own_whose_inputs_are_the_features(fleet: LinearFleet, url: str, http) -> None:
    model = f"{url}/v2/models/{quote(key_of(5))}"
    described = http.get(model).json()
    assert [each["name"] for each in described["inputs"]] == list(FEATURES)
    assert http.get(f"{model}/ready").json() == {"name": key_of(5), "ready": True}
    rows = frame()[list(FEATURES)]
    answer = http.post(f"{model}/infer", json={"inputs": tensors(rows)}).json()
    expected = [fleet.expected(key_of(5), row) for row in rows.to_dict("records")]
    assert answer["outputs"][0]["data"] == expected
    assert set(answer["outputs"][3]["data"]) == {fleet.model_ids[key_of(5)]}


def test_the_fleet_describes_itself_as_a_model(url: str, http) -> None:
    described = http.get(f"{url}/v2/models/lines").json()
    assert [(each["name"], each["datatype"]) for each in described["inputs"]] == [
        ("shop", "BYTES"), ("dept", "BYTES"), *((name, "FP64") for name in FEATURES),
    ]  # fmt: skip
    answer = http.post(f"{url}/v2/models/lines/infer", json={"inputs": tensors(frame())}).json()
    assert described["outputs"] == [
        {"name": each["name"], "datatype": each["datatype"], "shape": [-1]} for each in answer["outputs"]
    ]
    assert http.get(f"{url}/v2/models/lines/ready").status_code == 200
    assert http.get(f"{url}/v2/models/{quote(json.dumps(['new', 'nowhere']))}/ready").status_code == 404
    assert code(http.get(f"{url}/v2/models/other")) == (404, "unknown_model")
    assert http.get(f"{url}/v2").json()["name"] == "spinney"


GOOD = {"name": "x0", "shape": [1], "datatype": "FP64", "data": [1.0]}


@pytest.mark.parametrize(
    "inputs",
    [
        None, [], [1], [{"name": "x0"}], [GOOD, GOOD], [GOOD | {"shape": [2]}], [GOOD | {"shape": [-1]}],
        [GOOD | {"shape": []}], [GOOD | {"shape": [1, 2], "data": [[1, 2]]}], [GOOD | {"shape": [True]}],
        [GOOD, GOOD | {"name": "x1", "shape": [2], "data": [1, 2]}],
        [GOOD | {"shape": [3], "data": [[1.0, 2.0], [3.0]]}],
    ],
)  # fmt: skip
def test_tensors_that_are_not_one_value_per_row_are_refused(url: str, http, inputs: Any) -> None:
    answer = http.post(f"{url}/v2/models/lines/infer", json={"inputs": inputs})
    assert code(answer) == (400, "inputs")
    assert isinstance(answer.json()["error"], str)


def test_probes_answer_and_say_when_the_tables_were_not_read_for_long(url: str, http, monkeypatch) -> None:
    assert [http.get(f"{url}{path}").status_code for path in ("/ping", "/health", "/v2/health/live")] == [200] * 3
    assert http.get(f"{url}/v2/health/ready").json() == {"ready": True}
    monkeypatch.setattr(ChampionRefresh, "age_s", STALE_AFTER_S)
    assert http.get(f"{url}/v2/health/ready").status_code == 503
    assert http.get(f"{url}/ping").status_code == 503
    assert http.get(f"{url}/v2/health/live").status_code == 200


def test_every_answer_has_the_headers_of_a_page_that_may_do_nothing(url: str, http) -> None:
    for path in ("/ping", "/nowhere", "/groups/alone", "/openapi.json"):
        answer = http.get(f"{url}{path}")
        assert {name: answer.headers[name] for name in HEADERS} == HEADERS, path
    assert code(http.get(f"{url}/nowhere")) == (404, "http")
    assert code(http.get(f"{url}/predict")) == (405, "http")


@pytest.mark.parametrize("path", ["/ping", "/v2", "/page/", "/page/static/page.js", "/nowhere", "/openapi.json"])
def test_head_is_answered_as_get_without_the_body(url: str, http, path: str) -> None:
    head, whole = http.head(f"{url}{path}"), http.get(f"{url}{path}")
    assert (head.status_code, head.content) == (whole.status_code, b"")
    assert {**head.headers, "date": ""} == {**whole.headers, "date": ""}


@pytest.mark.parametrize(
    ("path", "target"), [("/predict/?strict=true", "/predict?strict=true"), ("/ping/", "/ping"), ("/page", "page/")]
)
def test_a_redirection_stays_on_this_server_whatever_host_the_caller_names(url: str, http, path, target) -> None:
    answer = http.get(f"{url}{path}", headers={"Host": "evil.example"}, allow_redirects=False)
    assert (answer.status_code, answer.headers["Location"]) == (307, target)


def test_a_method_that_a_path_does_not_have_is_answered_with_those_that_it_has(url: str, http) -> None:
    for method, path, allowed in (("HEAD", "/predict", "POST"), ("OPTIONS", "/ping", "GET"), ("PUT", "/v2", "GET")):
        answer = http.request(method, f"{url}{path}")
        assert (answer.status_code, answer.headers["Allow"]) == (405, allowed)


def test_a_fault_is_answered_without_a_path_or_a_stack(service: Service, url: str, http, monkeypatch) -> None:
    def fail(*_: Any) -> None:
        raise ZeroDivisionError(f"in {service.config.storage.root}")

    monkeypatch.setattr(service.answers, "answer", fail)
    monkeypatch.setattr(service.answers, "answer_at_once", fail)
    answer = http.post(f"{url}/predict", json={"records": []})
    assert code(answer) == (500, "fault")
    assert service.config.storage.root not in answer.text
    assert "ZeroDivisionError" not in answer.text
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    inferred = http.post(f"{url}/v2/models/lines/infer", json={"inputs": tensors(frame())})
    assert (inferred.status_code, inferred.json()["code"], type(inferred.json()["error"])) == (500, "fault", str)


def test_tables_that_cannot_be_read_are_a_503_that_says_when_to_come_again(
    service: Service, url: str, http, monkeypatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise StoreError(f"table at {service.config.storage.root}: gone")

    monkeypatch.setattr(service.answers, "answer", fail)
    monkeypatch.setattr(service.answers, "answer_at_once", fail)
    answer = http.post(f"{url}/predict", json={"records": []})
    assert code(answer) == (503, "tables")
    assert int(answer.headers["Retry-After"]) > 0
    assert service.config.storage.root not in answer.text


def test_the_document_describes_records_by_the_fleets_columns(url: str, http) -> None:
    document = http.get(f"{url}/openapi.json").json()
    body = document["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    record = body["properties"]["records"]["items"]
    assert record["required"] == ["shop", "dept"]
    assert list(record["properties"]) == ["shop", "dept", *FEATURES]
    assert {"/predict", "/groups/{key}", "/invocations", "/v2/models/{name}/infer"} <= set(document["paths"])


def test_new_champions_are_prepared_by_the_thread_that_reads_them(service: Service) -> None:
    assert service.feed.prepare == service.answers.prepare
