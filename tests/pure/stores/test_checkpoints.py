from __future__ import annotations

import json
from pathlib import Path

from spinney.stores.checkpoints import identity, keep, newest, offsets


def test_an_identity_is_written_once_and_as_spark_writes_it(tmp_path: Path) -> None:
    place = f"{tmp_path}/checkpoints/ingest"
    name = identity(place)
    keep(place, name)
    assert identity(place) == name
    keep(place, "another")
    assert json.loads((Path(place) / "metadata").read_text()) == {"id": name}
    assert identity(f"{tmp_path}/checkpoints/score") != name


def test_a_new_identity_leaves_no_trace_until_it_is_kept(tmp_path: Path) -> None:
    """A start that is refused must leave room for the folder that is put back."""
    identity(f"{tmp_path}/checkpoints/ingest")
    assert not (tmp_path / "checkpoints").exists()


def test_sparks_own_identity_is_taken(tmp_path: Path) -> None:
    (tmp_path / "metadata").write_text('{"id":"5a1c"}')
    assert identity(str(tmp_path)) == "5a1c"


def test_the_newest_batch_is_the_greatest_number_and_not_the_last_name(tmp_path: Path) -> None:
    assert newest(str(tmp_path), "offsets") is None
    (tmp_path / "offsets").mkdir()
    assert newest(str(tmp_path), "offsets") is None
    for name in ("9", "10", ".10.crc", "10.tmp"):
        (tmp_path / "offsets" / name).write_text("")
    assert newest(str(tmp_path), "offsets") == 10
    assert newest(str(tmp_path), "commits") is None


def test_the_end_offsets_of_each_source_are_read_and_an_untouched_one_has_none(tmp_path: Path) -> None:
    (tmp_path / "offsets").mkdir()
    lines = ["v1", '{"batchWatermarkMs":0}', '{"sales":{"0":12,"1":7}}', "-", '{"sourceVersion":1}']
    (tmp_path / "offsets" / "3").write_text("\n".join(lines))
    assert offsets(str(tmp_path), 3) == ['{"sales":{"0":12,"1":7}}', None, '{"sourceVersion":1}']
