"""Which rows a round fits on; the oracle is plain pandas over the same tables."""

from __future__ import annotations

import shutil
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xxhash

from schemas import tables
from spinney.core import keys
from spinney.core.config import Config
from spinney.core.errors import StoreError
from spinney.core.recipes.recipe import Recipe
from spinney.core.training.training_set import select_training_set
from spinney.retraining.fitting import first_rows_per_group
from spinney.retraining.fitting.first_rows_per_group import Selection
from spinney.retraining.fitting.parent_samples import PARENT, cut_samples, read_parent_rows
from spinney.retraining.fitting.training_row_reader import (
    TrainingTables,
    events_per_group,
    events_per_key,
    events_per_parent,
    read_group_rows,
    shard_ranges,
)
from spinney.retraining.round_request import READ
from spinney.storage.layout import FleetStore
from spinney.tables import delta, snapshot
from spinney.tables.snapshot import ShardRange
from spinney.tables.table_files import GroupIndex

START = pd.Timestamp("2024-05-01", tz="UTC")
CLOCK = START + timedelta(days=12)
BY_DEPT, ALL = '{"dept":"1"}', "{}"


def chosen(config: Config, *group_keys: str, pins=None, clock: datetime = CLOCK, wanted=None) -> pd.DataFrame:
    """The rows of groups and parents, these out of the samples of two shard ranges."""
    source = TrainingTables.of(
        FleetStore.of(config),
        config.recipe,
        pins or delta.pin_versions(FleetStore.of(config), *READ),
        clock.to_pydatetime(),
    )
    groups = [key for key in group_keys if not keys.is_parent(key)]
    parents = [key for key in group_keys if keys.is_parent(key)]
    names = ["group_key", "event_id", "event_time", "price", "stock", "label"]
    own = read_group_rows(source, pa.array(groups, pa.string()), wanted or GroupIndex(groups, 4))
    found = [own.table.to_pandas().assign(group_key=np.repeat(groups, np.diff(own.starts)))]
    if parents:
        samples = [read_parent_rows(source, parents, shards)[0] for shards in shard_ranges(4, 2)]
        drawn = cut_samples(pa.concat_tables(samples), source.max_rows).to_pandas()
        found.append(drawn.assign(group_key=[parents[at] for at in drawn[PARENT]]))
    return in_order(pd.concat(found)[names])


