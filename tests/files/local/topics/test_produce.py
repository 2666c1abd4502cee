"""What `produce` sends of a file, and what it refuses; the broker is a list."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from spinney.cli import main
from spinney.core.config import Config, parse
from spinney.core.errors import ContractError, StoreError
from spinney.kafka import client
from spinney.local.topics.produce import Sent, send
from spinney.sources import ReadOptions
from spinney.sources.fleet_files import open_fleet_file
from spinney.sources.rejections import RejectionLimit
from spinney.storage import charter
from spinney.storage.layout import FleetStore

TEXT = """\
[fleet]
group = ["store"]
event_id = "id"
event_time = "at"
target = "sold"
features = ["x"]
[fleet.columns]
store = "{store}"
x = "double"
sold = "double"
[kafka]
events = "events"
outcomes = "outcomes"
[storage]
root = "root"
"""
NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)
HEADER = "id,at,store,x\n"


class Broker:
    """A producer that keeps what it is given and acknowledges it at once."""

    def __init__(self) -> None:
        self.records: list[tuple[bytes, dict[str, Any]]] = []

    def produce(self, topic: str, value: bytes, key: bytes, on_delivery: Callable[..., None], **_: Any) -> None:
        self.records.append((key, json.loads(value)))
        on_delivery(None, None)

    def poll(self, _: float) -> int:
        return 0

    def flush(self, _: float) -> int:
        return 0

    def __len__(self) -> int:
        return 0


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> Broker:
    made = Broker()
    monkeypatch.setattr(client, "producer", lambda config: made)
    monkeypatch.setattr(client, "existing_topics", lambda config: {"events": 1, "outcomes": 1})
    return made


def configured(store: str = "string") -> Config:
    return parse(TEXT.format(store=store), "fleet.toml", {})


def sent(config: Config, place: Path, topic: str = "events", most: str | None = None) -> Sent:
    options = ReadOptions(rejection_limit=RejectionLimit.parse(most))
    source = open_fleet_file(config.record_schema, place, options, outcomes=topic == "outcomes")
    return send(config, source, topic, most=options.rejection_limit)


def csv(folder: Path, *rows: str, header: str = HEADER) -> Path:
    (folder / "a.csv").write_text(header + "".join(f"{row}\n" for row in rows))
    return folder / "a.csv"


def parquet(folder: Path, **columns: Any) -> Path:
    pq.write_table(pa.table(columns), folder / "a.parquet")
    return folder / "a.parquet"


def test_what_was_sent_before_an_interrupt_is_counted_and_said(
    broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = csv(tmp_path, *(f"e{at},2024-05-01T10:00:00Z,a,1.5" for at in range(5)))
    source = open_fleet_file(configured().record_schema, place, ReadOptions(), outcomes=False)
    take, shown = broker.produce, []

    def interrupted(*args: Any, **how: Any) -> None:
        if len(broker.records) == 3:
            raise KeyboardInterrupt
        take(*args, **how)

    monkeypatch.setattr(broker, "produce", interrupted)
    with pytest.raises(KeyboardInterrupt):
        send(configured(), source, "events", show=lambda sent: shown.append((sent.acknowledged, sent.finished)))
    assert shown[-1] == (3, True)


@pytest.mark.parametrize(
    ("store", "cells", "keys"),
    [
        ("string", ["NA", "US", "null", "007", "07", "1e5"], ["NA", "US", "null", "007", "07", "1e5"]),
        ("bigint", ["7", "-3", " 8 "], ["7", "-3", "8"]),
        ("boolean", ["true", "False"], ["true", "false"]),
        ("date", ["2024-05-01"], ["2024-05-01"]),
    ],
)
def test_keys_are_those_of_the_values_that_the_fleet_stores(
    broker: Broker, tmp_path: Path, store: str, cells: list[str], keys: list[str]
) -> None:
    place = csv(tmp_path, *(f"e{at},2024-05-01T10:00:00Z,{cell},1.5" for at, cell in enumerate(cells)))
    assert sent(configured(store), place).acknowledged == len(cells)
    assert [key.decode() for key, _ in broker.records] == [f'["{key}"]' for key in keys]


def test_floats_with_gaps_are_the_integers_they_were(broker: Broker, tmp_path: Path) -> None:
    place = parquet(tmp_path, id=["a", "b", "c"], at=[NOON] * 3, store=[3.0, None, 7.0], x=[1.0, 2.0, float("nan")])
    found = sent(configured("bigint"), place)
    assert [key for key, _ in broker.records] == [b'["3"]', b'["7"]']
    assert broker.records[1][1]["x"] is None
    assert found.rejections.counts == {("null_key", "store"): 1}


def test_what_json_cannot_say_is_left_out_where_nobody_declared_it(broker: Broker, tmp_path: Path) -> None:
    place = parquet(
        tmp_path,
        id=["a"], at=[NOON], store=["s"], x=[1.5],
        clock=pa.array([time(1, 2)], pa.time64("us")),
        took=pa.array([timedelta(1)], pa.duration("us")),
        all=pa.array([[NOON]], pa.list_(pa.timestamp("ns"))),
        inside=[{"y": 1}],
        raw=[b"x"],
    )  # fmt: skip
    assert sent(configured(), place).acknowledged == 1
    ((_, value),) = broker.records
    assert {name: value[name] for name in ("id", "at", "store", "x", "inside")} == {
        "id": "a", "at": "2024-05-01T12:00:00Z", "store": "s", "x": 1.5, "inside": {"y": 1},
    }  # fmt: skip
    assert not {"took", "raw"} & value.keys()


def test_rows_that_are_not_valid_are_not_sent_but_reported_with_their_number(broker: Broker, tmp_path: Path) -> None:
    rows = [f"e{at},2024-05-01T10:00:00Z,s,1.5" for at in range(60)]
    rows[50] = "e50,2024-05-01T10:00:00Z,s,n/a"
    rows[20] = "e20,2024-05-01T10:00:00Z,s"
    found = sent(configured(), csv(tmp_path, *rows))
    assert (found.acknowledged, found.rejections.rejected) == (58, 2)
    listed = {str(each["reason"]): each for each in found.rejections.as_dicts()}
    assert (listed["wrong_type"]["field"], listed["wrong_type"]["row"]) == ("x", 51)
    assert listed["wrong_type"]["example"] == 'x: expected double; got the text "n/a"'
    assert listed["not_an_object"]["row"] == 21
    assert listed["not_an_object"]["example"] == "expected 4 cells, as in the header; got 3"


def test_a_bad_line_of_json_is_one_rejected_row(broker: Broker, tmp_path: Path) -> None:
    good = '{"id": "a", "at": "2024-05-01 10:00", "store": 7, "x": "1.5"}'
    (tmp_path / "a.jsonl").write_text(f"{good}\n\n{{no\n{good}\n")
    found = sent(configured(), tmp_path / "a.jsonl")
    assert [key for key, _ in broker.records] == [b'["7"]'] * 2
    (only,) = found.rejections.as_dicts()
    assert (only["reason"], only["row"]) == ("not_json", 3)


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_a_file_without_a_required_column_is_refused_before_anything_is_sent(
    broker: Broker, tmp_path: Path, kind: str
) -> None:
    row = {"id": "a", "when": "2024-05-01T10:00:00Z", "store": "s", "sold": 1}
    text = json.dumps(row) if kind == "jsonl" else ",".join(row) + "\n" + ",".join(map(str, row.values()))
    (tmp_path / f"a.{kind}").write_text(text + "\n")
    problem = r"expected the columns id, store, sold, observed_at; it lacks observed_at and has id, when, store, sold\."
    with pytest.raises(ContractError, match=problem):
        sent(configured(), tmp_path / f"a.{kind}", "outcomes")
    assert broker.records == []


def test_a_file_of_which_every_row_is_bad_is_given_up_after_a_thousand(broker: Broker, tmp_path: Path) -> None:
    place = csv(tmp_path, *(f"e{at},2024-05-01T10:00:00Z,s,high" for at in range(3_000)))
    with pytest.raises(
        ContractError, match=r"none of the first 1,000 rows is valid: .* wrong_type in column x, as .*row 1:"
    ):
        sent(configured(), place)


@pytest.mark.parametrize(("most", "stopped_after"), [("3", 6), ("0", 0), ("30%", 29), ("40%", None), (None, None)])
def test_more_bad_rows_than_allowed_end_it(
    broker: Broker, tmp_path: Path, most: str | None, stopped_after: int | None
) -> None:
    """Of 44 rows each third is bad, from the first on: 15. A share is looked at in the end of so short a file."""
    place = csv(tmp_path, *(f"e{at},2024-05-01T10:00:00Z,s,{1 if at % 3 else 'bad'}" for at in range(44)))
    if stopped_after is None:
        assert sent(configured(), place, most=most).acknowledged == 29
        return
    with pytest.raises(ContractError, match="more than --max-rejected"):
        sent(configured(), place, most=most)
    assert len(broker.records) == stopped_after


@pytest.mark.parametrize("text", ["-1", "x", "101%", "1.5"])
def test_a_limit_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ContractError, match="--max-rejected: expected"):
        RejectionLimit.parse(text)


def test_the_command_ends_with_1_and_says_reason_file_and_row(
    broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("fleet.toml").write_text(TEXT.format(store="string"))
    place = csv(tmp_path, "a;2024-05-01T10:00:00Z;s;1,5", "b;soon;s;1,5", header="id;at;store;x\n")
    done = CliRunner().invoke(main, ["produce", str(place), "--json"])
    assert done.exit_code == 1
    assert "a.csv: numbers are read with a decimal comma" in done.stderr
    assert f"1 rejected: wrong_type in at; the first: {place} row 2: at: expected timestamp" in done.stderr
    assert "1 rows are not valid and were not sent" in done.stderr
    report = json.loads(done.stdout)
    assert (report["sent"], report["failed"], report["rejected"]) == (1, 0, 1)
    assert broker.records[0][1]["x"] == 1.5
    done = CliRunner().invoke(main, ["produce", str(place), "--delimiter", "ab"])
    assert (done.exit_code, "--delimiter: expected one character" in done.stderr) == (2, True)


def test_nothing_is_sent_by_columns_that_were_edited_and_not_migrated(
    tmp_path: Path, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    charter.ensure_charter(FleetStore.of(configured("int")))
    (tmp_path / "new.csv").write_text(f"{HEADER}1,2024-05-01T12:00:00Z,a,1.5\n")
    with pytest.raises(StoreError, match="carry it out with `spinney migrate --yes`"):
        sent(configured("string"), tmp_path / "new.csv")
    assert broker.records == []
