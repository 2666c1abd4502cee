"""The registered model as MLflow's server asks it: requests as that server decodes them, without a server."""

from __future__ import annotations

import io
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest
from every_feature_type import AT, OPENED, PLAIN, TEXT, WRITTEN, FittedFleet
from mlflow.exceptions import MlflowException
from mlflow.models.utils import _enforce_schema
from mlflow.pyfunc import scoring_server
from mlflow.pyfunc.scoring_server import infer_and_parse_data
from mlflow.types import ColSpec, DataType, Schema
from mlflow.types.schema import AnyType

from spinney.core.config import parse
from spinney.core.errors import StoreError
from spinney.serving import manifest
from spinney.serving.model_cache import cache
from spinney.storage.layout import FleetStore
from spinney.tracking import registry

SERVED = "_MLFLOW_IS_IN_SERVING_ENVIRONMENT"


@pytest.fixture(autouse=True)
def nothing_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPINNEY_SIGNING_KEY", "k" * 32)
    cache.cache_clear()


class Served(FittedFleet):
    """A fitted fleet, and the pyfunc that is registered of it."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        (folder / manifest.FOLDER).mkdir()
        manifest.write_manifest(self.past.config, self.fleet.champions(), folder / manifest.FOLDER)
        registry._save(
            FleetStore.of(self.past.config), folder / manifest.FOLDER, folder / "model", registry.pinned_requirements()
        )
        self.model = mlflow.pyfunc.load_model(str(folder / "model"))

    def invoke(self, body: Any, content_type: str = "application/json") -> list[dict[str, Any]]:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        schema = self.model.metadata.get_input_schema()
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(SERVED, "true")  # as the server does once it has loaded a model
            found = scoring_server.invocations(data, content_type, self.model, schema)
        assert found.status == 200
        return list(json.loads(found.response, parse_constant=pytest.fail)["predictions"])


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Served:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPINNEY_SIGNING_KEY", "k" * 32)
        return Served(tmp_path_factory.mktemp("served"))


def bodies(*rows: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The rows in every form that the server takes."""
    columns = list(rows[0])
    return {
        "dataframe_records": {"dataframe_records": list(rows)},
        "dataframe_split": {"dataframe_split": {"columns": columns, "data": [list(row.values()) for row in rows]}},
        "instances": {"instances": list(rows)},
        "inputs": {"inputs": {name: [row[name] for row in rows] for name in columns}},
        "inputs of rows": {"inputs": list(rows)},
    }


FORMS = list(bodies(WRITTEN))


def test_every_feature_counts(served: Served) -> None:
    """Else the tests below would not notice how one is read."""
    (whole,) = served.answers(PLAIN)
    for name in served.past.config.fleet.features:
        (without,) = served.answers({**PLAIN, name: None})
        assert without["prediction"] != whole["prediction"], name


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("at", "opened"),
    [
        (AT.isoformat(), 1_714_716_000_250),
        ("2024-05-03T10:30:00Z", 1_714_716_000_250.0),
        ("2024-05-03 10:30:00", "1714716000250"),
        ("20240503T103000Z", OPENED.isoformat()),
        ("2024-05-03T12:30+02:00", "2024-05-03T06:00:00.25"),
    ],
)
def test_times_are_answered_however_json_says_them(served: Served, form: str, at: Any, opened: Any) -> None:
    wanted = served.answers(PLAIN)
    assert served.invoke(bodies({**WRITTEN, "at": at, "opened": opened})[form]) == wanted
    assert wanted[0]["answered_by"] == "own"


@pytest.mark.parametrize("form", FORMS)
def test_rows_of_several_groups_with_values_of_several_forms_go_together(served: Served, form: str) -> None:
    plain = [
        PLAIN, {**PLAIN, "store": "007", "opened": OPENED - timedelta(hours=1), "x": 0.5, "visitors": 0},
        {**PLAIN, "sunny": False, "visitors": 3}, {**PLAIN, "store": "nobody's"},
    ]  # fmt: skip
    written = [
        WRITTEN, {**WRITTEN, "store": "007", "opened": "2024-05-03T05:00:00.25Z", "x": "0.5", "visitors": 0},
        {**WRITTEN, "sunny": "false", "visitors": "3"}, {**WRITTEN, "store": "nobody's"},
    ]  # fmt: skip
    wanted = served.answers(*plain)
    assert [each["answered_by"] for each in wanted] == ["own", "own", "own", "none"]
    assert served.invoke(bodies(*written)[form]) == wanted


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("alone", [True, False])
def test_a_missing_value_is_missing_in_every_form(served: Served, form: str, alone: bool) -> None:
    """MLflow's own types make the text None of a null, and False of a boolean's.

    alone: a row a request, so that its column holds nothing else; else all rows in one, with whole values beside each.
    """
    names = served.past.config.fleet.features
    for together in [[name] for name in names] if alone else [names]:
        plain = [{**PLAIN, name: None} for name in together]
        written = [{**WRITTEN, name: None} for name in together]
        more = ([], []) if alone else ([PLAIN], [WRITTEN])
        assert served.invoke(bodies(*written, *more[1])[form]) == served.answers(*plain, *more[0]), together


