from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest

from schemas import tables
from spinney.core.config import Config
from spinney.storage.layout import FleetStore
from spinney.storage.signing_key import KEY
from spinney.tables import lookup
from spinney.testing import fleet_in_memory, memory_fleet

EXAMPLE = Path(__file__).parents[3] / "examples" / "flights" / "fleet.toml"


@pytest.fixture(autouse=True)
def own_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(KEY, raising=False)


def folder_of(config: Config) -> Path:
    """The folder that was made for a fleet."""
    return FleetStore.of(config).folder.parent


@pytest.fixture
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in place of that in memory."""
    monkeypatch.setattr(memory_fleet, "MEMORY", tmp_path)
    monkeypatch.setattr(memory_fleet, "FREE_BYTES", 1)
    return tmp_path


def test_the_fleet_is_there_within_the_context_and_nothing_is_left_of_it(memory: Path) -> None:
    with fleet_in_memory(EXAMPLE) as config, fleet_in_memory(EXAMPLE) as other:
        store = FleetStore.of(config)
        assert folder_of(config).parent == memory
        assert {lookup.count_rows(store, base) for base in tables.ALL} == {0}
        assert folder_of(other) != folder_of(config)
    assert list(memory.iterdir()) == []


def test_nothing_is_left_of_it_after_a_test_that_fails(memory: Path) -> None:
    def fail() -> None:
        with fleet_in_memory(EXAMPLE):
            assert len(list(memory.iterdir())) == 1
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert list(memory.iterdir()) == []


def test_without_a_file_system_in_memory_it_is_in_the_temporary_folder(memory: Path, monkeypatch) -> None:
    monkeypatch.setattr(memory_fleet, "MEMORY", memory / "none")
    with fleet_in_memory(EXAMPLE) as config:
        assert folder_of(config).parent == Path(tempfile.gettempdir())
    assert not folder_of(config).exists()


def test_where_memory_is_short_it_is_in_the_temporary_folder_too(memory: Path, monkeypatch) -> None:
    free = shutil.disk_usage(memory).free
    monkeypatch.setattr(memory_fleet, "FREE_BYTES", 2 * free)
    with fleet_in_memory(EXAMPLE) as config:
        assert folder_of(config).parent == Path(tempfile.gettempdir())
