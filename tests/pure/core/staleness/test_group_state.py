from __future__ import annotations

from hashlib import sha256

import numpy as np
import pyarrow as pa
import pytest

from spinney.core.errors import Corrupt
from spinney.core.staleness.group_state import NEVER, SCHEMA, STATE_COLUMNS, GroupStates
from spinney.core.state_codec import decode_batch, encode_batch


def test_a_new_group_starts_with_what_is_reported_of_each_thing_known() -> None:
    groups = GroupStates.empty()
    assert groups.positions_of(["a"]).tolist() == [0]
    for known in STATE_COLUMNS:
        np.testing.assert_array_equal(groups[known.name], np.array([known.initial], dtype=groups[known.name].dtype))


def test_groups_are_found_where_they_stand_and_new_ones_come_last() -> None:
    groups = GroupStates.empty()
    groups.positions_of(["b", "a"])
    assert groups.positions_of(["a", "c", "b", "c"]).tolist() == [1, 2, 0, 2]
    assert groups.keys == ["b", "a", "c"]
    assert len(groups) == 3


def test_a_new_group_leaves_what_is_known_of_others() -> None:
    groups = GroupStates.empty()
    groups.positions_of(["a"])
    groups["rows_since"][0] = 7
    groups.positions_of(["b"])
    assert groups["rows_since"].tolist() == [7, 0]


def test_a_copy_changes_alone() -> None:
    groups = GroupStates.empty()
    groups.positions_of(["a"])
    copy = groups.copy()
    copy["rows_since"][0] = 7
    copy.positions_of(["b"])
    assert groups.keys == ["a"]
    assert groups["rows_since"].tolist() == [0]
    assert groups.positions_of(["c"]).tolist() == [1]


def test_parents_are_reported_from_groups_by_their_keys() -> None:
    groups = GroupStates.empty()
    groups.positions_of(['["AA"]', '{"dest":"LAX"}', "{}", '["{}"]'])
    assert groups.are_parents.tolist() == [False, True, True, False]


def test_groups_survive_as_bytes_and_can_be_written_to() -> None:
    groups = GroupStates.empty()
    groups.positions_of(['["ü"]', "{}"])
    groups["champion_id"][0] = "m1"
    groups["baseline"][0] = 0.1
    groups["pinned"][1] = True
    groups["retry_at"][1] = 2**60
    again = GroupStates.from_bytes(groups.to_bytes())
    assert again.keys == groups.keys
    for known in STATE_COLUMNS:
        np.testing.assert_array_equal(again[known.name], groups[known.name])
        assert again[known.name].dtype == groups[known.name].dtype
    again["refusals"][0] += 1
    assert again.positions_of(["{}", "new"]).tolist() == [1, 2]


def test_groups_are_stored_compressed_and_those_that_were_stored_plain_are_read() -> None:
    groups = GroupStates.empty()
    groups.positions_of(f'["AA","{n}"]' for n in range(800))
    groups["champion_id"][:] = [sha256(key.encode()).hexdigest() for key in groups.keys]
    groups["baseline"][:] = np.random.default_rng(1).normal(size=800)
    plain = encode_batch(decode_batch(groups.to_bytes(), SCHEMA))
    assert len(groups.to_bytes()) < len(plain) / 3
    again = GroupStates.from_bytes(plain)
    assert again.keys == groups.keys
    for known in STATE_COLUMNS:
        np.testing.assert_array_equal(again[known.name], groups[known.name])


def test_no_groups_survive_as_bytes() -> None:
    assert len(GroupStates.from_bytes(GroupStates.empty().to_bytes())) == 0


def test_bytes_of_groups_with_other_things_known_are_refused() -> None:
    fewer = pa.RecordBatch.from_pydict({"group_key": ["a"], "epoch": [1]})
    with pytest.raises(Corrupt, match=r"got group_key string, epoch int64\. Restore the fleet's root"):
        GroupStates.from_bytes(encode_batch(fewer))


def test_broken_bytes_are_refused() -> None:
    with pytest.raises(Corrupt):
        GroupStates.from_bytes(b"\x00\x01")


def test_every_thing_known_is_explained() -> None:
    assert all(known.doc for known in STATE_COLUMNS)
    assert len({known.name for known in STATE_COLUMNS}) == len(STATE_COLUMNS)


def test_the_time_that_has_not_come_can_be_subtracted_from_any_other() -> None:
    times = np.array([NEVER, 0, 253_402_300_799_000_000])  # the year 9999
    assert ((times - np.int64(NEVER)) >= 0).all()
