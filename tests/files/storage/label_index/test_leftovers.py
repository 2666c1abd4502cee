"""Files that a killed process left are removed before a new one needs their place on the disk."""

from __future__ import annotations

from pathlib import Path

import pytest
from label_index import SHAPE, Row, predictions

from spinney.core.timestamps import from_microseconds
from spinney.storage.label_index.label_index import LabelIndex, ReadThrough, remove_leftovers

READ = ReadThrough("c", 0, [])


@pytest.fixture
def stored(tmp_path: Path) -> set[str]:
    """The files of an index, beside which a killed process has left another one."""
    index = LabelIndex(tmp_path, SHAPE)
    index.add(predictions([Row(1, 0, 1.0)]), None)
    index.store(READ, from_microseconds(0))
    stored = names(tmp_path)
    index.add(predictions([Row(2, 0, 1.0)]), None)
    assert len(names(tmp_path)) == len(stored) + 1 == 2
    return stored


def names(folder: Path) -> set[str]:
    return {file.name for file in folder.glob("*.arrow")}


def test_opening_an_index_leaves_its_own_files_only(tmp_path: Path, stored: set[str]) -> None:
    index = LabelIndex.open(tmp_path, SHAPE, READ)
    assert (names(tmp_path), len(index or ())) == (stored, 1)


def test_leftovers_beside_an_index_of_any_batch_are_removed(tmp_path: Path, stored: set[str]) -> None:
    remove_leftovers(tmp_path)
    assert names(tmp_path) == stored


def test_without_a_manifest_every_file_is_a_leftover(tmp_path: Path, stored: set[str]) -> None:
    next(tmp_path.glob("manifest.json")).unlink()
    remove_leftovers(tmp_path)
    assert names(tmp_path) == set()
    remove_leftovers(tmp_path / "nowhere")