def test_an_empty_text_is_no_time_and_no_number(served: Served) -> None:
    empty = {name: "" for name in WRITTEN if name not in ("store", "tag")}
    (answer,) = served.invoke({"dataframe_records": [{**WRITTEN, **empty}]})
    assert [answer] == served.answers({**PLAIN, **dict.fromkeys(empty)})


def test_inputs_of_texts_alone_are_rows(served: Served) -> None:
    """MLflow makes one row of them, each cell a list."""
    texts = {name: "true" if value is True else str(value) for name, value in WRITTEN.items()}
    body = {"inputs": {name: [value, value] for name, value in texts.items()}}
    assert served.invoke(body) == served.answers(PLAIN, PLAIN)
    body["inputs"]["x"].append("3")
    with pytest.raises(
        MlflowException, match=r"inputs: expected the same number of values in each column; got {.*'x': 3"
    ):
        served.invoke(body)


def test_no_rows_are_no_answers(served: Served) -> None:
    assert served.invoke({"dataframe_split": {"columns": list(WRITTEN), "data": []}}) == []


def test_a_row_that_nobody_answers_has_null_in_json_and_nan_in_a_frame(served: Served) -> None:
    (answer,) = served.invoke({"dataframe_records": [{**WRITTEN, "store": "nobody's"}]})
    assert answer == {"prediction": None, "lower": None, "upper": None, "model_id": None, "answered_by": "none"}
    frame = pd.DataFrame([{**WRITTEN, "store": "nobody's"}])
    assert served.model.predict(frame)["prediction"].dtype == "float64"


def test_what_pandas_writes_as_json_with_iso_times_is_answered(served: Served) -> None:
    frame = pd.DataFrame([PLAIN]).astype({"price": float})
    body = json.loads(frame.to_json(orient="split", date_format="iso", date_unit="us"))
    assert served.invoke({"dataframe_split": body}) == served.answers(PLAIN)


def test_what_pandas_writes_as_parquet_is_answered(served: Served) -> None:
    far = {**PLAIN, "opened": OPENED.replace(year=9999)}
    for rows in ([PLAIN], [PLAIN, {**PLAIN, "opened": None, "day": None, "visitors": None}], [far]):
        file = io.BytesIO()
        frame = pd.DataFrame(rows).astype({"at": "datetime64[us, UTC]", "opened": "datetime64[us, UTC]"})
        frame.to_parquet(file)
        assert served.invoke(file.getvalue(), "application/vnd.apache.parquet") == served.answers(*rows)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("at", "soon", r"column at: expected timestamp; got str 'soon' in row 1: a time is ISO 8601, like 2024-05-31T"),
        ("opened", "soon", r"column opened: expected timestamp\(ms\); got str 'soon' in row 1: a time is a number"),
        ("day", "03/05/2024", r"column day: expected date; got str '03/05/2024' in row 1: a date is written like"),
        ("visitors", 2.5, r"column visitors: expected bigint; got float64 '2.5' in row 1"),
        ("sunny", "perhaps", r"column sunny: expected boolean; got str 'perhaps' in row 1"),
        ("x", "much", r"column x: expected double; got str 'much' in row 1"),
        ("x", [1, 2], r"column x: expected double; got list '\[1, 2\]' in row 1"),
        ("store", None, r"column store: expected string; got null in row 1, and every row has a group"),
    ],
)
def test_a_bad_row_is_reported_with_its_column_row_and_value(
    served: Served, form: str, name: str, value: Any, message: str
) -> None:
    body = bodies(WRITTEN, {**WRITTEN, name: value})[form]
    if form == "instances" and isinstance(value, list):
        message = "Invalid input"  # MLflow makes an array of the column before the model has it
    with pytest.raises(MlflowException, match=message) as refused:
        served.invoke(body)
    assert refused.value.get_http_status_code() == 400
    assert "stack_trace" not in json.loads(refused.value.serialize_as_json())


def test_a_number_for_a_time_without_a_unit_is_refused_and_says_how_to_declare_one(served: Served) -> None:
    reported = (
        r"column at: expected timestamp; got int64 '1714732200' in row 0: for numbers since 1970 declare the column"
    )
    with pytest.raises(MlflowException, match=reported):
        served.invoke({"dataframe_records": [{**WRITTEN, "at": int(AT.timestamp())}]})


