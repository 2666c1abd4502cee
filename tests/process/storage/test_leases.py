from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
from pathlib import Path
from unittest.mock import Mock

import pytest

from spinney.core.errors import Busy, StoreError
from spinney.storage.layout import FleetStore
from spinney.storage.leases import held, is_held

HOLD = """
import sys
from spinney.storage.config_file import read_config
from spinney.storage.layout import FleetStore
from spinney.storage.leases import held

with held(FleetStore.of(read_config(sys.argv[1])), ["ingest", "score"]):
    print("held", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def holder(configured, tmp_path: Path):
    """Another process that holds the leases of ingest and score, until it is killed."""
    file = tmp_path / "fleet.toml"
    file.write_text(configured().text)
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(file)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_a_second_process_is_refused_with_the_holder_in_the_message(configured, holder) -> None:
    says = f"query score of fleet shops: another process runs it .pid {holder.pid}, lease "
    with pytest.raises(Busy, match=says), held(FleetStore.of(configured()), ["labels", "score"]):
        pytest.fail("two processes hold one lease")
    # What was taken before the refusal is given back.
    with held(FleetStore.of(configured()), ["labels"]):
        pass


def test_other_queries_and_other_fleets_are_free(configured, holder, tmp_path: Path) -> None:
    with (
        held(FleetStore.of(configured()), ["retrain"]),
        held(FleetStore.of(configured(root=str(tmp_path / "other"))), ["ingest"]),
    ):
        pass


def test_a_lease_ends_with_its_process_however_that_ends(configured, holder) -> None:
    holder.kill()
    holder.wait()
    with held(FleetStore.of(configured()), ["ingest"]):
        text = (Path(configured().storage.root) / "leases" / "ingest.holder").read_text()
        assert text == f"pid {os.getpid()}"


def test_an_error_inside_gives_the_lease_back(configured) -> None:
    with pytest.raises(ZeroDivisionError), held(FleetStore.of(configured()), ["ingest"]):
        _ = 1 / 0
    with held(FleetStore.of(configured()), ["ingest"]):
        pass


@pytest.mark.parametrize("change", ["name", "uri", "link"])
def test_one_root_has_one_lease_whatever_it_and_its_fleet_are_called(configured, tmp_path: Path, change: str) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "root")
    other = {
        "name": configured(('name = "shops"', 'name = "stores"')),
        "uri": configured(root=f"file://{tmp_path}/root"),
        "link": configured(root=str(tmp_path / "link")),
    }[change]
    with (
        held(FleetStore.of(configured()), ["ingest"]),
        pytest.raises(Busy, match="query ingest"),
        held(FleetStore.of(other), ["ingest"]),
    ):
        pytest.fail("two processes hold one lease")


def test_a_lease_that_a_migration_would_not_take_is_refused(configured) -> None:
    with (
        pytest.raises(ValueError, match="leases nobody: expected names of ALL_LEASES"),
        held(FleetStore.of(configured()), ["nobody"]),
    ):
        pass


def test_a_lease_whose_file_this_process_may_not_open_is_an_error_that_names_it(configured) -> None:
    store = FleetStore.of(configured())
    file = store.folder / "leases" / "retrain.lock"
    file.parent.mkdir(parents=True)
    file.symlink_to(file)  # fails as one of another user does, root's too
    with pytest.raises(StoreError, match=r"retrain.lock: expected a file that this process may read; got .*Error"):
        is_held(store, "retrain")


def test_a_file_system_without_locks_is_an_error_that_names_the_lease(configured, monkeypatch) -> None:
    store = FleetStore.of(configured())
    with held(store, ["retrain"]):
        pass
    monkeypatch.setattr(fcntl, "flock", Mock(side_effect=OSError(errno.ENOLCK, "No locks available")))
    with pytest.raises(StoreError, match=r"retrain.lock: expected .*No locks available"):
        is_held(store, "retrain")
