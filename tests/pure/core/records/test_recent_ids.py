from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spinney.core.records.recent_ids import SLOTS, IdHashes, RecentIds, join_hashes
from spinney.core.timestamps import to_microseconds

START = datetime(2024, 5, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


def hashes(*ids: str, group: str = '["a"]') -> IdHashes:
    return IdHashes.of(pa.array([group] * len(ids), pa.string()), pa.array(ids, pa.string()))


def add(recent: RecentIds, at: datetime, *ids: str) -> None:
    recent.add(hashes(*ids), to_microseconds(at))


def test_an_id_is_recognised_in_its_group_only() -> None:
    recent = RecentIds(HOUR)
    add(recent, START, "1", "2")
    assert recent.contain(hashes("2", "3", "1")).tolist() == [True, False, True]
    assert not recent.contain(hashes("1", "2", group='["b"]')).any()


def test_no_two_pairs_of_group_and_id_are_the_same_text() -> None:
    ids = IdHashes.of(pa.array(['["a"]', '["a"]x']), pa.array(["x1", "1"]))
    assert ids.first_of_each().all()


def test_the_first_of_equal_ids_counts() -> None:
    assert hashes("b", "a", "b", "c", "a", "b").first_of_each().tolist() == [True, True, False, True, False, False]
    assert hashes().first_of_each().tolist() == []


def test_ids_that_share_a_key_are_told_apart_by_their_further_bits() -> None:
    one_key = IdHashes(np.array([7, 7, 7], np.uint64), np.array([3, 1, 2], np.uint32))
    recent = RecentIds(HOUR)
    recent.add(one_key.take(np.array([0, 2])), to_microseconds(START))
    assert recent.contain(one_key).tolist() == [True, False, True]
    assert one_key.first_of_each().all()


def test_all_equal_ids_of_a_run_are_found_also_beside_others_with_the_same_key() -> None:
    run = IdHashes(np.array([3, 7, 7, 7, 9], np.uint64), np.array([1, 5, 6, 5, 1], np.uint32))
    wanted = IdHashes(np.array([7, 3, 7, 9, 11], np.uint64), np.array([5, 2, 6, 1, 1], np.uint32))
    places, found = wanted.equal_in(run)
    assert sorted(zip(places.tolist(), found.tolist(), strict=True)) == [(0, 1), (0, 3), (2, 2), (3, 4)]
    assert [len(each) for each in run.take(np.array([], np.int64)).equal_in(run)] == [0, 0]


def test_hashes_survive_their_bytes_and_come_from_whole_digests() -> None:
    ids = hashes(*map(str, range(100)))
    again = IdHashes.from_bytes(ids.to_bytes())
    np.testing.assert_array_equal(again.keys, ids.keys)
    np.testing.assert_array_equal(again.checks, ids.checks)


@pytest.mark.parametrize(("minutes", "is_there"), [(59, True), (60, True), (64, False), (600, False)])
def test_an_id_is_forgotten_with_its_slot_after_the_time(minutes: int, is_there: bool) -> None:
    recent = RecentIds(HOUR)
    add(recent, START, "1")
    recent.forget(START + timedelta(minutes=minutes))
    assert recent.contain(hashes("1")).tolist() == [is_there]
    assert len(recent) == is_there


STEPS = st.lists(st.tuples(st.integers(0, 40), st.lists(st.integers(0, 60), max_size=12)), max_size=40)


@given(STEPS)
def test_it_remembers_what_a_dictionary_of_times_remembers(steps: list[tuple[int, list[int]]]) -> None:
    recent, arrived, now = RecentIds(HOUR), {}, START
    every = hashes(*map(str, range(61)))
    for minutes, ids in steps:
        now += timedelta(minutes=minutes)
        recent.forget(now)
        is_there = recent.contain(every)
        for number in range(61):
            age = now - arrived.get(number, START - 100 * HOUR)
            if age <= HOUR:
                assert is_there[number]
            elif age > HOUR + HOUR / SLOTS:
                assert not is_there[number]
        add(recent, now, *map(str, ids))
        arrived |= dict.fromkeys(ids, now)


@given(STEPS, st.randoms(use_true_random=False))
def test_what_is_remembered_does_not_depend_on_the_order_in_which_it_was_added(steps, random) -> None:
    now, added = START, []
    for minutes, ids in steps:
        now += timedelta(minutes=minutes)
        added += [(number, to_microseconds(now)) for number in ids]
    in_order, shuffled = RecentIds(HOUR), RecentIds(HOUR)
    for number, at in added:
        in_order.add(hashes(str(number)), at)
    random.shuffle(added)
    numbers, times = [number for number, _ in added], np.array([at for _, at in added], np.int64)
    shuffled.add(hashes(*map(str, numbers)), times)
    every = hashes(*map(str, range(61)))
    for recent in (in_order, shuffled):
        recent.forget(now)
    np.testing.assert_array_equal(in_order.contain(every), shuffled.contain(every))


def test_many_ids_stay_in_few_runs_and_are_all_found() -> None:
    recent, whole = RecentIds(HOUR), []
    for batch in range(200):
        ids = hashes(*(f"{batch}-{n}" for n in range(20)))
        recent.add(ids, to_microseconds(START + batch * HOUR / 200))
        whole.append(ids)
    recent.forget(START + HOUR)
    assert recent.contain(join_hashes(whole)).all()
    assert len(recent) == 4_000
