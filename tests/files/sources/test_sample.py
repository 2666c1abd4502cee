"""Data to a first configuration, which the same data is then loaded under without a rejected row."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from deltalake import write_deltalake

from batch.load import load
from spinney.cli import main
from spinney.core.config import Config, parse
from spinney.sources import open_source
from spinney.sources.sample import read_sample

ROWS = 240
START = datetime(2024, 5, 1, tzinfo=UTC)


def rows() -> list[dict[str, Any]]:
    return [
        {
            "Sale No.": f"s{n}",
            "at": START + timedelta(hours=n),
            "store": ["007", "07", "8"][n % 3],
            "price": {"usd": Decimal(n % 17) / 4, "kind": "list"},
            "visitors": None if n % 10 == 0 else n % 13,
            "temp.f": n / 2,
            "topic": ["a", "b"][n % 2],
            "tags": ["x"],
            "sold": n / 8,
        }
        for n in range(ROWS)
    ]


def written(folder: Path, kind: str) -> Path:
    place = folder / f"my sales.{kind}"
    if kind == "jsonl":
        place.write_text("\n".join(json.dumps(row, default=_said) for row in rows()))
        return place
    table = pa.Table.from_pylist(rows())
    if kind == "parquet":
        pq.write_table(table, place)
    elif kind == "delta":
        write_deltalake(place, table.drop(["temp.f", "Sale No."]).append_column("id", table["Sale No."]))
    else:
        frame = table.drop(["tags"]).flatten().to_pandas()
        frame.to_csv(place, sep=";", decimal=",", date_format="%Y-%m-%d %H:%M:%S%z")
    return place


def _said(value: Any) -> Any:
    return float(value) if isinstance(value, Decimal) else value.isoformat()


def proposed(place: Path, *words: str, root: Path) -> Config:
    done = CliRunner().invoke(main, ["init", "--from", str(place), *words])
    assert done.exit_code == 0, done.stderr
    return parse(done.stdout, "fleet.toml", {"SPINNEY_STORAGE__ROOT": str(root)})


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet", "delta"])
def test_what_is_proposed_for_a_file_takes_every_row_of_it(tmp_path: Path, kind: str) -> None:
    place = written(tmp_path, kind)
    config = proposed(place, "--target", "sold", root=tmp_path / "root")
    fleet = config.fleet
    assert (fleet.name, fleet.group, fleet.event_time, fleet.target) == ("my-sales", ("store",), "at", "sold")
    assert fleet.event_id == ("id" if kind == "delta" else "sale_no")
    assert fleet.columns["store"] == "string"
    assert (fleet.columns["price_usd"], fleet.fields["price_usd"]) == ("double", "price.usd")
    assert "tags" not in fleet.columns
    assert fleet.fields["topic_"] == "topic"
    found = load(config, str(place))
    assert found.added == {"events": ROWS, "dead_letters": 0}


def test_the_choices_of_the_command_line_are_taken(tmp_path: Path) -> None:
    place = written(tmp_path, "parquet")
    words = ("--target", "visitors", "--group", "store", "--group", "topic", "--id", "Sale No.", "--time", "at")
    fleet = proposed(place, *words, "--name", "mine", root=tmp_path).fleet
    assert (fleet.name, fleet.target, fleet.group, fleet.event_id) == (
        "mine",
        "visitors",
        ("store", "topic_"),
        "sale_no",
    )


def test_they_are_for_from_only() -> None:
    done = CliRunner().invoke(main, ["init", "--id", "x"])
    assert (done.exit_code, "--id needs --from" in done.stderr) == (2, True)


def test_what_cannot_be_read_or_proposed_is_reported_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a\n1\n")
    done = CliRunner().invoke(main, ["init", "--from", str(tmp_path / "a.csv")])
    assert done.exit_code == 1
    assert done.stderr.startswith("spinney: init --from: expected a column to group by")
    done = CliRunner().invoke(main, ["init", "--from", str(tmp_path / "b.csv")])
    assert (done.exit_code, "nothing is there" in done.stderr) == (1, True)


def test_integers_with_gaps_stay_integers_in_a_sample_and_it_has_no_more_rows_than_asked(tmp_path: Path) -> None:
    pq.write_table(pa.table({"n": pa.array([1, None] * 50, pa.int64())}), tmp_path / "a.parquet")
    sample = read_sample(open_source(tmp_path / "a.parquet"), 7)
    assert pd.api.types.is_integer_dtype(sample.frame["n"])
    assert len(sample.frame) == 7


def test_lines_with_a_name_twice_are_left_out_of_a_sample_and_reported_as_they_are_rejected(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"x": 1}\n{"x": 2, "x": "two"}\n{"y": {"z": 1, "z": 2}}\n')
    sample = read_sample(open_source(tmp_path / "a.jsonl"))
    assert sample.frame.to_dict("list") == {"x": [1]}
    (note,) = sample.notes
    assert note.endswith('a.jsonl row 2: expected each name once in an object; got "x" twice')
    assert note.startswith("2 rows left out; the first: ")


def test_a_column_that_one_file_has_no_value_of_has_the_type_of_the_others_in_a_sample(
    tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    pq.write_table(pa.table({"n": pa.nulls(2), "m": [1, 2], "o": pa.nulls(2)}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"n": [3, None], "m": pa.array([3, None]), "o": pa.nulls(2)}), tmp_path / "b.parquet")
    frame = read_sample(open_source(tmp_path)).frame
    assert list(frame.columns) == ["n", "m", "o"]
    assert [str(frame[name].dtype) for name in "nm"] == ["Int64", "Int64"]
    assert frame["n"].dropna().to_dict() == {2: 3}
    assert not recwarn.list


def test_a_number_of_any_length_is_read_into_a_sample(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(f'{{"x": {"1" * 5_000}}}\n{{"x": {"1" * 30}}}\n')
    sample = read_sample(open_source(tmp_path / "a.jsonl"))
    assert sample.frame.to_dict("list") == {"x": [float("inf"), int("1" * 30)]}
    assert sample.notes == ()


@pytest.mark.parametrize("word", ["NaN", "Infinity", "-Infinity"])
def test_lines_with_a_number_that_json_does_not_have_are_left_out_of_a_sample_and_reported(
    tmp_path: Path, word: str
) -> None:
    (tmp_path / "a.jsonl").write_text(f'{{"x": 1}}\n{{"x": {{"y": [{word}]}}}}\n')
    sample = read_sample(open_source(tmp_path / "a.jsonl"))
    assert sample.frame.to_dict("list") == {"x": [1]}
    (note,) = sample.notes
    assert note.endswith(f"a.jsonl row 2: expected JSON; got {word}, which it does not have")


def test_init_says_why_it_could_read_no_row(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"x": NaN}\n' * 3)
    done = CliRunner().invoke(main, ["init", "--from", str(tmp_path / "a.jsonl")])
    assert done.exit_code == 1
    assert "3 rows left out; the first: " in done.stderr
    assert "expected JSON; got NaN, which it does not have" in done.stderr


def test_columns_of_parquet_with_one_name_are_left_out_of_a_sample_and_reported(tmp_path: Path) -> None:
    pq.write_table(pa.table([pa.array([1]), pa.array([2]), pa.array(["x"])], ["a", "b", "a"]), tmp_path / "a.parquet")
    source = open_source(tmp_path / "a.parquet")
    assert read_sample(source).frame.to_dict("list") == {"b": [2]}
    assert source.notes == (
        "column a: left out, since several columns have this name. Rename them in the file to use them",
    )


def test_a_column_of_the_whole_name_takes_precedence_over_a_field_inside_another_one_in_a_sample(
    tmp_path: Path,
) -> None:
    table = pa.table({"a": [{"x": "inside", "y": 1}], "a.x": [7]})
    pq.write_table(table, tmp_path / "a.parquet")
    assert read_sample(open_source(tmp_path / "a.parquet")).frame.to_dict("list") == {"a.x": [7], "a.y": [1]}


@pytest.mark.parametrize(("wanted", "is_whole"), [(2, False), (4, False), (5, True), (9, True)])
def test_a_sample_tells_whether_it_has_all_rows(tmp_path: Path, *, wanted: int, is_whole: bool) -> None:
    (tmp_path / "a.csv").write_text("id,x\n1,2\n2,3\n")
    (tmp_path / "b.csv").write_text("id,x\n3,4\n4,5\n5,6\n")
    sample = read_sample(open_source(tmp_path), rows=wanted)
    assert (len(sample.frame), sample.is_whole) == (min(wanted, 5), is_whole)


def test_a_group_of_few_rows_in_the_beginning_of_a_long_file_needs_as_many_for_a_model_as_any(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    days = [START + timedelta(days=day) for day in range(90) for _ in range(7)]
    sold = [n / 7 for n in range(630)]
    pd.DataFrame({"at": days, "shop": list("abcdefg") * 90, "sold": sold}).to_csv(tmp_path / "sales.csv", index=False)
    monkeypatch.setattr("spinney.sources.sample.read_sample", partial(read_sample, rows=84))  # 12 rows of each shop
    done = CliRunner().invoke(main, ["init", "--from", str(tmp_path / "sales.csv")])
    recipe = parse(done.stdout, "fleet.toml", {}).recipe
    # 12 rows in 11 days: 98 in the default, 196 in half a year, 398 in one.
    assert (recipe.min_rows, recipe.window) == (20, timedelta(days=365))


def test_decimals_without_a_fraction_are_integers_in_a_sample_if_they_fit(tmp_path: Path) -> None:
    kind = pa.decimal128(38, 0)
    table = {"n": pa.array([1, None]).cast(kind), "far": pa.array(["1" + "0" * 20, "2"]).cast(kind)}
    pq.write_table(pa.table(table), tmp_path / "a.parquet")
    frame = read_sample(open_source(tmp_path / "a.parquet")).frame
    assert (str(frame["n"].dtype), frame["n"][0], frame["far"].tolist()) == ("Int64", 1, [1e20, 2.0])


def test_a_field_that_is_an_object_in_some_lines_keeps_both_in_a_sample(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"a": {"b": {"c": 1}}, "d": {}}\n{"a": "text", "d": {}}\n')
    frame = read_sample(open_source(tmp_path / "a.jsonl")).frame
    assert list(frame.columns) == ["a", "a.b.c", "d"]  # a.b is an object in each line that has it
    assert frame["a"].tolist() == [{"b": {"c": 1}}, "text"]


def test_times_and_dates_that_python_does_not_represent_are_null_in_a_sample_and_the_others_stay(
    tmp_path: Path,
) -> None:
    at = pa.array([0, 253_402_300_800, -62_135_596_801, None], pa.int64()).cast(pa.timestamp("s"))
    day = pa.array([0, 2_932_897, -719_163, None], pa.int32()).cast(pa.date32())
    pq.write_table(pa.table({"at": at, "day": day}), tmp_path / "a.parquet")
    frame = read_sample(open_source(tmp_path / "a.parquet")).frame
    assert frame["at"].tolist()[:1] == [pd.Timestamp(0)]
    assert frame["day"].tolist()[:1] == [date(1970, 1, 1)]
    assert frame.isna().to_numpy().tolist() == [[False, False], *([[True, True]] * 3)]
