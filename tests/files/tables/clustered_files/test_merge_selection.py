"""Few sorted runs, and no row rewritten often."""

from __future__ import annotations

import random

import numpy as np
import pytest

from spinney.tables.clustered_files.merge_selection import (
    AT_REST,
    GROWING,
    GROWTH,
    LEVEL_BYTES,
    Run,
    choose_runs,
    row_group_rows,
)

MIB = 1024**2
NOTHING = Run("", (), 0)


def fresh(files: int, size: int) -> Run:
    return Run("", tuple(f"part-{at}" for at in range(files)), size)


def run(name: str, size: int) -> Run:
    return Run(name, (f"{name}-0",), size)


def test_a_table_that_grows_for_long_keeps_few_runs_and_rewrites_each_byte_few_times() -> None:
    """500 times 64 MiB of new files: 31 GiB, three levels."""
    runs: list[Run] = []
    rewritten = most = 0
    for number in range(500):
        chosen = choose_runs(fresh(200, LEVEL_BYTES), runs, GROWING)
        rewritten += sum(each.bytes for each in chosen)
        runs = [each for each in runs if each not in chosen] + [run(f"r{number}", sum(each.bytes for each in chosen))]
        most = max(most, len(runs))
    assert sum(each.bytes for each in runs) == 500 * LEVEL_BYTES
    assert most <= 3 * (GROWTH - 1)
    assert rewritten <= 3 * 500 * LEVEL_BYTES


def test_new_files_wait_until_there_are_enough_of_them_or_someone_asks() -> None:
    assert choose_runs(fresh(199, MIB), [], GROWING) == []
    for new in (fresh(200, MIB), fresh(2, LEVEL_BYTES)):
        assert choose_runs(new, [], GROWING) == [new]
    assert choose_runs(fresh(1, 1), [], AT_REST) == [fresh(1, 1)]


def test_a_large_run_is_left_alone_when_little_is_new() -> None:
    large, small = run("large", 2000 * MIB), run("small", 30 * MIB)
    assert choose_runs(fresh(200, MIB), [large, small], GROWING) == [fresh(200, MIB)]
    assert choose_runs(fresh(1, MIB), [large, small], AT_REST) == [fresh(1, MIB), small]


def test_a_table_at_rest_has_one_run_a_level_and_then_nothing_to_do() -> None:
    assert choose_runs(NOTHING, [run("a", MIB), run("b", 3 * MIB), run("c", 600 * MIB)], AT_REST) == [
        run("a", MIB),
        run("b", 3 * MIB),
    ]
    assert choose_runs(NOTHING, [run("b", 3 * MIB), run("c", 600 * MIB)], AT_REST) == []
    assert choose_runs(NOTHING, [], AT_REST) == []


@pytest.mark.parametrize("each", [3, 60, 130, 1000])
def test_row_groups_are_about_as_large_as_wanted_and_end_with_a_shard_where_one_ends_near(each) -> None:
    chance = random.Random(each)
    sizes = [chance.randint(each // 2, each * 2) for _ in range(3000 // each + 3)]
    shards = np.repeat(np.arange(len(sizes)), sizes)
    at, cuts = 0, []
    while at < len(shards):
        rows = row_group_rows(shards[at:], 100)
        cuts.append((at, at + rows))
        at += rows
    assert at == len(shards)
    assert all(50 <= end - start <= 150 for start, end in cuts[:-1])
    for start, end in cuts[:-1]:
        inside = [place for place in np.flatnonzero(np.diff(shards)) + 1 if start + 50 <= place <= min(start + 150, at)]
        assert not inside or end in inside
    if each >= 60:
        assert sum(len(set(shards[start:end])) > 1 for start, end in cuts) <= len([s for s in sizes if s < 50])
