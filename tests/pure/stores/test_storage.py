from __future__ import annotations

from pathlib import Path

import pytest
from pyarrow import fs

from spinney.core.errors import StoreError
from spinney.stores.storage import filesystem


def test_a_path_is_on_this_machine_and_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store, path = filesystem("below/root")
    assert isinstance(store, fs.LocalFileSystem)
    assert path == str(tmp_path / "below" / "root")


def test_a_uri_finds_its_file_system(tmp_path: Path) -> None:
    store, path = filesystem(f"file://{tmp_path}/root")
    assert isinstance(store, fs.LocalFileSystem)
    assert path == f"{tmp_path}/root"


def test_a_uri_that_nobody_knows_is_refused_with_what_to_do() -> None:
    with pytest.raises(StoreError, match=r"storage.root: no file system for ftp://host/root .*give a path, or a URI"):
        filesystem("ftp://host/root")
