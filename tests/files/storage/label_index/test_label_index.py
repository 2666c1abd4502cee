"""Labels find their answers, however the rows are cut into batches and whatever is killed meanwhile."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import pytest
from example_counts import examples
from hypothesis import given
from hypothesis import strategies as st
from label_index import MINUTE_US, SHAPE, Row, expected_pairs, outcomes, pairs, predictions

from spinney.core.errors import Corrupt, UnknownFormat
from spinney.core.timestamps import from_microseconds
from spinney.storage.label_index.label_index import MANIFEST, LabelIndex, ReadThrough


def read(batch_id: int) -> ReadThrough:
    return ReadThrough("c", batch_id, [f"p{batch_id}", None])


class Stream:
    """A query that joins batches by an index in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.batch_id, self.found = folder, -1, []
        self.index = LabelIndex(folder, SHAPE)

    def batch(self, answers: Sequence[Row], labels: Sequence[Row], minute: int, *, kills: bool = False) -> None:
        """kills: before the index is stored; then the batch is repeated by another process."""
        made, observed = predictions(answers), self.index.with_first(*outcomes(labels))
        joined = pairs(self.index.join(made, observed))
        self.index.add(made, observed)
        if kills:
            self.reopen()
            self.batch(answers, labels, minute)
            return
        self.batch_id += 1
        self.index.store(read(self.batch_id), from_microseconds(minute * MINUTE_US))
        self.found += joined

    def reopen(self) -> None:
        index = LabelIndex.open(self.folder, SHAPE, read(self.batch_id))
        assert (index is None) == (self.batch_id < 0)
        self.index = index or LabelIndex(self.folder, SHAPE)


def rows_of(steps: list[tuple[int, list[int]]], sign: int) -> list[Row]:
    minute, found = 1_000, []
    for gap, events in steps:
        minute += gap
        found += [Row(event, minute, sign * float(len(found) + n)) for n, event in enumerate(events)]
    return found


ROWS = st.lists(st.tuples(st.integers(0, 50), st.lists(st.integers(0, 12), max_size=6)), max_size=12)
CUTS = st.lists(
    st.tuples(st.integers(0, 8), st.integers(0, 8), st.sampled_from(["goes on", "killed", "restarted"])), max_size=20
)


@examples(60)
@given(ROWS, ROWS, CUTS)
def test_what_is_joined_is_what_pandas_joins_however_it_is_cut_and_killed(first, second, cuts) -> None:
    answers, labels = rows_of(first, 1), rows_of(second, -1)
    with tempfile.TemporaryDirectory() as folder:
        stream, made, seen = Stream(Path(folder)), 0, 0
        for more_answers, more_labels, what in [*cuts, (len(answers), len(labels), "goes on")]:
            newest = (answers[made : made + more_answers], labels[seen : seen + more_labels])
            # A table without rows was read to its end: those that follow are not much older than the batch.
            later = [row.minute for row in (*answers[made:], *labels[seen:])]
            stream.batch(*newest, min(later, default=0), kills=what == "killed")
            if what == "restarted":
                stream.reopen()
            made, seen = made + more_answers, seen + more_labels
        assert sorted(stream.found) == expected_pairs(answers, labels)
        assert {file.name for file in Path(folder).glob("*.arrow")} == named_files(Path(folder))


def named_files(folder: Path) -> set[str]:
    runs = json.loads((folder / MANIFEST).read_text())["runs"]
    return {run["file"] for entries in runs.values() for run in entries}


def test_rows_that_nothing_can_be_joined_with_any_more_are_forgotten(tmp_path: Path) -> None:
    stream = Stream(tmp_path)
    for minute in range(0, 1_200, 10):
        stream.batch([Row(minute, minute, 1.0)], [Row(minute + 5, minute, 2.0)], minute)
    held = len(stream.index)
    # Predictions of an hour, outcomes of two, one each ten minutes; both ten minutes longer, and up to a slot.
    assert 20 <= held <= 24
    assert (
        sum(run["rows"] for runs in json.loads((tmp_path / MANIFEST).read_text())["runs"].values() for run in runs)
        == held
    )


def test_while_no_labels_come_predictions_are_kept_for_twice_the_horizon(tmp_path: Path) -> None:
    stream = Stream(tmp_path)
    for minute in range(0, 1_200, 10):
        stream.batch([Row(minute, minute, 1.0)], [], minute)
    assert 13 <= len(stream.index) <= 15
    stream.batch([], [Row(1_190, 1_199, 2.0)], 1_200)
    assert stream.found == [('["g2"]', 1.0, 2.0)]


def test_a_label_of_a_clock_that_was_set_back_still_finds_its_answer(tmp_path: Path) -> None:
    stream = Stream(tmp_path)
    stream.batch([Row(1, 100, 1.0)], [], 100)
    stream.batch([], [Row(7, 168, 2.0)], 168)
    stream.batch([], [Row(1, 159, 3.0)], 169)
    assert stream.found == [('["g1"]', 1.0, 3.0)]


def test_an_index_of_another_batch_checkpoint_or_horizon_is_not_opened(tmp_path: Path) -> None:
    Stream(tmp_path).batch([Row(1, 0, 1.0)], [], 0)
    assert len(LabelIndex.open(tmp_path, SHAPE, read(0)) or ()) == 1
    assert LabelIndex.open(tmp_path, SHAPE, read(1)) is None
    assert LabelIndex.open(tmp_path, SHAPE, ReadThrough("other", 0, ["p0", None])) is None
    assert LabelIndex.open(tmp_path, SHAPE, ReadThrough("c", 0, ["p1", None])) is None
    longer = type(SHAPE)(SHAPE.horizon + timedelta(minutes=1), SHAPE.answers, SHAPE.label)
    assert LabelIndex.open(tmp_path, longer, read(0)) is None
    assert LabelIndex.open(tmp_path / "elsewhere", SHAPE, read(0)) is None


@pytest.mark.parametrize("damage", ["cut manifest", "empty manifest", "cut run", "no run", "other run"])
def test_a_damaged_index_is_refused_as_such(tmp_path: Path, damage: str) -> None:
    Stream(tmp_path).batch([Row(1, 0, 1.0), Row(2, 0, 1.0)], [], 0)
    (run,) = tmp_path.glob("*.arrow")
    if damage == "cut manifest":
        (tmp_path / MANIFEST).write_bytes((tmp_path / MANIFEST).read_bytes()[:-9])
    elif damage == "empty manifest":
        (tmp_path / MANIFEST).write_text('{"format": 1}')
    elif damage == "cut run":
        run.write_bytes(run.read_bytes()[:-40])
    elif damage == "other run":
        Stream(tmp_path / "other").batch([Row(3, 0, 1.0)], [], 0)
        next((tmp_path / "other").glob("*.arrow")).replace(run)
    else:
        run.unlink()
    with pytest.raises(Corrupt, match=MANIFEST if "manifest" in damage else run.name):
        LabelIndex.open(tmp_path, SHAPE, read(0))


def test_an_index_of_a_later_version_is_refused(tmp_path: Path) -> None:
    Stream(tmp_path).batch([Row(1, 0, 1.0)], [], 0)
    file = tmp_path / MANIFEST
    file.write_text(json.dumps({**json.loads(file.read_text()), "format": 99}))
    with pytest.raises(UnknownFormat, match="upgrade Spinney"):
        LabelIndex.open(tmp_path, SHAPE, read(0))
