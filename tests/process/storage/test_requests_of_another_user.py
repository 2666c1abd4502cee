"""A gateway of another user than the stream's asks for a group, by a folder that belongs to a group of both."""

from __future__ import annotations

import os
from datetime import UTC, datetime

import pytest
from another_user import open_folder, run_as_another_user, shared_group
from handwritten_history import fleet_toml

from spinney.core.config import parse
from spinney.core.errors import StoreError
from spinney.storage.layout import FleetStore
from spinney.storage.leases import held, is_held
from spinney.storage.retrain_requests import FOLDER, RetrainRequest, add_request, read_requests, remove_requests

REQUEST = RetrainRequest.new('["a","1"]', "ada", "overshoots", datetime(2024, 5, 1, tzinfo=UTC))


def test_the_stream_reads_and_deletes_a_request_that_another_user_wrote_and_that_user_knows_that_it_runs() -> None:
    with open_folder() as root:
        store = FleetStore.of(parse(fleet_toml(root), "fleet.toml", {}))
        folder = root / FOLDER
        folder.mkdir()
        os.chown(folder, -1, shared_group())
        folder.chmod(0o2770)
        with held(store, ["retrain"]):
            (root / "leases" / "retrain.lock").chmod(0o444)
            assert run_as_another_user(is_held, store, "retrain")
        assert not run_as_another_user(is_held, store, "retrain")
        assert run_as_another_user(add_request, store, REQUEST) == REQUEST
        (file,) = folder.iterdir()
        assert (file.stat().st_gid, file.stat().st_mode & 0o040) == (shared_group(), 0o040), "the stream's group reads"
        assert read_requests(store) == (REQUEST,)
        remove_requests(store, [REQUEST.id])
        assert list(folder.iterdir()) == []


def test_a_request_into_a_folder_of_the_streams_user_alone_is_an_error_that_says_what_to_do() -> None:
    with open_folder() as root:
        store = FleetStore.of(parse(fleet_toml(root), "fleet.toml", {}))
        (root / FOLDER).mkdir()
        (root / FOLDER).chmod(0o555)
        with pytest.raises(StoreError, match="expected a folder that this process may write to"):
            run_as_another_user(add_request, store, REQUEST)
