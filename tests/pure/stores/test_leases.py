from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from spinney.core.errors import Busy
from spinney.stores.leases import FOLDER, held

HOLD = """
import sys
from spinney.stores.files import read_config
from spinney.stores.leases import held

with held(read_config(sys.argv[1]), ["ingest", "score"]):
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


def test_a_second_process_is_refused_and_told_who_holds_it(configured, holder) -> None:
    says = f"query score of fleet shops: another process runs it .pid {holder.pid}, lease "
    with pytest.raises(Busy, match=says), held(configured(), ["labels", "score"]):
        pytest.fail("two processes hold one lease")
    # What was taken before the refusal is given back.
    with held(configured(), ["labels"]):
        pass


def test_other_queries_and_other_fleets_are_free(configured, holder, tmp_path: Path) -> None:
    with held(configured(), ["retrain"]), held(configured(root=str(tmp_path / "other")), ["ingest"]):
        pass


def test_a_lease_ends_with_its_process_however_that_ends(configured, holder) -> None:
    holder.kill()
    holder.wait()
    with held(configured(), ["ingest"]):
        text = (Path(configured().storage.root) / "leases" / "ingest.holder").read_text()
        assert text == f"pid {os.getpid()}"


def test_an_error_inside_gives_the_lease_back(configured) -> None:
    with pytest.raises(ZeroDivisionError), held(configured(), ["ingest"]):
        _ = 1 / 0
    with held(configured(), ["ingest"]):
        pass


def test_a_root_that_is_no_folder_needs_to_be_told_of_one(configured, tmp_path: Path, monkeypatch) -> None:
    config = configured(root="s3://bucket/shops")
    monkeypatch.delenv(FOLDER, raising=False)
    with pytest.raises(Busy, match="leases need a folder that locks; set SPINNEY_LEASES"), held(config, ["ingest"]):
        pass
    monkeypatch.setenv(FOLDER, str(tmp_path / "leases"))
    with held(config, ["ingest"]):
        assert (tmp_path / "leases" / "shops" / "ingest.lock").exists()