def test_a_missing_column_is_reported_to_the_caller(served: Served) -> None:
    with pytest.raises(MlflowException, match=r"missing inputs \['day'\]") as refused:
        served.invoke({"dataframe_records": [{name: value for name, value in WRITTEN.items() if name != "day"}]})
    assert refused.value.get_http_status_code() == 400


def test_a_fault_of_the_fleet_itself_is_no_fault_of_who_asked(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(*_: object) -> None:
        raise StoreError("models: it is stored nowhere")

    monkeypatch.setattr(manifest.Manifest, "fetch", lost)
    with pytest.raises(MlflowException, match="models: it is stored nowhere") as refused:
        served.invoke({"dataframe_records": [WRITTEN]})
    assert refused.value.get_http_status_code() == 500


JUST_ANY = AnyType()


@pytest.mark.parametrize(
    ("kind", "form", "values", "becomes"),
    [
        ("string", "inputs", ["blue", None], ["blue", "None"]),
        ("string", "instances", ["blue", None], ["blue", "None"]),
        ("boolean", "dataframe_records", [True, None], [True, False]),
        ("boolean", "dataframe_records", ["false"], [True]),
        ("long", "dataframe_records", [1, None], "Failed to convert"),
        ("long", "dataframe_records", [2.5], [2]),
        ("double", "frame", [1, 2], "Can not safely convert int64 to float64"),
        ("datetime", "dataframe_records", [1_714_716_000_250], [pd.Timestamp(1_714_716_000_250, unit="ns")]),
        ("datetime", "dataframe_records", ["2024-05-03T10:30:00Z"], "timezone-naive"),
        ("datetime", "inputs", ["9999-12-31"], [pd.Timestamp("1816-03-29 05:56:08.066277376")]),
    ],
)
def test_mlflows_own_types_change_or_refuse_what_the_fleet_answers(
    kind: str, form: str, values: list[Any], becomes: Any
) -> None:
    """Why the signature has none. One that fails here with a newer MLflow may be a type that can be used."""

    def enforced(of_type: Any) -> list[Any]:
        schema = Schema([ColSpec(JUST_ANY, "n"), ColSpec(of_type, "c")])
        rows = [{"n": 1, "c": value} for value in values]
        asked = pd.DataFrame(rows) if form == "frame" else infer_and_parse_data(bodies(*rows)[form], schema)
        return list(_enforce_schema(asked, schema)["c"])

    assert enforced(JUST_ANY) == values or pd.isna(enforced(JUST_ANY)).tolist() == [each is None for each in values]
    if isinstance(becomes, str):
        with pytest.raises(MlflowException, match=becomes):
            enforced(kind)
        return
    assert enforced(kind) == becomes


def test_the_signature_has_the_names_and_the_metadata_the_declared_types(served: Served) -> None:
    fleet = served.past.config.fleet
    schema = served.model.metadata.get_input_schema()
    assert schema.required_input_names() == ["store", *fleet.features]
    columns = served.model.metadata.metadata["columns"]
    assert {name: columns[name] for name in ("opened", "day", "price")} == {
        "opened": "timestamp(ms)", "day": "date", "price": "decimal(8,2)",
    }  # fmt: skip
    described = registry.describe_model(served.past.config.record_schema)
    for row in ("| store | string | group |", "| opened | timestamp(ms) | feature |", "| at | timestamp | feature |"):
        assert row in described.splitlines()
    answers = served.model.metadata.get_output_schema().input_dict()
    assert {name: spec.type for name, spec in answers.items()} == {
        "prediction": DataType.double, "lower": DataType.double, "upper": DataType.double,
        "model_id": DataType.string, "answered_by": DataType.string,
    }  # fmt: skip


def test_a_description_is_never_longer_than_mlflow_stores() -> None:
    columns = "".join(f'a_rather_long_name_of_a_column_{n} = "double"\n' for n in range(300))
    text = TEXT.format(root="root", uri="sqlite:///mlflow.db").replace("[recipe]", f"{columns}[recipe]")
    described = registry.describe_model(parse(text, "fleet.toml", {}).record_schema)
    assert len(described) <= 5000
    assert described.splitlines()[-1] == "and others: the model's metadata, `columns`, has all"


def test_a_frame_with_real_times_is_answered_as_by_the_fleet(served: Served) -> None:
    frame = pd.DataFrame([PLAIN, {**PLAIN, "store": "nobody's"}], index=[7, 3])
    wanted = served.fleet.predict(frame)
    pd.testing.assert_frame_equal(served.model.predict(frame), wanted, check_exact=True)
    whole = frame.assign(x=[2, 2], tag=frame["tag"].astype("category"))
    assert whole["x"].dtype == "int64"
    pd.testing.assert_frame_equal(served.model.predict(whole), wanted, check_exact=True)