def in_order(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.sort_values(["group_key", "event_time", "event_id"], ignore_index=True)


def signed_hash(text: str, group_key: str) -> int:
    found = xxhash.xxh64_intdigest(text.encode(), seed=xxhash.xxh64_intdigest(group_key.encode(), seed=42))
    return found - (1 << 64) if found >= 1 << 63 else found


def oracle(fleet, *group_keys: str) -> pd.DataFrame:
    """Window 10d, window_rows 30, parents.max_rows 40, label_delay 1h: as the configuration says."""
    events, outcomes = (pd.DataFrame(fleet.rows(base)) for base in (tables.EVENTS, tables.OUTCOMES))
    mature = events[
        (events["event_time"] <= CLOCK - timedelta(hours=1)) & (events["event_time"] >= CLOCK - timedelta(days=10))
    ]
    known = outcomes[outcomes["observed_at"] <= CLOCK].sort_values(["observed_at", "label"])
    labels = known.drop_duplicates(["group_key", "event_id"])[["group_key", "event_id", "label"]]
    labelled = mature.merge(labels, on=["group_key", "event_id"])
    found = []
    for key in group_keys:
        if keys.is_parent(key):
            mine = labelled[labelled["dept"] == 1] if key == BY_DEPT else labelled
            drawn = [signed_hash(*each) for each in zip(mine["event_id"], mine["group_key"], strict=True)]
            mine = mine.assign(drawn=drawn).sort_values("drawn").head(40)
        else:
            mine = labelled[labelled["group_key"] == key].sort_values(["event_time", "event_id"]).tail(30)
        found.append(mine.assign(group_key=key)[["group_key", "event_id", "event_time", "price", "stock", "label"]])
    return in_order(pd.concat(found))


@pytest.fixture
def fleet(world):
    made = world()
    made.sell("a", 1, 50, since=CLOCK - timedelta(hours=40))  # its end is not mature, its labels later than the clock
    made.sell("a", 2, 12, since=CLOCK - timedelta(days=10, hours=3))  # its beginning is older than the window
    made.sell("b", 1, 20, since=START + timedelta(days=5))
    unlabelled = made.event("b", 1, "never labelled", START + timedelta(days=6), price=1.0, stock=1)
    without_feature = made.event("b", 1, "no price", START + timedelta(days=6), stock=1)
    made.put(tables.EVENTS, [unlabelled, without_feature])
    corrected = {9.5: START + timedelta(days=7), 9.0: START + timedelta(days=7), 8.0: START + timedelta(days=8)}
    twice = [made.outcome(without_feature, label, at) for label, at in corrected.items()]
    too_late = made.outcome(unlabelled, 1.0, CLOCK + timedelta(seconds=1))
    of_another_group = {**too_late, "group_key": '["a","2"]', "observed_at": START}
    made.put(tables.OUTCOMES, [*twice, too_late, of_another_group])
    return made


def test_groups_and_parents_get_the_rows_that_pandas_chooses(fleet) -> None:
    wanted = ('["a","1"]', '["b","1"]', BY_DEPT, ALL, '["nobody","1"]')
    got, expected = chosen(fleet.config, *wanted), oracle(fleet, *wanted[:-1])
    pd.testing.assert_frame_equal(got, expected, check_dtype=False)
    by_group = got.groupby("group_key").size().to_dict()
    assert by_group == {'["a","1"]': 30, '["b","1"]': 21, BY_DEPT: 40, ALL: 40}
    assert got.loc[got["event_id"] == "no price", "label"].tolist()[:1] == [9.0]  # known first; of two then, the least


def test_without_parents_only_the_requested_groups_are_read(fleet) -> None:
    requested = ['["a","2"]', '["b","1"]']
    expected = oracle(fleet, *requested)
    removed = 0
    for base in (tables.EVENTS, tables.OUTCOMES):
        for path in Path(FleetStore.of(fleet.config).directory(base).uri).rglob("*.parquet"):
            keys_in_file = pq.read_table(path, columns=["group_key"], partitioning=None).column(0).to_pylist()
            if not set(requested) & set(keys_in_file):
                path.unlink()  # opening it fails from here on
                removed += 1
    assert removed >= 2
    got = chosen(fleet.config, *requested)
    pd.testing.assert_frame_equal(got, expected, check_dtype=False)
    assert len(got[got["group_key"] == '["a","2"]']) == 9  # 12 but for the first three: the fourth is as old as allowed
    with pytest.raises(StoreError, match="a file of the version"):
        chosen(fleet.config, *requested, wanted=ShardRange(0, 3))


def test_the_window_ends_in_the_table_where_it_ends_for_the_fit(world) -> None:
    made = world()
    edge = CLOCK - timedelta(days=10)
    at = {"older": edge - timedelta(microseconds=1), "at the edge": edge, "younger": edge + timedelta(microseconds=1)}
    events = [made.event("a", 1, event_id, when, price=1.0, stock=1) for event_id, when in at.items()]
    made.put(tables.EVENTS, events)
    made.put(tables.OUTCOMES, [made.outcome(row, 1.0, max(row["event_time"], edge)) for row in events])
    by_table = chosen(made.config, '["a","1"]')
    frame = pd.DataFrame(events).assign(label=1.0)
    by_core = select_training_set(frame, ['["a","1"]'], Recipe.of(made.config), CLOCK.to_pydatetime())
    assert by_table["event_id"].tolist() == by_core.ids.tolist() == ["at the edge", "younger"]


def test_a_file_of_labels_older_than_the_window_is_not_opened(fleet) -> None:
    before = chosen(fleet.config, '["b","1"]')
    files = {each.name for each in Path(FleetStore.of(fleet.config).directory(tables.OUTCOMES).uri).rglob("*.parquet")}
    old = fleet.event("b", 1, "old", CLOCK - timedelta(days=11))
    fleet.put(tables.OUTCOMES, [fleet.outcome(old, 1.0, CLOCK - timedelta(days=10, hours=1))])
    (added,) = [
        each
        for each in Path(FleetStore.of(fleet.config).directory(tables.OUTCOMES).uri).rglob("*.parquet")
        if each.name not in files
    ]
    added.unlink()  # who opens it now, fails
    pd.testing.assert_frame_equal(chosen(fleet.config, '["b","1"]'), before)


def test_what_is_appended_after_the_pins_does_not_count(fleet) -> None:
    pins = delta.pin_versions(FleetStore.of(fleet.config), *READ)
    before = chosen(fleet.config, '["b","1"]', BY_DEPT)
    fleet.sell("b", 1, 15, since=START + timedelta(days=8))
    pd.testing.assert_frame_equal(chosen(fleet.config, '["b","1"]', BY_DEPT, pins=pins), before)
    assert len(chosen(fleet.config, '["b","1"]')) == 30


def test_labels_inside_the_events_need_no_outcomes(world) -> None:
    made = world(('outcomes = "sold"', ""))
    at = CLOCK - timedelta(days=1)
    made.put(
        tables.EVENTS, [made.event("a", 1, f"e{n}", at, price=1.0, sold=label) for n, label in enumerate((2.5, None))]
    )
    got = chosen(made.config, '["a","1"]', ALL)
    assert got[["group_key", "event_id", "label"]].to_numpy().tolist() == [['["a","1"]', "e0", 2.5], [ALL, "e0", 2.5]]


@pytest.mark.parametrize("wanted", [ShardRange(0, 3), GroupIndex(['["a","2"]', '["b","1"]'], 4)])
def test_reading_whole_shards_and_looking_groups_up_give_the_same_rows(fleet, wanted) -> None:
    got = chosen(fleet.config, '["a","2"]', '["b","1"]', wanted=wanted)
    pd.testing.assert_frame_equal(got, oracle(fleet, '["a","2"]', '["b","1"]'), check_dtype=False)


def test_of_rows_of_one_time_at_the_edge_of_the_window_those_with_the_greatest_ids_stay(world) -> None:
    made = world(('outcomes = "sold"', ""))
    at = CLOCK - timedelta(days=1)
    events = [made.event("a", 1, f"e{n * 7 % 40:02}", at, price=1.0, sold=float(n)) for n in range(40)]
    made.put(tables.EVENTS, events[:25])
    made.put(tables.EVENTS, events[25:])
    assert chosen(made.config, '["a","1"]')["event_id"].tolist() == [f"e{n:02}" for n in range(10, 40)]


def test_a_file_that_is_gone_since_the_plan_is_an_error_and_not_fewer_rows(fleet) -> None:
    (path,) = list(Path(FleetStore.of(fleet.config).directory(tables.EVENTS).uri).rglob("*.parquet"))[:1]
    path.unlink()
    with pytest.raises(StoreError, match="table events: a file of the version that this round was planned with is"):
        chosen(fleet.config, '["a","1"]', '["a","2"]', '["b","1"]', wanted=ShardRange(0, 3))


def test_the_events_in_the_window_are_counted_for_every_group_and_parent(fleet) -> None:
    source = TrainingTables.of(
        FleetStore.of(fleet.config),
        fleet.config.recipe,
        delta.pin_versions(FleetStore.of(fleet.config), *READ),
        CLOCK.to_pydatetime(),
    )
    counts = events_per_group(source, ShardRange(0, 3))
    events = pd.DataFrame(fleet.rows(tables.EVENTS))
    inside = events["event_time"].between(CLOCK - timedelta(days=10), CLOCK - timedelta(hours=1))
    expected = inside.groupby(events["group_key"]).sum().to_dict()
    assert dict(zip(*(counts.column(name).to_pylist() for name in ("group_key", "events")), strict=True)) == expected
    assert sum(expected.values()) > 0
    named = {BY_DEPT: events["dept"] == 1, '{"dept":"2"}': events["dept"] == 2, ALL: events["dept"] > 0}
    assert events_per_parent(source, counts) == {key: int((inside & mine).sum()) for key, mine in named.items()}
    asked = ['["a","2"]', '["nobody","1"]']
    assert events_per_key(source, asked) == {'["a","2"]': expected['["a","2"]'], '["nobody","1"]': 0}
    assert events_per_key(source, [ALL, *asked])[ALL] == int(inside.sum())


@pytest.mark.parametrize("by_shard", [False, True])
def test_counting_opens_no_file_of_other_groups_or_of_times_outside_the_window(world, monkeypatch, by_shard) -> None:
    made = world()
    mine = '["a","1"]'
    others = [shop for shop in "bcdfg" if keys.shard_of(keys.encode([shop, 1]), 4) != keys.shard_of(mine, 4)]
    assert len(others) == 5
    made.sell("a", 1, 12, since=CLOCK - timedelta(days=2))
    kept = {each.name for each in Path(FleetStore.of(made.config).directory(tables.EVENTS).uri).rglob("*.parquet")}
    made.sell("a", 1, 12, since=CLOCK - timedelta(days=20))
    for shop in others:
        made.sell(shop, 1, 12, since=CLOCK - timedelta(days=2))
    source = TrainingTables.of(
        FleetStore.of(made.config),
        made.config.recipe,
        delta.pin_versions(FleetStore.of(made.config), *READ),
        CLOCK.to_pydatetime(),
    )
    for file in Path(FleetStore.of(made.config).directory(tables.EVENTS).uri).rglob("*.parquet"):
        if file.name not in kept:
            file.unlink()  # who opens it now, fails
    if by_shard:
        monkeypatch.setattr(snapshot, "WHOLE_SHARDS_FROM", 1)
    assert events_per_key(source, [mine]) == {mine: 12}


@pytest.mark.parametrize("kind", ["decimal(10,2)", "int", "float"])
def test_late_labels_of_every_type_of_number_are_read_the_first_one_counting(world, kind: str) -> None:
    made = world(('sold = "double"', f'sold = "{kind}"'))
    row = made.event("a", 1, "e", CLOCK - timedelta(days=1), price=1.0)
    made.put(tables.EVENTS, [row])
    value = {"decimal(10,2)": Decimal, "int": int, "float": float}[kind]
    expected = {2: 7, 3: 9}
    outcomes = [made.outcome(row, value(label), CLOCK - timedelta(hours=ago)) for ago, label in expected.items()]
    made.put(tables.OUTCOMES, outcomes)
    assert chosen(made.config, '["a","1"]')["label"].tolist() == [9]


# A group of many rows


@pytest.fixture(scope="module")
def giant_roots() -> dict[tuple[object, ...], Path]:
    """The roots of the fleets that `giant` has made, to be copied."""
    return {}


@pytest.fixture
def giant(world, giant_roots, tmp_path_factory):
    """A group of 3,000 events, ten of one time, in files of 100 in no order; one in `labelled` has a label."""

    def make(labelled: int, *changes: tuple[str, str]):
        made = world(*changes)
        root, kept = Path(made.config.storage.root), giant_roots.get((labelled, changes))
        if kept is None:
            put_giant(made, labelled)
            kept = giant_roots[labelled, changes] = tmp_path_factory.mktemp("giant") / "root"
            shutil.copytree(root, kept)
        else:
            shutil.copytree(kept, root, dirs_exist_ok=True)
        return made

    def put_giant(made, labelled: int) -> None:
        events, outcomes = [], []
        for n in range(3_000):
            at = CLOCK - timedelta(days=2) - timedelta(minutes=n // 10)
            row = made.event("a", 1, f"e{n * 7 % 3_000:04}", at, price=float(n), stock=1)
            label = float(n) if n % labelled == 0 else None
            events.append(row | {"sold": label})
            if label is not None:
                outcomes.append(made.outcome(row, label, at + timedelta(hours=1)))
        tables_of = [(events, tables.EVENTS)] + [(outcomes, tables.OUTCOMES)] * bool(made.config.kafka.outcomes)
        for rows, base in tables_of:
            order = np.random.default_rng(1).permutation(len(rows))
            for first in range(0, len(rows), 100):
                made.put(base, [rows[at] for at in order[first : first + 100]])
        if made.config.kafka.outcomes:
            made.sell("b", 1, 12, since=CLOCK - timedelta(days=3))

    return make


@pytest.fixture
def held(monkeypatch) -> list[int]:
    """How many rows were held after each batch of a read that may hold 200 and what it keeps."""
    found: list[int] = []
    whole = Selection.add

    def add(self: Selection, rows: pa.Table) -> None:
        whole(self, rows)
        found.append(self.held_rows)

    monkeypatch.setattr(first_rows_per_group, "HELD_ROWS", 200)
    monkeypatch.setattr(Selection, "add", add)
    return found


@pytest.mark.parametrize("labelled", [1, 3, 40, 150])
def test_of_a_giant_group_with_late_labels_no_more_than_a_few_windows_are_held(giant, held, labelled: int) -> None:
    made = giant(labelled)
    got = chosen(made.config, '["b","1"]', '["a","1"]')  # in another order than they are read
    pd.testing.assert_frame_equal(got, oracle(made, '["a","1"]', '["b","1"]'), check_dtype=False)
    assert len(got[got["group_key"] == '["a","1"]']) == min(30, 3_000 // labelled)
    assert len(held) > 30
    assert max(held) <= 200 + 100


def test_of_a_giant_group_with_labels_inside_no_more_than_a_few_windows_are_held(giant, held) -> None:
    made = giant(3, ('outcomes = "sold"', ""))
    got = chosen(made.config, '["a","1"]')
    events = pd.DataFrame(made.rows(tables.EVENTS)).dropna(subset=["sold"])
    expected = events.sort_values(["event_time", "event_id"]).tail(30)
    assert got["event_id"].tolist() == expected["event_id"].tolist()
    assert max(held) <= 200 + 100


@pytest.mark.parametrize("labelled", [1, 3, 40, 150])
def test_of_a_giant_parent_no_more_than_a_few_samples_are_held(giant, held, labelled: int) -> None:
    made = giant(labelled)
    got = chosen(made.config, BY_DEPT, ALL)
    pd.testing.assert_frame_equal(got, oracle(made, BY_DEPT, ALL), check_dtype=False)
    # Two parents have 160 candidates for their samples of 40, whose labels are looked for among twice as many; twice
    # what is kept is held, and a batch of 100.
    assert max(held) <= 2 * 2 * 160 + 100


def test_the_events_of_a_giant_group_are_all_counted_however_often_they_are_read(giant, held) -> None:
    made = giant(150)
    source = TrainingTables.of(
        FleetStore.of(made.config),
        made.config.recipe,
        delta.pin_versions(FleetStore.of(made.config), *READ),
        CLOCK.to_pydatetime(),
    )
    read = read_group_rows(source, pa.array(['["a","1"]', '["b","1"]']), ShardRange(0, 3))
    assert read.events.tolist() == [3_000, 12]
    assert read_parent_rows(source, [ALL], ShardRange(0, 3))[1].tolist() == [3_012]
    assert len(held) > 30
