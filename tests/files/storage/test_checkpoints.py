from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from spinney.storage.checkpoints import (
    end_offsets,
    kafka_end_offsets,
    newest_batch_id,
    previous_start,
    query_id,
    remove_state,
    rewind,
    started_batch,
    unfinished_since,
    write_query_id,
)


def test_an_identity_is_written_once_and_as_spark_writes_it(tmp_path: Path) -> None:
    place = f"{tmp_path}/checkpoints/ingest"
    name = query_id(place)
    write_query_id(place, name)
    assert query_id(place) == name
    write_query_id(place, "another")
    assert json.loads((Path(place) / "metadata").read_text()) == {"id": name}
    assert query_id(f"{tmp_path}/checkpoints/score") != name


def test_a_new_identity_leaves_no_trace_until_it_is_kept(tmp_path: Path) -> None:
    """A start that is refused must leave room for the folder that is put back."""
    query_id(f"{tmp_path}/checkpoints/ingest")
    assert not (tmp_path / "checkpoints").exists()


def test_sparks_own_identity_is_taken(tmp_path: Path) -> None:
    (tmp_path / "metadata").write_text('{"id":"5a1c"}')
    assert query_id(str(tmp_path)) == "5a1c"


def test_the_newest_batch_is_the_greatest_number_and_not_the_last_name(tmp_path: Path) -> None:
    assert newest_batch_id(str(tmp_path), "offsets") is None
    (tmp_path / "offsets").mkdir()
    assert newest_batch_id(str(tmp_path), "offsets") is None
    for name in ("9", "10", ".10.crc", "10.tmp"):
        (tmp_path / "offsets" / name).write_text("")
    assert newest_batch_id(str(tmp_path), "offsets") == 10
    assert newest_batch_id(str(tmp_path), "commits") is None


def test_the_end_offsets_of_each_source_are_read_and_an_untouched_one_has_none(tmp_path: Path) -> None:
    (tmp_path / "offsets").mkdir()
    lines = ["v1", '{"batchWatermarkMs":0}', '{"sales":{"0":12,"1":7}}', "-", '{"sourceVersion":1}']
    (tmp_path / "offsets" / "3").write_text("\n".join(lines))
    assert end_offsets(str(tmp_path), 3) == ['{"sales":{"0":12,"1":7}}', None, '{"sourceVersion":1}']


METADATA = '{"batchWatermarkMs":0,"batchTimestampMs":1700000000000,"conf":{"sales":{"0":1}}}'


def checkpoint(place: Path, *batches: tuple[str, ...], ended: int) -> str:
    """A checkpoint as Spark leaves it on a local disk: the newest of `batches` is number `len(batches)` - 1."""
    for folder in ("offsets", "commits", "sources/0", "sources/1"):
        (place / folder).mkdir(parents=True)
    for number, sources in enumerate(batches):
        (place / "offsets" / str(number)).write_text("\n".join(["v1", METADATA, *sources]))
        (place / "offsets" / f".{number}.crc").write_text("a checksum")
    (place / "commits" / str(ended)).write_text("v1\n{}")
    (place / "sources" / "0" / "0").write_bytes(b'\0v1\n{"sales":{"0":5,"1":0}}')
    (place / "sources" / "1" / "0").write_bytes(b'\0v1\n{"till":{"0":0}}')
    return str(place)


SALES, TILL, DELTA = '{"sales":{"0":12,"1":7}}', '{"till":{"0":3}}', '{"sourceVersion":1,"reservoirVersion":4}'


def test_a_topic_that_is_rewound_is_read_from_there_and_the_others_from_where_they_stood(tmp_path: Path) -> None:
    place = checkpoint(tmp_path, (SALES, TILL, DELTA), (SALES, TILL, DELTA), (SALES, TILL, DELTA), ended=2)
    rewind(place, "sales", {"0": 0, "1": 2, "2": 0})
    rewound = '{"sales":{"0":0,"1":2,"2":0}}'
    assert end_offsets(place, 2) == end_offsets(place, 1) == [rewound, TILL, DELTA]
    assert end_offsets(place, 0) == [SALES, TILL, DELTA]
    assert kafka_end_offsets(place, "sales") == {"0": 0, "1": 2, "2": 0}
    assert kafka_end_offsets(place, "till") == {"0": 3}
    assert (tmp_path / "offsets" / "2").read_text().splitlines()[:2] == ["v1", METADATA]
    assert (tmp_path / "sources" / "0" / "0").read_bytes() == b"\0v1\n" + rewound.encode()
    assert (tmp_path / "sources" / "1" / "0").read_bytes() == b'\0v1\n{"till":{"0":0}}'
    # Hadoop would refuse a file that does not fit its checksum.
    assert sorted(each.name for each in (tmp_path / "offsets").glob(".*")) == [".0.crc"]


def test_a_batch_under_way_is_replayed_without_the_topic_that_was_rewound(tmp_path: Path) -> None:
    place = checkpoint(tmp_path, (SALES, TILL), ('{"sales":{"0":20,"1":9}}', '{"till":{"0":8}}'), ended=0)
    rewind(place, "sales", {"0": 0})
    assert not started_batch(place, 1).is_committed
    assert end_offsets(place, 0) == ['{"sales":{"0":0}}', TILL]
    assert end_offsets(place, 1) == ['{"sales":{"0":0}}', '{"till":{"0":8}}']


def test_a_query_that_never_ran_has_nothing_to_rewind(tmp_path: Path) -> None:
    rewind(str(tmp_path / "score"), "sales", {"0": 0})
    assert kafka_end_offsets(str(tmp_path / "score"), "sales") is None
    assert not (tmp_path / "score").exists()


def test_the_state_of_one_operator_is_removed_and_no_other(tmp_path: Path) -> None:
    for operator in (0, 1):
        (tmp_path / "state" / str(operator) / "_metadata").mkdir(parents=True)
    remove_state(str(tmp_path), 1)
    remove_state(str(tmp_path), 1)
    assert [path.name for path in (tmp_path / "state").iterdir()] == ["0"]


@pytest.mark.parametrize(("started", "batch_id", "expected"), [([4], 4, 4), ([3, 4], 4, 3), ([1, 4, 5], 4, 1)])
def test_the_batch_before_is_the_newest_earlier_one_that_the_checkpoint_has(
    tmp_path: Path, started: list[int], batch_id: int, expected: int
) -> None:
    (tmp_path / "offsets").mkdir()
    for number in started:
        times = f'{{"batchWatermarkMs":0,"batchTimestampMs":{number * 1000}}}'
        (tmp_path / "offsets" / str(number)).write_text(f"v1\n{times}\n-\n")
    assert previous_start(str(tmp_path), batch_id).timestamp() == expected


def test_a_batch_that_was_started_and_not_committed_is_unfinished(tmp_path: Path) -> None:
    assert unfinished_since(str(tmp_path)) is None
    for log, name in (("offsets", "4"), ("commits", "4"), ("offsets", "5")):
        (tmp_path / log).mkdir(exist_ok=True)
        (tmp_path / log / name).write_text(f"v1\n{METADATA}")
        at = datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)
        assert unfinished_since(str(tmp_path)) == (None if log == "commits" else at)
