from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from spinney.core.errors import StoreError
from spinney.storage import atomic_files
from spinney.storage.atomic_files import create_file, local_folder, replace_file


def test_a_path_is_on_this_machine_and_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert local_folder("below/root") == tmp_path / "below" / "root"
    assert local_folder(f"file://{tmp_path}/root") == tmp_path / "root"


@pytest.mark.parametrize(
    "location", ["s3://bucket/shops", "ftp://host/root", "s3a:bucket", "/work/a%20b", "data/*.csv"]
)
def test_what_is_no_plain_path_is_refused_with_what_to_do(location: str) -> None:
    with pytest.raises(StoreError, match=r"expected a path without .*, or file:/// and such a path"):
        local_folder(location)


def test_a_file_is_made_once_and_whole_with_its_folder(tmp_path: Path) -> None:
    file = tmp_path / "a" / "b"
    assert create_file(file, b"first", atomic_files.OWNER_ONLY)
    assert not create_file(file, b"second")
    assert file.read_bytes() == b"first"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert os.listdir(file.parent) == ["b"]


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    replace_file(tmp_path / "a", b"first")
    replace_file(tmp_path / "a", b"second")
    assert (tmp_path / "a").read_bytes() == b"second"
    assert os.listdir(tmp_path) == ["a"]


@pytest.mark.parametrize("write", [create_file, replace_file])
def test_nobody_ever_sees_a_part_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write) -> None:
    """Killed before its bytes are on the disk, a file is as it was: absent, or the old one."""

    def killed(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", killed)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "a", b"bytes")
    assert not (tmp_path / "a").exists()
